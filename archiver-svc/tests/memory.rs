//! What a running recording costs in memory. Alone in its process: it reads the size of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "panics are how a test fails, in its helpers too"
)]

mod common;

use archiver_svc::Options;
use common::{Call, Node, Place};

/// As many calls as a busy media node has.
const CALLS: usize = 200;
/// What one recording may take, bytes.
const LIMIT: u64 = 256 * 1024;
/// Frames of a chunk: 200 ms.
const CHUNK: usize = 1600;
/// Twelve seconds of each call, so that most have parts stored and all have one in the making.
const CHUNKS: usize = 60;

/// Memory of this process that is in use, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// All calls run at once, event by event. With `outage` the store refuses everything until they have been measured.
async fn run(outage: bool, chunks: usize) -> u64 {
    let mut place = Place::new();
    // Nobody is held back: this measures what waits, and each of them has something that does.
    place.config.recording.queue_cap = 2 * CALLS;
    let options = Options {
        folder_part_bytes: Some(64 * 1024),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));
    let mut node = Node::connect(archiver.address, "n1").await;
    let in_the_way = place.config.recording.folder.join("recordings/.open");
    if outage {
        std::fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
        std::fs::write(&in_the_way, "not a folder").unwrap();
    } else {
        let warm = Call::recorded("warm", chunks, CHUNK);
        node.send_all(&warm.events).await;
        node.until_durable("warm", warm.last()).await;
    }

    let before = resident();
    let mut peak = before;
    // One event of every call after the other: all of them run at once, and none is kept here.
    let script = Call::recorded("script", chunks, CHUNK);
    let ids: Vec<_> = (0..CALLS).map(|call| format!("call-{call}")).collect();
    let (_, running) = script.events.split_last().unwrap();
    for event in running {
        for id in &ids {
            let mut event = event.clone();
            event.session_id.clone_from(id);
            node.send(&event).await;
        }
        for id in &ids {
            node.until_received(id, event.sequence).await;
        }
        peak = peak.max(resident());
    }

    if outage {
        assert!(ids.iter().all(|id| !node.durable.contains_key(id)));
        std::fs::remove_file(&in_the_way).unwrap();
    }
    for id in &ids {
        node.until_durable(id, 8).await;
    }
    (peak - before) / CALLS as u64
}

#[tokio::test]
async fn two_hundred_running_recordings_take_less_than_256_kib_each_with_and_without_a_store() {
    for (outage, chunks) in [(false, CHUNKS), (true, CHUNKS / 2)] {
        let each = run(outage, chunks).await;
        let store = if outage { "without a store" } else { "with one" };
        println!(
            "{CALLS} running recordings {store}: {} KiB each at the most",
            each / 1024
        );
        assert!(each < LIMIT, "{store}: {each} bytes each");
    }
}
