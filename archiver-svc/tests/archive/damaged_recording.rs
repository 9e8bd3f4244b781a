//! Bytes that are not what the node hashed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "panics are how a test fails, in its helpers too"
)]

use std::os::unix::fs::FileExt as _;

use archiver_svc::Options;
use service_kit::config::AudioFormat;

use crate::common::{Call, Node, Place, assert_rows, metric};
use voxray_proto::archive::event::Body;

#[tokio::test]
async fn a_recording_with_another_hash_is_counted_and_not_acknowledged() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let (call, other) = (Call::recorded("call-1", 6, 160), Call::unrecorded("other", 1));
    let mut damaged = call.events.clone();
    if let Some(Body::Audio(audio)) = &mut damaged[2].body {
        audio.pcm = audio.pcm.iter().map(|byte| byte ^ 1).collect();
    }

    node.send_all(&damaged).await;
    // The node still has it, and is asked for it.
    assert_eq!(node.until_closed().await.code(), tonic::Code::Aborted);
    assert!(metric("recording_jobs_failed_total") >= 1.0);
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&other.events).await;
    node.until_durable("other", other.last()).await;
    assert_eq!(node.durable.get("call-1"), None);
    assert!(!place.recording("call-1").exists());

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}

#[tokio::test]
async fn a_node_that_sends_the_same_nonsense_again_and_again_is_left_in_peace() {
    let place = Place::new();
    let archiver = place.start().await;
    let (mut call, other) = (Call::recorded("call-1", 6, 160), Call::unrecorded("other", 1));
    if let Some(Body::Ended(ended)) = call.events.last_mut().and_then(|event| event.body.as_mut()) {
        ended.pcm_sha256 = vec![0; 32];
    }
    for _ in 0..3 {
        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.events).await;
        assert_eq!(node.until_closed().await.code(), tonic::Code::Aborted);
    }

    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_received("call-1", call.last()).await;
    node.send_all(&other.events).await;
    node.until_durable("other", other.last()).await;

    assert_eq!(node.durable.get("call-1"), None);
    assert!(!place.recording("call-1").exists());
}

/// Changes a byte of the one file in the spool folder.
fn damage_spool(place: &Place) {
    let files = std::fs::read_dir(&place.config.archiver.spool_dir).unwrap();
    let is_spool = |file: &std::path::PathBuf| file.extension().is_some_and(|extension| extension == "spool");
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).filter(is_spool).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&files[0])
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1000).unwrap();
}

#[tokio::test]
async fn a_recording_that_changed_on_the_archivers_disk_is_sent_again_and_stored_as_it_was() {
    for format in [AudioFormat::Wav, AudioFormat::Flac] {
        let mut place = Place::new();
        place.config.recording.format = format;
        let archiver = place.start().await;
        let mut node = Node::connect(archiver.address, "n1").await;
        let call = Call::recorded("call-1", 6, 160);
        let (end, rest) = call.events.split_last().unwrap();

        node.send_all(rest).await;
        node.until_received("call-1", call.last() - 1).await;
        damage_spool(&place);
        node.send(end).await;

        assert_eq!(node.until_closed().await.code(), tonic::Code::Aborted);
        assert_eq!(node.durable.get("call-1"), None);
        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.events).await;
        node.until_durable("call-1", call.last()).await;
        assert_rows(&call, &archiver.rows("call-1").await);
        let stored = std::fs::read(place.recording("call-1").with_extension(format.extension())).unwrap();
        if format == AudioFormat::Wav {
            assert_eq!(stored, call.wav());
        }
    }
}

#[tokio::test]
async fn of_a_long_call_only_what_is_not_durable_is_sent_again_when_the_archivers_disk_has_changed_a_part() {
    let place = Place::new();
    let options = Options {
        folder_part_bytes: Some(64 * 1024),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 40, 1600);
    node.send_all(&call.events[..20]).await;
    node.until_durable("call-1", 9).await;
    let durable = node.durable["call-1"];
    node.until_received("call-1", 20).await;

    // The first part is there still, for its header: that is what changes.
    damage_spool(&place);
    node.send_all(&call.events[20..]).await;
    assert_eq!(node.until_closed().await.code(), tonic::Code::Aborted);
    let durable = node.durable["call-1"].max(durable);

    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
}
