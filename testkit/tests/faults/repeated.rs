//! The same event twice, out of order, and from a node whose clock is an hour off.

use archiver_svc::Options;
use aws_sdk_s3::config::Credentials;
use rand::seq::SliceRandom;
use service_kit::config::{Secret, TranscriptDriver};
use voxray_proto::archive::Event;
use voxray_proto::archive::event::Body;
use voxray_testkit::servers::{Postgres, S3};

use crate::common::{Call, Node, Place, Running, assert_rows};
use crate::scale;

const BUCKET: &str = "calls";
const HOUR_MS: i64 = 3_600_000;

/// The call as a node sends it whose clock is off by this much.
fn with_clock_off(events: &[Event], by_ms: i64) -> Vec<Event> {
    let shift = |at: &mut u64| *at = at.saturating_add_signed(by_ms);
    let mut events = events.to_vec();
    for event in &mut events {
        match &mut event.body {
            Some(Body::Started(started)) => shift(&mut started.started_at_unix_ms),
            Some(Body::Turn(turn)) => shift(&mut turn.created_at_unix_ms),
            Some(Body::Ended(ended)) => shift(&mut ended.ended_at_unix_ms),
            Some(Body::Audio(_)) | None => {}
        }
    }
    events
}

#[tokio::test]
async fn events_sent_twice_and_out_of_order_from_a_wrong_clock_are_the_same_rows_and_bytes() {
    let (s3, postgres) = (S3::start().await.unwrap(), Postgres::start().await.unwrap());
    s3.create_bucket(BUCKET).await.unwrap();
    let mut place = Place::new();
    place.config.recording.bucket = Some(BUCKET.to_owned());
    place.config.s3.endpoint = Some(s3.endpoint());
    place.config.s3.region = s3.region().to_owned();
    place.config.transcripts.driver = TranscriptDriver::Postgres;
    place.config.transcripts.dsn = Secret::new(postgres.dsn("postgres"));
    let options = Options {
        s3_credentials: Some(Credentials::new(s3.access_key(), s3.secret_key(), None, None, "test")),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));

    // All at once, each from a node of its own.
    let calls = (0..scale::calls()).map(|call| {
        let off = HOUR_MS * [0, -1, 1][call % 3];
        is_stored_once(&archiver, &s3, format!("call-{call}"), off)
    });
    futures_util::future::join_all(calls).await;
}

/// A call of a node whose clock is off by this much, in disorder, with everything twice and then once more.
async fn is_stored_once(archiver: &Running, s3: &S3, id: String, off: i64) {
    let id = id.as_str();
    let mut call = Call::recorded(id, 30, 800);
    call.events = with_clock_off(&call.events, off);
    let mut shuffled: Vec<Event> = call.events.iter().chain(&call.events).cloned().collect();
    shuffled.shuffle(&mut rand::rng());

    let mut node = Node::connect(archiver.address, id).await;
    node.send_all(&shuffled).await;
    node.until_durable(id, call.last()).await;
    let mut again = Node::connect(archiver.address, id).await;
    again.send_all(&call.events).await;
    again.until_durable(id, call.last()).await;

    let rows = archiver.rows(id).await;
    let as_if_right: Vec<_> = rows
        .iter()
        .cloned()
        .map(|mut row| {
            row.created_at -= time::Duration::milliseconds(off);
            row
        })
        .collect();
    assert_rows(&call, &as_if_right);
    let keys = s3.keys(BUCKET, "recordings/").await.unwrap();
    let of_call: Vec<&String> = keys.iter().filter(|key| key.ends_with(&format!("/{id}.wav"))).collect();
    assert_eq!(of_call.len(), 1, "{keys:?}");
    assert_eq!(s3.object(BUCKET, of_call[0]).await.unwrap(), call.wav(), "{id}");
}
