//! A store that refuses for a while. Alone in its process: it reads process-wide counters.

mod common;

use common::{Call, Node, Place, metric};

#[tokio::test]
async fn a_recording_that_cannot_be_written_is_tried_until_it_can() {
    let mut place = Place::new();
    place.config.recording.max_retries = 0;
    let archiver = place.start().await;
    let in_the_way = place.config.recording.folder.join("recordings");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 4, 160);

    node.send_all(&call.events).await;
    common::until(|| metric("recording_jobs_failed_total") >= 2.0).await;
    assert_eq!(node.durable.get("call-1"), None);
    assert_eq!(metric("recording_jobs_success_total"), 0.0);

    std::fs::remove_file(&in_the_way).unwrap();
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_eq!(metric("recording_jobs_success_total"), 1.0);
    assert_eq!(metric("recording_jobs_enqueued_total"), 1.0);
    assert_eq!(metric("recording_queue_depth"), 0.0);
    assert_eq!(metric("archive_events_received_total{kind=\"audio\"}"), 4.0);
    assert_eq!(metric("archive_events_durable_total{kind=\"audio\"}"), 4.0);
    assert_eq!(metric("archive_events_durable_total{kind=\"turn\"}"), 2.0);
    assert_eq!(metric("archive_events_durable_total{kind=\"ended\"}"), 1.0);
    assert_eq!(metric("archive_duplicates_total{kind=\"audio\"}"), 0.0);
    assert!(metric("db_write_duration_seconds_count") >= 1.0);
}
