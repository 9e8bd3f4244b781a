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
