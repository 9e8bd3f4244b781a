//! Events that a node's disk has lost: what is left is archived, and nobody else waits for them.

use voxray_proto::archive::event::Body;
use voxray_proto::archive::{AudioChunk, SessionStarted};

use crate::common::{Call, Node, Place, assert_rows, metric};

#[tokio::test]
async fn a_session_stuck_behind_a_gap_is_set_aside_and_the_stream_stays_up() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let (call, other) = (Call::unrecorded("gap", 5000), Call::recorded("other", 4, 160));

    node.send_all(&call.events[..2]).await;
    node.send_all(&call.events[3..]).await;
    node.send_all(&other.events).await;
    node.until_durable("other", other.last()).await;

    assert_eq!(node.received["gap"], call.last());
    assert_eq!(node.durable["gap"], 2);
    assert_eq!(metric("archive_sessions_set_aside_total"), 1.0);

    // The node can read its disk again.
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events[2..]).await;
    node.until_durable("gap", call.last()).await;
    assert_rows(&call, &archiver.rows("gap").await);
}

#[tokio::test]
async fn a_call_whose_end_the_node_has_lost_after_sending_it_is_stored_with_the_end_it_made_up() {
    let place = Place::new();
    let archiver = place.start().await;
    let call = Call::recorded("call-1", 8, 160);
    let mut node = Node::connect(archiver.address, "n1").await;
    let before = call.events.len() - 1;
    node.send_all(&call.events[..before]).await;
    node.until_received("call-1", before as u64).await;

    // After a crash its disk holds less than it had sent.
    let mut end = call.events[before].clone();
    end.sequence = 6;
    if let Some(Body::Ended(ended)) = &mut end.body {
        (ended.reason, ended.total_frames) = ("node_restarted".to_owned(), 3 * 160);
        ended.pcm_sha256.clear();
    }
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events[..5]).await;
    node.send(&end).await;
    node.until_durable("call-1", 6).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn lost_audio_is_silence_in_a_recording_that_is_stored_all_the_same() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut call = Call::recorded("call-1", 9, 160);
    // Place-holders, as an outbox writes them for what a damaged file has lost: a chunk, a turn, and the last chunk.
    for index in [2, 3, 13] {
        assert!(matches!(call.events[index].body, Some(Body::Audio(_) | Body::Turn(_))));
        call.events[index].body = Some(Body::Audio(AudioChunk::default()));
    }
    call.pcm[640..1280].fill(0);
    call.pcm[8 * 640..].fill(0);

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    let rows = archiver.rows("call-1").await;
    assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn of_a_call_whose_beginning_is_lost_the_later_turns_are_stored_and_its_node_is_told() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut call = Call::recorded("call-1", 9, 160);
    // As an outbox sends it: nothing tells the format of the audio.
    for (index, event) in call.events.iter_mut().enumerate() {
        match &event.body {
            Some(Body::Started(_)) => event.body = Some(Body::Started(SessionStarted::default())),
            Some(Body::Audio(_)) => event.body = None,
            Some(Body::Turn(_)) if index < 5 => event.body = None,
            Some(Body::Turn(_) | Body::Ended(_)) | None => {}
        }
    }

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    let turns = |call: &Call| {
        let turns = call.events.iter().filter_map(|event| match &event.body {
            Some(Body::Turn(turn)) => Some(turn.text.clone()),
            _ => None,
        });
        turns.collect::<Vec<_>>()
    };
    let texts: Vec<String> = archiver.rows("call-1").await.into_iter().map(|row| row.text).collect();
    assert!(!texts.is_empty());
    assert_eq!(texts, turns(&call));
    assert!(!place.recording("call-1").exists());
}
