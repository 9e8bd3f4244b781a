//! Uploaders with a folder in which some places are taken.

use std::time::Duration;

use service_kit::tasks::TaskScope;

use super::super::{Assembly, Facts, Format, SpoolDir};
use super::*;
use crate::ingest::Nodes;
use crate::metrics::KindCounts;

/// A short recording that has ended.
fn ended(spools: &Arc<SpoolDir>, key: &str) -> Job {
    let format = Format {
        sample_rate_hz: 8000,
        channels: 1,
    };
    let facts = Facts {
        session_id: "test".to_owned(),
        transport: String::new(),
        provider: String::new(),
        started_at_unix_ms: 0,
    };
    let assembly = Assembly::new(spools.file("test"), format, None);
    let live = Live::new(facts, key.to_owned(), assembly);
    live.assembly().append(2, KindCounts::default(), &[1; 320]).unwrap();
    let file = live.assembly().finish().unwrap();
    let end = End {
        file,
        last: Some(3),
        complete: true,
    };
    Job::new(Arc::new(live), Task::Finish(end), None)
}

#[tokio::test(start_paused = true)]
async fn recordings_that_cannot_be_stored_do_not_hold_up_the_one_that_can() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RecordingStore::test(&dir.path().join("recordings")).await);
    let spools = SpoolDir::open(&dir.path().join("spool")).unwrap_or_else(|fatal| panic!("{fatal}"));
    std::fs::write(dir.path().join("recordings/taken"), "not a folder").unwrap();
    let queue = Arc::new(UploadQueue::new(8));
    for n in 0..4 {
        queue.push(ended(&spools, &format!("taken/{n}.wav"))).await;
    }
    let scope = TaskScope::root("test");
    let register = Register {
        transcripts: None,
        recordings: Some(Arc::clone(&store)),
    };
    let uploader = run_uploader(store, register, Arc::clone(&queue), 100, Shutdown::new());
    let _uploader = scope.spawn_owned("uploader", uploader);
    // Long enough for each of them to have failed often: now every wait is the longest.
    tokio::time::sleep(Duration::from_secs(120)).await;

    let begun = Instant::now();
    queue.push(ended(&spools, "free/good.wav")).await;
    while !dir.path().join("recordings/free/good.wav").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_node_left_is_tried_until_it_works_while_the_archiver_drains_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RecordingStore::test(&dir.path().join("recordings")).await);
    let spools = SpoolDir::open(&dir.path().join("spool")).unwrap_or_else(|fatal| panic!("{fatal}"));
    let in_the_way = dir.path().join("recordings/taken");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let queue = Arc::new(UploadQueue::new(8));
    queue.push(ended(&spools, "taken/call.wav")).await;
    queue.close();
    let register = Register {
        transcripts: None,
        recordings: Some(Arc::clone(&store)),
    };
    let shutdown = Shutdown::new();
    shutdown.request();
    let uploader = run_uploader(store, register, Arc::clone(&queue), 3, shutdown);
    tokio::pin!(uploader);

    let tried = tokio::time::timeout(Duration::from_secs(60), &mut uploader).await;
    assert!(tried.is_err(), "given up");
    std::fs::remove_file(&in_the_way).unwrap();
    uploader.await;

    assert!(dir.path().join("recordings/taken/call.wav").exists());
}

#[tokio::test(start_paused = true)]
async fn a_drain_keeps_trying_with_what_a_node_ended_that_is_gone_and_leaves_the_rest_to_nodes_that_send_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(RecordingStore::test(&dir.path().join("recordings")).await);
    let spools = SpoolDir::open(&dir.path().join("spool")).unwrap_or_else(|fatal| panic!("{fatal}"));
    let in_the_way = dir.path().join("recordings/taken");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let nodes = Nodes::new(Duration::from_secs(30), Arc::default());
    let gone = nodes.attach("gone").node.clone();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let stays = nodes.attach("stays");
    let queue = Arc::new(UploadQueue::new(8));
    for (key, node) in [("taken/gone.wav", &gone), ("taken/stays.wav", &stays.node)] {
        let delivery = Delivery::new(node, "test".to_owned());
        let mut job = ended(&spools, key);
        job.delivery = Some(delivery);
        queue.push(job).await;
    }
    queue.close();
    let register = Register {
        transcripts: None,
        recordings: Some(Arc::clone(&store)),
    };
    let shutdown = Shutdown::new();
    shutdown.request();
    let uploader = run_uploader(store, register, Arc::clone(&queue), 3, shutdown);
    tokio::pin!(uploader);

    let tried = tokio::time::timeout(Duration::from_secs(60), &mut uploader).await;
    assert!(tried.is_err(), "given up");
    drop(stays);
    std::fs::remove_file(&in_the_way).unwrap();
    uploader.await;

    assert!(dir.path().join("recordings/taken/gone.wav").exists());
    assert!(!dir.path().join("recordings/taken/stays.wav").exists());
}

#[test]
fn a_disk_without_room_passes_and_bytes_that_changed_are_asked_for_again() {
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let different = ObjectError::Different { key: String::new() };
    for (error, expected) in [
        (ObjectError::File(full()), Verdict::TryAgain),
        (ObjectError::Encode(EncodeError::File(full())), Verdict::TryAgain),
        (ObjectError::Encode(EncodeError::Opus(String::new())), Verdict::Never),
        (ObjectError::Damaged("a file"), Verdict::BeginAgain),
        (different, Verdict::Never),
    ] {
        let text = error.to_string();
        assert_eq!(verdict(&UploadError::Object(error)), expected, "{text}");
    }
}
