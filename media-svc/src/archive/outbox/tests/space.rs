//! When space is refused, and when it comes back.

use super::*;

fn segments(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "seg"))
        .count()
}

/// Waits until what was acknowledged is deleted.
async fn deleted(outbox: &Outbox) {
    let shared = Arc::clone(&outbox.shared);
    let mut progress = outbox.progress();
    loop {
        progress.mark_unchanged();
        let left = shared.lock().index.bytes();
        let files: u64 = std::fs::read_dir(&shared.dir)
            .unwrap()
            .filter_map(|entry| {
                let entry = entry.unwrap();
                let is_segment = entry.path().extension().is_some_and(|x| x == "seg");
                is_segment.then(|| entry.metadata().map_or(0, |m| m.len()))
            })
            .sum();
        if files == left {
            return;
        }
        outbox.flush_now();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_durable_leaves_nothing_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    a.append(ended()).unwrap();
    assert!(outbox.used_bytes() > 0);
    outbox.acknowledge("a", 2);
    assert_eq!(outbox.used_bytes(), 0);
    deleted(&outbox).await;
    assert_eq!(segments(dir.path()), 0);
    assert_eq!(outbox.progress().borrow().undurable_events, 0);
}

#[tokio::test]
async fn sessions_become_durable_in_any_order_and_a_segment_goes_with_its_last() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let (a, b) = (session(&outbox, "a"), session(&outbox, "b"));
    a.append(started()).unwrap();
    for chunk in 0..64 {
        b.append(audio(chunk * 65_536, 65_536)).unwrap();
    }
    b.append(ended()).unwrap();
    a.append(ended()).unwrap();
    flushed(&outbox).await;
    assert_eq!(segments(dir.path()), 3);
    outbox.acknowledge("b", 65);
    deleted(&outbox).await;
    // The middle one held b alone; the first and the last hold a.
    assert_eq!(segments(dir.path()), 2);
    outbox.acknowledge("a", 1);
    deleted(&outbox).await;
    assert_eq!(segments(dir.path()), 1);
    outbox.acknowledge("a", 2);
    deleted(&outbox).await;
    assert_eq!(segments(dir.path()), 0);
}

#[tokio::test]
async fn an_open_session_keeps_its_newest_event_although_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    outbox.acknowledge("a", 1);
    flushed(&outbox).await;
    let crashed = copy_of(dir.path());
    let restarted = open(crashed.path());
    let events = read_all(&restarted).await;
    assert_eq!(events.last().map(|e| e.sequence), Some(2));
    assert_eq!(reason_of(events.last().unwrap()), Some("node_restarted"));
}

#[tokio::test]
async fn a_restarted_node_does_not_send_again_what_was_known_to_be_durable() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let (a, b) = (session(&outbox, "a"), session(&outbox, "b"));
    for handle in [&a, &b] {
        handle.append(started()).unwrap();
        handle.append(turn(0)).unwrap();
        handle.append(ended()).unwrap();
    }
    outbox.acknowledge("a", 3);
    outbox.acknowledge("b", 1);
    drop((a, b, outbox));
    let events = read_all(&open(dir.path())).await;
    assert_eq!(names(&events), [("b", 2), ("b", 3)]);
}

#[tokio::test]
async fn a_session_whose_end_is_durable_and_deleted_is_not_ended_again() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let (a, b) = (session(&outbox, "a"), session(&outbox, "b"));
    a.append(started()).unwrap();
    b.append(started()).unwrap();
    for chunk in 0..40 {
        a.append(audio(chunk * 65_536, 65_536)).unwrap();
    }
    a.append(ended()).unwrap();
    outbox.acknowledge("a", 42);
    deleted(&outbox).await;
    drop(a);
    let crashed = copy_of(dir.path());
    // What b still needs keeps a's first events on disk, not its last ones.
    let events = read_all(&open(crashed.path())).await;
    assert_eq!(names(&events), [("b", 1), ("b", 2)]);
}

#[tokio::test]
async fn a_full_outbox_refuses_new_sessions_then_running_ones_but_never_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let outbox = Outbox::open(&settings(dir.path(), limit)).unwrap();
    let a = session(&outbox, "a");
    let mut frame = 0;
    let refused = loop {
        match a.append(audio(frame, 4_096)) {
            Ok(_) => frame += 4_096,
            Err(error) => break error,
        }
    };
    let used = outbox.used_bytes();
    assert!(used > limit && used <= limit + limit / 8, "{used}");
    assert!(matches!(refused, ArchiveError::Full { .. }));
    assert!(refused.to_string().contains("the archiver is not acknowledging"));
    assert!(matches!(
        ArchiveSink::open(&outbox, "b"),
        Err(ArchiveError::Full { .. })
    ));
    let end = a.append(ended()).unwrap();
    outbox.acknowledge("a", end);
    assert!(ArchiveSink::open(&outbox, "b").is_ok());
}

#[tokio::test]
async fn an_acknowledgement_beyond_what_was_written_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    outbox.acknowledge("a", u64::MAX);
    outbox.acknowledge("stranger", 7);
    a.append(turn(0)).unwrap();
    assert_eq!(names(&read_all(&outbox).await), [("a", 2)]);
}

#[tokio::test]
async fn the_age_of_the_oldest_event_is_kept_in_bounded_memory_through_a_long_outage() {
    let mut index = super::super::index::Index::default();
    let id: Arc<str> = "a".into();
    index.open(&id);
    index.add_segment(1, 8);
    for sequence in 1..=100_000 {
        index.add(1, &id, sequence, sequence, 1, sequence * 1_000);
    }
    assert_eq!(index.oldest_undurable_ms(), Some(1_000));
    index.acknowledge("a", 50_000);
    let oldest = index.oldest_undurable_ms().unwrap();
    assert!(oldest <= 50_001_000 && oldest > 40_000_000, "{oldest}");
    index.acknowledge("a", 100_000);
    assert_eq!(index.oldest_undurable_ms(), None);
}
