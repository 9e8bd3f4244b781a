//! Erasure by age, where some of it cannot be completed.

use std::time::Duration;

use archiver_svc::{Batch, Options, Start};
use time::OffsetDateTime;

use crate::common::{Call, Node, Place};

#[tokio::test]
async fn erasures_that_cannot_be_completed_do_not_keep_what_is_behind_them() {
    let mut place = Place::new();
    let first = place.start().await;
    let call = Call::unrecorded("z-last", 3);
    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable(&call.id, call.last()).await;
    // More calls with recordings than are looked up at once.
    let recorded = (0..450).map(|n| Start {
        session_id: format!("call-{n:03}"),
        started_at: OffsetDateTime::UNIX_EPOCH,
        transport: "telephony".to_owned(),
        provider: String::new(),
        recording_key: Some(format!("recordings/1970/01/01/call-{n:03}.wav")),
    });
    let batch = Batch {
        starts: recorded.collect(),
        ..Batch::default()
    };
    first.transcripts.clone().unwrap().write(&batch).await.unwrap();
    first.kill().await;

    // Without the store of recordings none of theirs can be removed.
    place.config.recording.enable = false;
    place.config.archiver.retention_days = 1;
    let options = Options {
        retention_interval: Some(Duration::from_millis(10)),
        ..Options::default()
    };
    let second = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));

    let store = second.transcripts.clone().unwrap();
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !store.session("z-last").await.unwrap().unwrap().erased {
        look.tick().await;
    }
    assert!(second.rows("z-last").await.is_empty());
    let waiting = store.session("call-000").await.unwrap().unwrap();
    assert!(waiting.erased && waiting.recording_key.is_some());
}

#[tokio::test]
async fn more_old_rows_than_are_deleted_at_once_are_all_deleted() {
    let mut place = Place::new();
    let first = place.start().await;
    let dsn = place.config.transcripts.dsn.expose().to_owned();
    let pool = sqlx::SqlitePool::connect(&dsn).await.unwrap();
    let insert = "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                  INSERT INTO call_transcripts (session_id, role, text, seq, created_at) \
                  SELECT 'of-an-older-release', 'user', 'hello', i, '2020-01-01T00:00:00.000Z' FROM n";
    sqlx::raw_sql(insert).execute(&pool).await.unwrap();
    first.kill().await;

    place.config.archiver.retention_days = 1;
    let _second = place.start().await;

    let mut look = tokio::time::interval(Duration::from_millis(5));
    let left = || sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM call_transcripts").fetch_one(&pool);
    while left().await.unwrap() > 0 {
        look.tick().await;
    }
}

#[tokio::test]
async fn the_recording_of_an_erased_call_that_the_store_does_not_remove_holds_up_nothing_and_is_removed_when_it_can_be()
{
    let place = Place::new();
    let options = Options {
        retention_interval: Some(Duration::from_millis(50)),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));
    let (call, other) = (Call::recorded("call-1", 6, 160), Call::recorded("call-2", 6, 160));
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events[..4]).await;
    node.until_received("call-1", 4).await;
    let store = archiver.transcripts.clone().unwrap();
    store.erase("call-1", OffsetDateTime::now_utc()).await.unwrap();
    store.forget_key("call-1").await.unwrap();
    // What cannot be removed like a file.
    let recording = place.recording("call-1");
    std::fs::create_dir_all(&recording).unwrap();

    node.send_all(&call.events[4..]).await;
    node.send_all(&other.events).await;
    node.until_durable("call-2", other.last()).await;
    node.until_durable("call-1", call.last()).await;
    let grave = store.session("call-1").await.unwrap().unwrap();
    assert!(grave.erased && grave.recording_key.is_some());
    std::fs::remove_dir(&recording).unwrap();
    std::fs::write(&recording, "what was said").unwrap();

    let mut look = tokio::time::interval(Duration::from_millis(5));
    while store.session("call-1").await.unwrap().unwrap().recording_key.is_some() {
        look.tick().await;
    }
    assert!(!recording.exists());
}
