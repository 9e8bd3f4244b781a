//! What a node sends is stored once, whatever the order and however often it is sent.

use crate::common::{self, Call, Node, Place, assert_rows};

#[tokio::test]
async fn rows_and_recording_are_what_the_node_sent() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 20, 800);

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
    let spooled = || std::fs::read_dir(&place.config.archiver.spool_dir).unwrap().count();
    common::until(|| spooled() == 1).await;
}

#[tokio::test]
async fn nothing_of_a_recorded_call_is_durable_before_all_of_it_is() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 6, 160);
    let (end, before) = call.events.split_last().unwrap();

    node.send_all(before).await;
    node.until_received("call-1", call.last() - 1).await;
    assert_eq!(node.durable.get("call-1"), None);

    node.send(end).await;
    node.until_durable("call-1", call.last()).await;
}

#[tokio::test]
async fn turns_of_a_call_without_recording_are_durable_as_they_come() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::unrecorded("call-1", 3);

    node.send_all(&call.events[..3]).await;
    node.until_durable("call-1", 3).await;
    assert_eq!(archiver.rows("call-1").await.len(), 2);

    node.send_all(&call.events[3..]).await;
    node.until_durable("call-1", call.last()).await;
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn every_event_twice_and_the_whole_call_twice_change_nothing() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 10, 400);
    for event in &call.events {
        node.send(event).await;
        node.send(event).await;
    }
    node.until_durable("call-1", call.last()).await;
    let written = std::fs::metadata(place.recording("call-1"))
        .unwrap()
        .modified()
        .unwrap();

    let mut again = Node::connect(archiver.address, "n1").await;
    again.send_all(&call.events).await;
    again.until_durable("call-1", call.last()).await;

    // An archiver that knows nothing of this call finds it stored.
    archiver.kill().await;
    let other = place.start().await;
    let mut node = Node::connect(other.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(
        std::fs::metadata(place.recording("call-1"))
            .unwrap()
            .modified()
            .unwrap(),
        written
    );
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &other.rows("call-1").await);
}

#[tokio::test]
async fn events_in_any_order_are_applied_in_theirs() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let calls = [Call::recorded("call-1", 12, 240), Call::recorded("call-22", 9, 240)];
    let mut events: Vec<_> = calls.iter().flat_map(|call| call.events.clone()).collect();
    // A fixed shuffle: neighbours end up far apart.
    events.sort_by_key(|event| (event.sequence * 7919 + event.session_id.len() as u64 * 13) % 101);

    node.send_all(&events).await;

    for call in &calls {
        node.until_durable(&call.id, call.last()).await;
        assert_eq!(std::fs::read(place.recording(&call.id)).unwrap(), call.wav());
        assert_rows(call, &archiver.rows(&call.id).await);
    }
}

#[tokio::test]
async fn nothing_after_a_gap_is_acknowledged() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::unrecorded("gap", 4);
    let other = Call::unrecorded("other", 1);

    node.send_all(&call.events[..2]).await;
    node.send_all(&call.events[3..]).await;
    node.send_all(&other.events).await;
    node.until_durable("other", other.last()).await;
    node.until_received("gap", 2).await;
    assert_eq!(node.received["gap"], 2);

    node.send(&call.events[2]).await;
    node.until_durable("gap", call.last()).await;
    assert_rows(&call, &archiver.rows("gap").await);
}

#[tokio::test]
async fn a_call_without_any_audio_has_an_empty_recording() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("silent", 0, 0);

    node.send_all(&call.events).await;
    node.until_durable("silent", call.last()).await;

    assert_eq!(std::fs::read(place.recording("silent")).unwrap(), call.wav());
}

#[tokio::test]
async fn without_a_transcript_table_a_recording_is_still_kept() {
    let mut place = Place::new();
    place.config.transcripts.enable = false;
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 4, 160);

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}
