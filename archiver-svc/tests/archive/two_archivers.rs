//! Nodes that go from one archiver to another and come back, and calls of which more than one archiver has something.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "panics are how a test fails, in its helpers too"
)]

use crate::common::{self, Call, Node, Place, Running, assert_rows};
use crate::parts::{CHUNK, options, start, unfinished};

/// Two archivers with the same stores.
async fn two(place: &mut Place) -> (Running, Running) {
    let first = start(place, options()).await;
    place.config.archiver.spool_dir = place.dir.path().join("second-spool");
    (first, start(place, options()).await)
}

#[tokio::test]
async fn a_long_call_whose_end_comes_late_to_a_second_archiver_is_durable_there_when_the_first_has_stored_all_of_it() {
    let mut place = Place::new();
    let (first, second) = two(&mut place).await;
    // The second one has no whole part of its own to store: three are stored, and the call ends before the fourth.
    let call = Call::recorded("call-1", 40, CHUNK);
    let mut one = Node::connect(first.address, "n1").await;
    one.send_all(&call.events[..50]).await;
    // Chunk 31, which is event 47, is the end of the third part.
    one.until_durable("call-1", 46).await;
    let mut two = Node::connect(second.address, "n1").await;
    let rest = call.behind(46);
    let (end, before) = rest.split_last().unwrap();
    two.send_all(before).await;
    two.until_received("call-1", call.last() - 1).await;

    one.send_all(&call.events[50..]).await;
    one.until_durable("call-1", call.last()).await;
    assert_eq!(unfinished(&place, "recordings/.open"), 1);
    two.send(end).await;
    two.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &second.rows("call-1").await);
    common::until(|| unfinished(&place, ".uploads") == 0).await;
}

#[tokio::test]
async fn a_node_that_comes_back_goes_on_behind_what_another_archiver_has_made_durable_meanwhile() {
    let mut place = Place::new();
    let (first, second) = two(&mut place).await;
    let (turns, long, short) = (
        Call::unrecorded("turns", 6),
        Call::recorded("long", 100, CHUNK),
        Call::recorded("short", 6, 160),
    );
    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&turns.events[..3]).await;
    node.send_all(&short.events[..4]).await;
    node.send_all(&long.events[..50]).await;
    node.until_durable("turns", 3).await;
    node.until_durable("long", 46).await;
    node.until_received("short", 4).await;

    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&turns.behind(3)[..2]).await;
    node.send_all(&short.events).await;
    node.send_all(&long.behind(46)[..50]).await;
    node.until_durable("turns", 5).await;
    node.until_durable("short", short.last()).await;
    // Chunk 52, which is event 78, is the end of the fifth part.
    node.until_durable("long", 77).await;
    let durable = node.durable["long"];

    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&turns.behind(5)).await;
    node.send_all(&long.behind(durable)).await;
    for call in [&turns, &long] {
        node.until_durable(&call.id, call.last()).await;
        assert_rows(call, &first.rows(&call.id).await);
    }
    for call in [&long, &short] {
        assert_eq!(std::fs::read(place.recording(&call.id)).unwrap(), call.wav());
    }
    common::until(|| unfinished(&place, ".uploads") == 0).await;
    // Nothing is kept of the call that ended at the other one: there is the lock alone.
    let spools = place.dir.path().join("spool");
    common::until(|| std::fs::read_dir(&spools).unwrap().count() == 1).await;
}

#[tokio::test]
async fn a_session_that_was_set_aside_goes_on_when_another_archiver_has_had_what_was_missing() {
    let mut place = Place::new();
    let (first, second) = two(&mut place).await;
    // More turns than wait behind a gap.
    let call = Call::unrecorded("call-1", 4200);
    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&call.events[..3]).await;
    node.until_durable("call-1", 3).await;
    node.send_all(&call.events[4..4195]).await;
    node.until_received("call-1", 4101).await;

    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(3)[..4190]).await;
    node.until_durable("call-1", 4193).await;
    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&call.behind(4193)).await;

    node.until_durable("call-1", call.last()).await;
    assert_rows(&call, &first.rows("call-1").await);
}

#[tokio::test]
async fn a_call_whose_last_acknowledgement_was_missed_is_acknowledged_when_its_manifest_has_been_cleared_up() {
    for stored_whole in [true, false] {
        let mut place = Place::new();
        let first = start(&place, options()).await;
        let mut node = Node::connect(first.address, "n1").await;
        let call = Call::recorded("call-1", 60, CHUNK);
        node.send_all(&call.events).await;
        node.until_durable("call-1", call.last()).await;
        first.kill().await;
        place.config.recording.upload_max_age_secs = 0;
        let second = start(&place, options()).await;
        common::until(|| unfinished(&place, "recordings/.open") == 0).await;
        if !stored_whole {
            shorten_note(&place).await;
        }

        let mut node = Node::connect(second.address, "n1").await;
        // Event 40 is a turn, 41 and 42 are audio.
        node.send_all(&call.behind(39)).await;
        if stored_whole {
            node.until_durable("call-1", call.last()).await;
        } else {
            // It is not what the node has: that stays there, from its first audio on.
            let other = Call::unrecorded("other", 1);
            node.until_received("call-1", call.last()).await;
            node.send_all(&other.events).await;
            node.until_durable("other", other.last()).await;
            assert!(node.durable.get("call-1").is_none_or(|durable| *durable <= 40));
        }
        assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
        assert_rows(&call, &second.rows("call-1").await);
    }
}

/// As if SQL knew of less than the whole recording.
async fn shorten_note(place: &Place) {
    use sqlx::Connection;
    let dsn = place.config.transcripts.dsn.expose();
    let mut database = sqlx::SqliteConnection::connect(dsn).await.unwrap();
    let noted = sqlx::query("UPDATE call_transcripts_sessions SET recording_bytes = recording_bytes - 6400");
    assert_eq!(noted.execute(&mut database).await.unwrap().rows_affected(), 1);
    database.close().await.unwrap();
}
