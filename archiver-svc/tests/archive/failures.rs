//! Stores that fail, archivers and nodes that die: nothing is lost.

use crate::common::{self, Call, Node, Place, assert_rows};
use voxray_proto::archive::event::Body;

#[tokio::test]
async fn a_call_cut_by_the_death_of_the_archiver_is_whole_after_the_node_sent_it_again() {
    let place = Place::new();
    let first = place.start().await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 20, 800);
    node.send_all(&call.events[..15]).await;
    node.until_received("call-1", 15).await;
    first.kill().await;

    let second = place.start().await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &second.rows("call-1").await);
}

#[tokio::test]
async fn another_archiver_goes_on_behind_turns_that_are_durable() {
    let place = Place::new();
    let first = place.start().await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::unrecorded("call-1", 5);
    node.send_all(&call.events[..4]).await;
    node.until_durable("call-1", 4).await;
    first.kill().await;

    let second = place.start().await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(4)).await;
    node.until_durable("call-1", call.last()).await;

    assert_rows(&call, &second.rows("call-1").await);
}

#[tokio::test]
async fn a_turn_whose_predecessors_are_nowhere_is_not_acknowledged() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let (call, other) = (Call::unrecorded("call-1", 5), Call::unrecorded("other", 1));

    node.send_all(&call.events[3..]).await;
    node.send_all(&other.events).await;
    node.until_durable("other", other.last()).await;
    assert_eq!(node.received.get("call-1"), None);

    node.send_all(&call.events[..3]).await;
    node.until_durable("call-1", call.last()).await;
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn a_node_that_reconnects_goes_on_where_it_was() {
    let place = Place::new();
    let archiver = place.start().await;
    let call = Call::recorded("call-1", 8, 160);
    let mut old = Node::connect(archiver.address, "n1").await;
    old.send_all(&call.events[..6]).await;
    old.until_received("call-1", 6).await;

    let mut new = Node::connect(archiver.address, "n1").await;
    assert_eq!(old.until_closed().await.code(), tonic::Code::Aborted);
    new.send_all(&call.events[3..]).await;
    new.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn a_full_upload_queue_holds_streams_back_and_drops_nothing() {
    let mut place = Place::new();
    (place.config.recording.worker_count, place.config.recording.queue_cap) = (1, 1);
    let archiver = place.start().await;
    let in_the_way = place.config.recording.folder.join("recordings");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let calls: Vec<_> = (0..12).map(|i| Call::recorded(&format!("call-{i}"), 2, 160)).collect();
    let mut node = Node::connect(archiver.address, "n1").await;

    // The first has the only place and keeps it; the second waits for it, and with it the stream.
    for call in &calls[..2] {
        node.send_all(&call.events).await;
        node.until_received(&call.id, call.last()).await;
    }
    for call in &calls[2..] {
        node.send_all(&call.events).await;
    }
    let other = Call::unrecorded("other", 20);
    let mut other_node = Node::connect(archiver.address, "n2").await;
    other_node.send_all(&other.events).await;
    other_node.until_durable("other", other.last()).await;
    node.read_what_is_there().await;
    assert!(calls[2..].iter().all(|call| !node.received.contains_key(&call.id)));
    assert!(node.durable.is_empty());
    std::fs::remove_file(&in_the_way).unwrap();

    for call in &calls {
        node.until_durable(&call.id, call.last()).await;
        assert_eq!(std::fs::read(place.recording(&call.id)).unwrap(), call.wav());
    }
}

#[tokio::test]
async fn a_row_that_the_database_refuses_holds_up_nothing_but_the_rest_of_its_call() {
    use sqlx::Connection;
    let mut place = Place::new();
    place.config.transcripts.table_name = "call_lines".to_owned();
    let dsn = place.config.transcripts.dsn.expose().to_owned();
    std::fs::create_dir(place.dir.path().join("db")).unwrap();
    let mut database = sqlx::SqliteConnection::connect(&format!("{dsn}?mode=rwc"))
        .await
        .unwrap();
    let create = "CREATE TABLE call_lines (session_id TEXT, role TEXT, text TEXT CHECK (length(text) < 100), \
                  seq INTEGER, created_at TIMESTAMP)";
    sqlx::raw_sql(create).execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut bad = Call::unrecorded("bad", 6);
    // Event 4 is turn 2.
    if let Some(Body::Turn(turn)) = &mut bad.events[3].body {
        turn.text = "x".repeat(200);
    }
    let others: Vec<_> = (0..20).map(|n| Call::unrecorded(&format!("call-{n}"), 4)).collect();

    node.send_all(&bad.events).await;
    for call in &others {
        node.send_all(&call.events).await;
    }

    for call in &others {
        node.until_durable(&call.id, call.last()).await;
        assert_rows(call, &archiver.rows(&call.id).await);
    }
    // Its other turns are there, and the node keeps it from the one that is not.
    let kept: Vec<_> = archiver.rows("bad").await.iter().map(|row| row.seq).collect();
    assert_eq!(kept, [0, 1, 3, 4, 5]);
    node.until_durable("bad", 3).await;
    assert_eq!(node.durable["bad"], 3);
    assert!(common::metric("archive_rows_refused_total") >= 1.0);
}

#[tokio::test]
async fn a_recording_that_the_database_refuses_to_note_holds_up_nothing_but_the_rest_of_its_call() {
    use sqlx::Connection;
    let place = Place::new();
    let dsn = place.config.transcripts.dsn.expose().to_owned();
    std::fs::create_dir(place.dir.path().join("db")).unwrap();
    let mut database = sqlx::SqliteConnection::connect(&format!("{dsn}?mode=rwc"))
        .await
        .unwrap();
    let create = "CREATE TABLE call_transcripts_sessions (session_id TEXT PRIMARY KEY, started_at TIMESTAMP, \
                  ended_at TIMESTAMP, transport TEXT, provider TEXT, end_reason TEXT, turns INTEGER, \
                  recording_key TEXT CHECK (length(recording_key) < 60), \
                  recording_bytes INTEGER CHECK (recording_bytes < 20000), erased_at TIMESTAMP)";
    sqlx::raw_sql(create).execute(&mut database).await.unwrap();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let refused_before = common::metric("archive_rows_refused_total");
    let (long_key, large) = (
        Call::recorded(&"k".repeat(60), 4, 160),
        Call::recorded("large", 4, 4000),
    );

    for call in [&long_key, &large] {
        node.send_all(&call.events).await;
        node.until_received(&call.id, call.last()).await;
        common::until(|| place.recording(&call.id).exists()).await;
    }
    // The start of the one, and the notes of both.
    common::until(|| common::metric("archive_rows_refused_total") >= refused_before + 3.0).await;
    let others: Vec<_> = (0..20).map(|n| Call::recorded(&format!("call-{n}"), 4, 160)).collect();
    for call in &others {
        node.send_all(&call.events).await;
    }

    for call in &others {
        node.until_durable(&call.id, call.last()).await;
        assert_rows(call, &archiver.rows(&call.id).await);
    }
    for call in [&long_key, &large] {
        assert_rows(call, &archiver.rows(&call.id).await);
        assert!(!node.durable.contains_key(&call.id), "{}", call.id);
    }
    let drained = archiver.archiver.stopped();
    archiver.shutdown.request();
    drained.await;
}

#[tokio::test]
async fn a_draining_archiver_sends_its_nodes_away_and_ends() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 4, 160);
    node.send_all(&call.events).await;
    node.until_received("call-1", call.last()).await;

    archiver.shutdown.request();

    assert_eq!(node.until_closed().await.code(), tonic::Code::Unavailable);
    archiver.archiver.stopped().await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}
