//! Events without a body, or with one of a kind that only a newer node knows: they take their place and are passed over.

use voxray_proto::archive::Event;

use crate::common::{Call, Node, Place, assert_rows};

/// Puts an event without a body in front of the one at `index` of the original call.
fn insert_unknown(call: &mut Call, index: usize) {
    let unknown = Event {
        session_id: call.id.clone(),
        sequence: 0,
        body: None,
        durable: 0,
    };
    call.events.insert(index, unknown);
    for (sequence, event) in (1..).zip(&mut call.events) {
        event.sequence = sequence;
    }
}

#[tokio::test]
async fn unknown_events_of_a_call_without_recording_are_durable_with_the_turns_around_them() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut call = Call::unrecorded("call-1", 3);
    for index in [5, 3, 2, 1, 0] {
        insert_unknown(&mut call, index);
    }

    node.send_all(&call.events[..5]).await;
    node.until_durable("call-1", 5).await;
    node.send_all(&call.events[5..]).await;
    node.until_durable("call-1", call.last()).await;

    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn unknown_events_of_a_recorded_call_are_durable_with_its_recording() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut call = Call::recorded("call-1", 6, 160);
    for index in [7, 4, 0] {
        insert_unknown(&mut call, index);
    }

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn unknown_events_behind_the_end_are_durable_with_it_whenever_they_come() {
    let mut place = Place::new();
    place.config.recording.max_retries = 0;
    let archiver = place.start().await;
    let in_the_way = place.config.recording.folder.join("recordings");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut call = Call::recorded("call-1", 4, 160);
    let end = call.events.len();
    insert_unknown(&mut call, end);
    insert_unknown(&mut call, end + 1);

    // The first while the recording waits to be stored, the second after that.
    node.send_all(&call.events[..end]).await;
    node.until_received("call-1", end as u64).await;
    node.send(&call.events[end]).await;
    node.until_received("call-1", end as u64 + 1).await;
    assert_eq!(node.durable.get("call-1"), None);
    std::fs::remove_file(&in_the_way).unwrap();
    node.until_durable("call-1", end as u64 + 1).await;
    node.send(&call.events[end + 1]).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}

#[tokio::test]
async fn a_call_with_unknown_events_goes_on_at_another_archiver() {
    let place = Place::new();
    let first = place.start().await;
    let mut node = Node::connect(first.address, "n1").await;
    let mut call = Call::unrecorded("call-1", 4);
    for index in [4, 2, 1] {
        insert_unknown(&mut call, index);
    }
    node.send_all(&call.events[..5]).await;
    node.until_durable("call-1", 5).await;
    first.kill().await;

    let second = place.start().await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(5)).await;
    node.until_durable("call-1", call.last()).await;

    assert_rows(&call, &second.rows("call-1").await);
}
