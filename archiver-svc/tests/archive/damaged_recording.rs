//! Bytes that are not what the node hashed.

use crate::common::{self, Call, Node, Place, metric};
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
    node.send_all(&other.events).await;
    node.until_durable("other", other.last()).await;
    common::until(|| metric("recording_jobs_failed_total") >= 1.0).await;
    assert_eq!(node.durable.get("call-1"), None);
    assert!(!place.recording("call-1").exists());

    // The node still has it.
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}
