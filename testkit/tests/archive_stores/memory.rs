//! What a running recording costs the archiver in memory, in parts as long as those of S3. In a process of its own: others
//! would be counted too.

use voxray_proto::archive::Event;
use voxray_testkit::heap::{self, Counting};

use crate::common::{Call, Node, Place};
use crate::{BUCKET, PART, key, options, s3_with_bucket, start, use_s3};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Set in the process that is measured.
const INSIDE: &str = "VOXRAY_TEST_ARCHIVER_MEMORY";
/// Calls at the same time: many times the uploaders.
const CALLS: usize = 32;
/// What one recording may take, bytes.
const LIMIT: isize = 256 * 1024;
/// Frames of a chunk: a second, 32 KiB.
const CHUNK: usize = 8192;
/// One whole part and some of the next.
const CHUNKS: usize = 200;

/// Stores these calls: all run at once, event by event, and end.
async fn run(node: &mut Node, script: &Call, ids: &[String]) {
    let to_all = async |node: &mut Node, event: &Event| {
        for id in ids {
            let session_id = id.clone();
            let event = event.clone();
            node.send(&Event { session_id, ..event }).await;
        }
        for id in ids {
            node.until_received(id, event.sequence).await;
        }
    };
    let (end, running) = script.events.split_last().unwrap();
    for event in running {
        to_all(node, event).await;
    }
    for id in ids {
        node.until_durable(id, (PART / (4 * CHUNK)) as u64).await;
    }
    to_all(node, end).await;
    for id in ids {
        node.until_durable(id, end.sequence).await;
    }
}

#[tokio::test]
async fn a_running_recording_takes_less_than_256_kib_with_parts_of_5_mib() {
    if std::env::var_os(INSIDE).is_none() {
        let child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "memory::a_running_recording_takes_less_than_256_kib_with_parts_of_5_mib",
                "--nocapture",
            ])
            .env(INSIDE, "1")
            .kill_on_drop(true)
            .output();
        let output = child.await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{said}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{errors}");
        return;
    }
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    // Nobody is held back: this measures what waits.
    place.config.recording.queue_cap = 2 * CALLS;
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let script = Call::recorded("script", CHUNKS, CHUNK);
    // Before this, a process grows for reasons of its own.
    run(&mut node, &script, &["warm".to_owned()]).await;

    let ids: Vec<_> = (0..CALLS).map(|call| format!("call-{call}")).collect();
    let before = heap::held();
    heap::forget_peak();
    run(&mut node, &script, &ids).await;
    let each = (heap::peak() - before) / CALLS.cast_signed();

    println!("{CALLS} running recordings in S3: {} KiB each at the most", each / 1024);
    assert!(each < LIMIT, "{each} bytes each");
    for id in &ids {
        assert!(s3.object(BUCKET, &key(id)).await.unwrap() == script.wav(), "{id}");
    }
}
