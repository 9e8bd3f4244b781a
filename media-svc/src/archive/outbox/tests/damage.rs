//! What is left after a crash or a bad disk.

use std::cell::RefCell;
use std::sync::Once;

use proptest::prelude::*;

use super::*;

/// A folder with one segment of a few events, and where each record ends.
fn small_log() -> (TempDir, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let (a, b) = (session(&outbox, "a"), session(&outbox, "b"));
    let mut ends = vec![super::super::record::MAGIC.len()];
    for (handle, body) in [
        (&a, started()),
        (&b, started()),
        (&a, audio(0, 8)),
        (&b, turn(0)),
        (&a, ended()),
        (&b, ended()),
    ] {
        handle.append(body).unwrap();
        ends.push(usize::try_from(outbox.used_bytes()).unwrap());
    }
    let bytes = std::fs::read(first_segment(dir.path())).unwrap();
    drop((a, b, outbox));
    (dir, bytes, ends)
}

fn first_segment(dir: &Path) -> std::path::PathBuf {
    super::super::segment_path(dir, 1)
}

fn folder_with(bytes: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(first_segment(dir.path()), bytes).unwrap();
    dir
}

/// Events of the first `whole` records, in order, and an end for each session that had begun and not ended.
fn check_recovered(events: &[Event], original: &[Event], whole: usize) {
    let (kept, added) = events.split_at(whole);
    assert_eq!(kept, &original[..whole]);
    for event in added {
        assert_eq!(reason_of(event), Some("node_restarted"));
    }
    for id in ["a", "b"] {
        let sequences: Vec<u64> = events
            .iter()
            .filter(|e| e.session_id == id)
            .map(|e| e.sequence)
            .collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
        let ends = events
            .iter()
            .filter(|e| e.session_id == id && reason_of(e).is_some())
            .count();
        assert_eq!(ends, usize::from(!sequences.is_empty()));
    }
}

#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_every_whole_record() {
    let (dir, bytes, ends) = small_log();
    let original = read_all(&open(dir.path())).await;
    for cut in 0..=bytes.len() {
        let dir = folder_with(&bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        let events = read_all(&open(dir.path())).await;
        check_recovered(&events, &original, whole);
    }
}

#[tokio::test]
async fn a_recovered_log_is_sound_when_opened_again() {
    let (_dir, bytes, ends) = small_log();
    let dir = folder_with(&bytes[..ends[4] + 5]);
    let first = read_all(&open(dir.path())).await;
    let second = read_all(&open(dir.path())).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_damaged_tail_is_set_aside_byte_for_byte() {
    let (_dir, mut bytes, ends) = small_log();
    bytes[ends[2] + 10] ^= 0x40;
    let dir = folder_with(&bytes);
    let _outbox = open(dir.path());
    let aside = dir.path().join(format!("{:016}.damaged-at-{}", 1, ends[2]));
    assert_eq!(std::fs::read(aside).unwrap(), &bytes[ends[2]..]);
}

/// What was logged, and the events that are left.
async fn opened(dir: &Path) -> (String, Vec<Event>) {
    let mut outbox = None;
    let said = logged(|| outbox = Some(open(dir)));
    (said, read_all(&outbox.unwrap()).await)
}

/// What this thread logs meanwhile.
pub(super) fn logged(work: impl FnOnce()) -> String {
    // One subscriber for the whole process: with one a thread, whichever test logs first decides for all of them
    // whether a line is wanted.
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    LOGGED.take();
    work();
    String::from_utf8(LOGGED.take()).unwrap()
}

thread_local! {
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what this thread logs.
struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn damage_at_any_byte_is_reported_with_file_and_offset_and_what_stands_before_it_is_kept() {
    let (dir, bytes, ends) = small_log();
    let original = read_all(&open(dir.path())).await;
    let file = first_segment(Path::new("")).display().to_string();
    for place in 0..bytes.len() {
        let (mut flipped, mut cut) = (bytes.clone(), bytes.clone());
        flipped[place] ^= 0x10;
        cut.truncate(place);
        let before = ends.iter().filter(|end| **end <= place).count().saturating_sub(1);
        let offset = ends.iter().rev().find(|end| **end <= place).copied().unwrap_or(0);
        for damaged in [flipped, cut] {
            let whole = ends.contains(&damaged.len()) && damaged == bytes[..damaged.len()];
            let (said, events) = opened(folder_with(&damaged).path()).await;
            check_recovered(&events, &original, before);
            let reported = said.contains(&file) && said.contains(&format!("offset={offset} "));
            assert_eq!(reported, !whole, "byte {place}: {said}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_set_aside_whole() {
    let dir = folder_with(b"something else entirely");
    let outbox = open(dir.path());
    assert_eq!(read_all(&outbox).await, []);
    let aside = dir.path().join(format!("{:016}.damaged-at-0", 1));
    assert_eq!(std::fs::read(aside).unwrap(), b"something else entirely");
}

#[tokio::test]
async fn damage_in_the_middle_of_a_session_leaves_place_holders_so_that_the_rest_can_be_archived() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    for chunk in 0..40 {
        a.append(audio(chunk * 65_536, 65_536)).unwrap();
    }
    a.append(ended()).unwrap();
    flushed(&outbox).await;
    let crashed = copy_of(dir.path());
    let path = first_segment(crashed.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let events = read_all(&open(crashed.path())).await;
    assert_eq!(names(&events), (1..=42).map(|s| ("a", s)).collect::<Vec<_>>());
    assert!(
        events
            .iter()
            .any(|event| event.body == Some(Body::Audio(AudioChunk::default())))
    );
    assert_eq!(reason_of(&events[41]), Some("caller_hung_up"));
    assert_eq!(events[40].body, Some(audio(39 * 65_536, 65_536)));
}

/// A file of other calls, and behind them the beginning of `a`, which goes on in the next one; where `a` begins.
async fn two_files_with_a_beginning_at_the_end_of_the_first() -> (TempDir, usize) {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let b = session(&outbox, "b");
    b.append(started()).unwrap();
    for chunk in 0..28 {
        b.append(audio(chunk * 65_536, 65_536)).unwrap();
    }
    b.append(ended()).unwrap();
    let begins = usize::try_from(outbox.used_bytes()).unwrap();
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    for chunk in 0..8 {
        a.append(audio(chunk * 65_536, 65_536)).unwrap();
        a.append(turn(u32::try_from(chunk).unwrap())).unwrap();
    }
    a.append(ended()).unwrap();
    flushed(&outbox).await;
    (copy_of(dir.path()), begins)
}

#[tokio::test]
async fn of_a_session_whose_beginning_is_damaged_nothing_is_said_to_be_durable_and_its_later_turns_can_be_archived() {
    let (dir, begins) = two_files_with_a_beginning_at_the_end_of_the_first().await;
    let path = first_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[begins + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let (said, events) = opened(dir.path()).await;

    assert_eq!(said.matches("the beginning of a session is lost").count(), 1, "{said}");
    let of_a: Vec<&Event> = events.iter().filter(|event| event.session_id == "a").collect();
    let sequences: Vec<u64> = of_a.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=18).collect::<Vec<_>>());
    assert!(of_a.iter().all(|event| event.durable == 0));
    let Some(Body::Started(start)) = &of_a[0].body else {
        panic!("{:?}", of_a[0])
    };
    assert!(start.recording.is_none() && start.started_at_unix_ms > 1_700_000_000_000);
    assert!(!of_a.iter().any(|event| matches!(event.body, Some(Body::Audio(_)))));
    let turns = of_a.iter().filter_map(|event| match &event.body {
        Some(Body::Turn(turn)) => Some(turn.seq),
        _ => None,
    });
    let turns: Vec<u32> = turns.collect();
    assert!(!turns.is_empty() && turns.len() < 8, "{turns:?}");
    assert_eq!(turns, (8 - u32::try_from(turns.len()).unwrap()..8).collect::<Vec<_>>());
    assert_eq!(reason_of(of_a[17]), Some("caller_hung_up"));
    let again = opened(dir.path()).await;
    assert_eq!((again.0.as_str().contains("ERROR"), again.1), (false, events));
}

#[tokio::test]
async fn without_the_watermarks_a_session_that_begins_in_the_middle_may_be_durable_up_to_there() {
    let (dir, begins) = two_files_with_a_beginning_at_the_end_of_the_first().await;
    let path = first_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[begins + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(dir.path().join("watermarks"), b"VOXOUT1\n\xff\xff\xff\xff junk").unwrap();

    let events = read_all(&open(dir.path())).await;

    let first = events.iter().find(|event| event.session_id == "a").unwrap();
    assert!(first.sequence > 1 && first.durable == first.sequence - 1, "{first:?}");
}

#[tokio::test]
async fn a_file_that_a_crash_left_before_anything_was_in_it_is_no_damage() {
    let (_dir, bytes, _) = small_log();
    for begun in 0..8 {
        let dir = folder_with(&bytes[..begun]);
        let (said, events) = opened(dir.path()).await;
        assert!(said.contains(" WARN ") && !said.contains("ERROR"), "{said}");
        assert_eq!(events, []);
        assert_eq!(opened(dir.path()).await.0, "");
    }
}

#[tokio::test]
async fn watermarks_that_cannot_be_read_only_cost_sending_again() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    a.append(ended()).unwrap();
    outbox.acknowledge("a", 1);
    drop((a, outbox));
    std::fs::write(dir.path().join("watermarks"), b"VOXOUT1\n\xff\xff\xff\xff junk").unwrap();
    assert_eq!(names(&read_all(&open(dir.path())).await), [("a", 1), ("a", 2)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_bits_lose_at_most_what_stands_behind_them(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u8..8), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (dir, mut bytes, ends) = small_log();
            let original = read_all(&open(dir.path())).await;
            let mut clean = bytes.clone();
            for (place, bit) in &flips {
                let place = place.index(bytes.len());
                bytes[place] ^= 1 << bit;
            }
            // Two flips may undo each other.
            let first = clean.iter().zip(&bytes).position(|(a, b)| a != b).unwrap_or(bytes.len());
            clean.truncate(first);
            let whole = if first == bytes.len() { ends.len() - 1 } else {
                ends.iter().filter(|end| **end <= first).count().saturating_sub(1)
            };
            let events = read_all(&open(folder_with(&bytes).path())).await;
            check_recovered(&events, &original, whole);
        });
    }

    #[test]
    fn any_bytes_at_all_can_be_opened(junk in proptest::collection::vec(any::<u8>(), 0..600), with_magic: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bytes = if with_magic { super::super::record::MAGIC.to_vec() } else { Vec::new() };
            bytes.extend(junk);
            let dir = folder_with(&bytes);
            let outbox = open(dir.path());
            session(&outbox, "a").append(ended()).unwrap();
            let events = read_all(&outbox).await;
            assert_eq!(names(&events), [("a", 1)]);
        });
    }
}

/// Set for the process that is going to be killed: the folder it writes to.
const VICTIM: &str = "VOXRAY_TEST_OUTBOX_VICTIM";

#[tokio::test]
async fn a_process_killed_while_writing_loses_nothing_it_was_told_is_written() {
    if let Ok(dir) = std::env::var(VICTIM) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "archive::outbox::tests::damage::a_process_killed_while_writing_loses_nothing_it_was_told_is_written";
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VICTIM, dir.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(victim.stdout.take().unwrap()));
    let mut written = 0;
    while written < 2_000 {
        let line = lines.next().unwrap().unwrap();
        written = line.strip_prefix("written ").map_or(written, |n| n.parse().unwrap());
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    // What it said between the last look and the kill counts as well.
    for line in lines.map_while(Result::ok) {
        written = line
            .strip_prefix("written ")
            .and_then(|n| n.parse().ok())
            .unwrap_or(written);
    }
    let events = read_all(&open(dir.path())).await;
    assert!(events.len() as u64 > written, "{} of {written}", events.len());
    assert_eq!(
        names(&events),
        (1..=events.len() as u64).map(|s| ("a", s)).collect::<Vec<_>>()
    );
    assert_eq!(reason_of(events.last().unwrap()), Some("node_restarted"));
}

fn write_until_killed(dir: &Path) -> ! {
    let outbox = open(dir);
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    for chunk in 0.. {
        let sequence = a.append(audio(chunk * 1_600, 1_600)).unwrap();
        println!("written {sequence}");
    }
    unreachable!()
}

#[tokio::test]
async fn what_was_set_aside_of_a_damaged_file_is_kept_for_a_month_and_then_deleted() {
    let (_dir, bytes, ends) = small_log();
    let dir = folder_with(&bytes[..ends[4] + 5]);
    drop(open(dir.path()));
    let aside = super::super::aside::path(dir.path(), 1, ends[4] as u64);
    assert_eq!(std::fs::read(&aside).unwrap(), bytes[ends[4]..ends[4] + 5]);
    let age = |age| {
        let file = std::fs::File::options().write(true).open(&aside).unwrap();
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
    };
    let (month, day) = (
        super::super::aside::KEPT_FOR,
        std::time::Duration::from_secs(24 * 60 * 60),
    );

    age(month - day);
    drop(open(dir.path()));
    assert!(aside.exists());
    age(month + day);
    drop(open(dir.path()));
    assert!(!aside.exists());
}

/// An outbox with more than one segment, and the last sequence in it.
async fn two_segments(dir: &Path) -> (Outbox, u64) {
    let outbox = open(dir);
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    // 40 chunks of 256 KB.
    for chunk in 0..40 {
        a.append(audio(chunk * 65_536, 65_536)).unwrap();
    }
    a.append(ended()).unwrap();
    flushed(&outbox).await;
    (outbox, 42)
}

fn read_sequences(reader: &mut super::super::Reader) -> Vec<u64> {
    let mut sequences = Vec::new();
    loop {
        let events = reader.read();
        if events.is_empty() {
            return sequences;
        }
        sequences.extend(events.iter().map(|event| event.sequence));
    }
}

#[tokio::test]
async fn a_file_that_changes_under_an_open_outbox_is_read_up_to_there_and_what_follows_it_is_sent() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (outbox, last) = two_segments(dir.path()).await;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(first_segment(dir.path()))
        .unwrap();
    let (place, mut byte) = (3 << 20, [0]);
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[!byte[0]], place).unwrap();

    let mut reader = outbox.reader();
    let sequences = read_sequences(&mut reader);

    // The start and 11 chunks of 256 KiB stand before that place; some 30 are in the first file.
    assert!(!reader.is_held_up());
    assert_eq!(sequences[..12], (1..=12).collect::<Vec<_>>());
    assert!(!sequences.contains(&13));
    assert_eq!(sequences.last(), Some(&last));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_for_a_while_is_waited_for_and_nothing_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, last) = two_segments(dir.path()).await;
    let (file, elsewhere) = (first_segment(dir.path()), dir.path().join("elsewhere"));
    std::fs::rename(&file, &elsewhere).unwrap();
    // A link to itself: whoever opens it is told of too many links.
    std::os::unix::fs::symlink(&file, &file).unwrap();

    let mut reader = outbox.reader();
    for _ in 0..3 {
        assert!(reader.read().is_empty());
        assert!(reader.is_held_up());
    }
    std::fs::rename(&elsewhere, &file).unwrap();

    assert_eq!(read_sequences(&mut reader), (1..=last).collect::<Vec<_>>());
    assert!(!reader.is_held_up());
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_for_long_does_not_hold_up_the_others_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, last) = two_segments(dir.path()).await;
    let file = first_segment(dir.path());
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();

    let mut reader = outbox.reader();
    let mut tries = 0;
    let events = loop {
        let events = reader.read();
        if !events.is_empty() {
            break events;
        }
        tries += 1;
        assert!(tries < 1000);
    };

    assert!(events[0].sequence > 1 && read_sequences(&mut reader).last() == Some(&last));
}
