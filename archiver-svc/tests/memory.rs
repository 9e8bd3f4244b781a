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

#[tokio::test]
async fn two_hundred_running_recordings_take_less_than_256_kib_each() {
    let place = Place::new();
    let options = Options {
        folder_part_bytes: Some(64 * 1024),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));
    let mut node = Node::connect(archiver.address, "n1").await;
    let warm = Call::recorded("warm", CHUNKS, CHUNK);
    node.send_all(&warm.events).await;
    node.until_durable("warm", warm.last()).await;

    let before = resident();
    let mut peak = before;
    // One event of every call after the other: all of them run at once, and none is kept here.
    let script = Call::recorded("script", CHUNKS, CHUNK);
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

    let each = (peak - before) / CALLS as u64;
    println!("{CALLS} running recordings: {} KiB each at the most", each / 1024);
    assert!(each < LIMIT, "{each} bytes each");
    for id in &ids {
        node.until_durable(id, 8).await;
    }
}
