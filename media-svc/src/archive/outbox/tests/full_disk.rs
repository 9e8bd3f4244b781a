//! A disk that takes nothing for a while: a limit on the size of files stands for it, which needs no rights. It is set for
//! a process of its own, because it holds for all of a process.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// Set in the process with the small disk: the folder it writes to.
const INSIDE: &str = "VOXRAY_TEST_SMALL_DISK";
/// Bytes that a file may have there.
const FILE_LIMIT: u64 = 60_000;

fn run_with_small_disk(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("env")
        .args(["--ignore-signal=XFSZ", "prlimit", &format!("--fsize={FILE_LIMIT}:")])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("archive::outbox::tests::full_disk::{test}"),
            "--nocapture",
        ])
        .env(INSIDE, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn enlarge_disk() {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Fsize, all).unwrap();
}

/// Adds audio until the disk is full; frames that were taken.
fn fill(session: &Arc<dyn ArchiveSession>) -> u64 {
    let mut frame = 0;
    loop {
        match session.append(audio(frame, 1_600)) {
            Ok(_) => frame += 1_600,
            Err(error) => {
                assert!(matches!(error, ArchiveError::Io(_)), "{error}");
                return frame;
            }
        }
    }
}

async fn takes_sessions(outbox: &Outbox) {
    let mut refusal = outbox.refusal();
    tokio::time::timeout(Duration::from_secs(30), refusal.wait_for(Option::is_none))
        .await
        .expect("there is room again, and the outbox refuses calls")
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_new_sessions_and_what_running_ones_said_is_written_when_there_is_room() {
    let Some(dir) = std::env::var_os(INSIDE) else {
        return run_with_small_disk(
            "a_full_disk_refuses_new_sessions_and_what_running_ones_said_is_written_when_there_is_room",
        );
    };
    let outbox = open(Path::new(&dir));
    let (a, b) = (session(&outbox, "a"), session(&outbox, "b"));
    a.append(started()).unwrap();
    b.append(started()).unwrap();
    let frames = fill(&a);
    let written = a.append(turn(0)).unwrap();
    // More lost audio in a row is one gap.
    assert!(a.append(audio(frames + 1_600, 1_600)).is_err());
    let next = a.append(turn(1)).unwrap();
    drop(b);

    let refused = ArchiveSink::open(&outbox, "c").map(drop).unwrap_err();
    assert!(
        matches!(&refused, ArchiveError::Disk { why } if why.contains("too large")),
        "{refused}"
    );
    assert!(outbox.shared.lock().pressure.is_on());
    enlarge_disk();
    takes_sessions(&outbox).await;

    assert!(ArchiveSink::open(&outbox, "c").is_ok());
    a.append(audio(frames + 3_200, 1_600)).unwrap();
    let end = a.append(ended()).unwrap();
    let events = read_all(&outbox).await;
    let of_a: Vec<&Event> = events.iter().filter(|event| event.session_id == "a").collect();
    let sequences: Vec<u64> = of_a.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=end).collect::<Vec<_>>());
    let body_of = |sequence: u64| of_a[usize::try_from(sequence).unwrap() - 1].body.clone();
    assert_eq!(
        body_of(written - 1),
        Some(Body::Audio(AudioChunk::default())),
        "the gap is marked"
    );
    assert_eq!(body_of(written), Some(turn(0)));
    assert_eq!(body_of(next), Some(turn(1)));
    assert_eq!(body_of(end - 1), Some(audio(frames + 3_200, 1_600)));
    let of_b: Vec<&Event> = events.iter().filter(|event| event.session_id == "b").collect();
    assert_eq!(
        reason_of(of_b.last().unwrap()),
        Some("call_failed"),
        "an end waits for the disk too"
    );
}

#[tokio::test]
async fn a_node_that_starts_on_a_full_disk_ends_what_was_cut_off_when_there_is_room() {
    let Some(dir) = std::env::var_os(INSIDE) else {
        return run_with_small_disk("a_node_that_starts_on_a_full_disk_ends_what_was_cut_off_when_there_is_room");
    };
    let outbox = open(Path::new(&dir));
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    flushed(&outbox).await;
    let crashed = copy_of(Path::new(&dir));
    let none = Rlimit {
        current: Some(4),
        ..getrlimit(Resource::Fsize)
    };
    setrlimit(Resource::Fsize, none).unwrap();

    let restarted = open(crashed.path());
    assert!(matches!(ArchiveSink::check(&restarted), Err(ArchiveError::Disk { .. })));
    enlarge_disk();
    takes_sessions(&restarted).await;

    let events = read_all(&restarted).await;
    assert_eq!(reason_of(events.last().unwrap()), Some("node_restarted"));
}

#[tokio::test]
async fn a_node_whose_last_record_is_torn_starts_on_a_full_disk() {
    let Some(dir) = std::env::var_os(INSIDE) else {
        return run_with_small_disk("a_node_whose_last_record_is_torn_starts_on_a_full_disk");
    };
    let outbox = open(Path::new(&dir));
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    let whole = std::fs::metadata(super::super::segment_path(Path::new(&dir), 1))
        .unwrap()
        .len();
    a.append(audio(0, 1_600)).unwrap();
    flushed(&outbox).await;
    let crashed = copy_of(Path::new(&dir));
    let segment = super::super::segment_path(crashed.path(), 1);
    let torn = std::fs::metadata(&segment).unwrap().len() - 3;
    std::fs::File::options()
        .write(true)
        .open(&segment)
        .unwrap()
        .set_len(torn)
        .unwrap();
    let none = Rlimit {
        current: Some(4),
        ..getrlimit(Resource::Fsize)
    };
    setrlimit(Resource::Fsize, none).unwrap();

    let restarted = open(crashed.path());

    assert!(matches!(ArchiveSink::check(&restarted), Err(ArchiveError::Disk { .. })));
    assert_eq!(
        std::fs::metadata(&segment).unwrap().len(),
        whole,
        "only what is torn is cut off"
    );
    enlarge_disk();
    takes_sessions(&restarted).await;
    let events = read_all(&restarted).await;
    assert_eq!(names(&events), [("a", 1), ("a", 2)]);
    assert_eq!(events[0].body, Some(started()));
    assert_eq!(reason_of(&events[1]), Some("node_restarted"));
}
