//! The archiver on a real PostgreSQL and a real S3 server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "panics are how a test fails, in its helpers too"
)]

mod answers;
#[path = "../../../archiver-svc/tests/common/mod.rs"]
mod common;
mod conditions;
mod decoded;
mod encoded;
mod erasure;
mod locked_session;
mod memory;
mod proxy;
mod silent_database;
mod uploads;

use std::time::Duration;

use archiver_svc::Options;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use common::{Call, Node, Place, Running, assert_rows};
use service_kit::config::{RecordingTag, S3Encryption, Secret, TranscriptDriver};
use service_kit::exit;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use voxray_testkit::servers::{Postgres, S3};
use voxray_testkit::wait;

const BUCKET: &str = "calls";

fn key(session: &str) -> String {
    format!("recordings/2026/03/04/{session}.wav")
}

fn options(s3: &S3) -> Options {
    Options {
        s3_credentials: Some(Credentials::new(s3.access_key(), s3.secret_key(), None, None, "test")),
        ..Options::default()
    }
}

fn use_s3(place: &mut Place, s3: &S3) {
    place.config.recording.bucket = Some(BUCKET.to_owned());
    place.config.s3.endpoint = Some(s3.endpoint());
    place.config.s3.region = s3.region().to_owned();
}

fn use_postgres(place: &mut Place, dsn: &str) {
    place.config.transcripts.driver = TranscriptDriver::Postgres;
    place.config.transcripts.dsn = Secret::new(format!("{dsn}&pool_max_conns=2"));
}

async fn start(place: &Place, options: Options) -> Running {
    place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"))
}

async fn head(s3: &S3, session: &str) -> HeadObjectOutput {
    let asked = s3.client().head_object().bucket(BUCKET).key(key(session)).send();
    asked.await.unwrap()
}

/// Tags of a recording, by name.
async fn tags(s3: &S3, session: &str) -> Vec<(String, String)> {
    let asked = s3.client().get_object_tagging().bucket(BUCKET).key(key(session)).send();
    let tags = asked.await.unwrap().tag_set.into_iter();
    let mut tags: Vec<_> = tags.map(|tag| (tag.key, tag.value)).collect();
    tags.sort();
    tags
}

async fn s3_with_bucket() -> S3 {
    let s3 = S3::start().await.unwrap();
    s3.create_bucket(BUCKET).await.unwrap();
    s3
}

#[tokio::test]
async fn a_call_sent_twice_to_two_archivers_is_one_object_and_one_row_a_turn() {
    let (s3, postgres) = (s3_with_bucket().await, Postgres::start().await.unwrap());
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    use_postgres(&mut place, &postgres.dsn("postgres"));
    let call = Call::recorded("call-1", 30, 800);

    let first = start(&place, options(&s3)).await;
    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    let written = head(&s3, "call-1").await;
    first.kill().await;

    let second = start(&place, options(&s3)).await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(s3.object(BUCKET, &key("call-1")).await.unwrap(), call.wav());
    assert_eq!(s3.keys(BUCKET, "recordings/2").await.unwrap(), [key("call-1")]);
    let again = head(&s3, "call-1").await;
    assert_eq!(
        (again.e_tag(), again.last_modified()),
        (written.e_tag(), written.last_modified())
    );
    assert_eq!(again.content_type(), Some("audio/wav"));
    let hash = hex::encode(Sha256::digest(&call.pcm));
    assert_eq!(again.metadata().unwrap()["voxray-pcm-sha256"], hash);
    assert_rows(&call, &second.rows("call-1").await);
}

/// Length of a part in S3, bytes.
const PART: usize = 5 * 1024 * 1024;

/// 20 MiB in chunks of 128 KiB: four whole parts and a short one.
fn long_call(id: &str) -> Call {
    Call::recorded(id, 160, 32 * 1024)
}

async fn open_uploads(s3: &S3) -> usize {
    let asked = s3.client().list_multipart_uploads().bucket(BUCKET).send();
    asked.await.unwrap().uploads().len()
}

#[tokio::test]
async fn a_long_recording_goes_up_in_parts_while_the_call_runs_and_is_the_same_bytes() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.recording.tags = vec![
        RecordingTag::Session,
        RecordingTag::Transport,
        RecordingTag::Provider,
        RecordingTag::Duration,
        RecordingTag::Complete,
        RecordingTag::Fixed("team".to_owned(), "support: tier 2/3".to_owned()),
    ];
    place.config.s3.encryption = S3Encryption::Aes256;
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");

    node.send_all(&call.events[..130]).await;
    node.until_durable("long", 2 * PART as u64 / (128 * 1024)).await;
    assert_eq!(open_uploads(&s3).await, 1);
    node.send_all(&call.events[130..]).await;
    node.until_durable("long", call.last()).await;

    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    let stored = head(&s3, "long").await;
    let etag = stored.e_tag().unwrap_or_default();
    assert!(etag.contains("-5"), "{etag}");
    assert_eq!(stored.content_type(), Some("audio/wav"));
    assert_eq!(stored.metadata().unwrap()["voxray-session"], "long");
    assert_eq!(stored.metadata().unwrap()["voxray-transport"], "telephony");
    assert_eq!(stored.server_side_encryption().map(|sse| sse.as_str()), Some("AES256"));
    let seconds = (call.pcm.len() / 32_000 + 1).to_string();
    let expected = [
        ("complete", "true"),
        ("duration_secs", &seconds),
        ("provider", "twilio"),
        ("session", "long"),
        ("team", "support: tier 2/3"),
        ("transport", "telephony"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(tags(&s3, "long").await, expected);
    assert_eq!(open_uploads(&s3).await, 0);
    // What is left is one note, for a node that missed the last acknowledgement.
    assert_eq!(
        s3.keys(BUCKET, "recordings/.open/").await.unwrap(),
        ["recordings/.open/long.json"]
    );
}

#[tokio::test]
async fn an_archiver_killed_in_mid_upload_is_followed_by_one_that_goes_on_with_the_same_object() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    let first = start(&place, options(&s3)).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = long_call("long");
    node.send_all(&call.events[..150]).await;
    node.until_durable("long", 50).await;
    let durable = node.durable["long"];
    first.kill().await;

    let second = start(&place, options(&s3)).await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("long", call.last()).await;

    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_eq!(s3.keys(BUCKET, "recordings/2").await.unwrap(), [key("long")]);
    assert_eq!(open_uploads(&s3).await, 0);
    assert_rows(&call, &second.rows("long").await);
}

#[tokio::test]
async fn a_long_recording_of_a_dead_node_is_closed_in_s3_and_goes_on_there_when_the_node_comes_back() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    let dies_at_once = Options {
        node_dead_after: Some(Duration::ZERO),
        ..options(&s3)
    };
    let archiver = start(&place, dies_at_once).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");
    node.send_all(&call.events[..150]).await;
    node.until_durable("long", 90).await;
    node.until_received("long", 150).await;
    let durable = node.durable["long"];

    drop(node);
    let closed = wait::eventually("the recording is closed", Duration::from_secs(60), || async {
        Ok(s3.object(BUCKET, &key("long")).await.ok())
    });
    let closed = closed.await.unwrap();
    assert!(closed.len() > 2 * PART && closed[44..] == call.wav()[44..closed.len()]);
    assert_eq!(
        hound::WavReader::new(&closed[..]).unwrap().len() as usize * 2 + 44,
        closed.len()
    );

    // Nobody asked for tags: that it is not the whole call is said all the same, until it is.
    let incomplete = wait::eventually("the mark", Duration::from_secs(60), || async {
        Ok((tags(&s3, "long").await == [("complete".to_owned(), "false".to_owned())]).then_some(()))
    });
    incomplete.await.unwrap();

    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("long", call.last()).await;
    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_eq!(s3.keys(BUCKET, "recordings/2").await.unwrap(), [key("long")]);
    assert_eq!(open_uploads(&s3).await, 0);
    assert_eq!(tags(&s3, "long").await, []);
}

#[tokio::test]
async fn audio_is_stored_while_postgres_is_away_and_the_turns_follow() {
    let mut postgres = Postgres::start().await.unwrap();
    let mut place = Place::new();
    use_postgres(&mut place, &postgres.dsn("postgres"));
    // More calls than have a place among the recordings to be stored.
    place.config.recording.queue_cap = 2;
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let calls: Vec<_> = (1..=4).map(|n| Call::recorded(&format!("call-{n}"), 8, 800)).collect();

    postgres.stop();
    for call in &calls {
        node.send_all(&call.events).await;
        node.until_received(&call.id, call.last()).await;
    }
    for call in &calls {
        common::until(|| place.recording(&call.id).exists()).await;
        assert!(node.durable.get(&call.id).is_none_or(|durable| *durable < 4));
    }
    postgres.restart_on_same_port().await.unwrap();

    for call in &calls {
        node.until_durable(&call.id, call.last()).await;
        assert_rows(call, &archiver.rows(&call.id).await);
    }
}

#[tokio::test]
async fn a_recording_waits_for_s3_to_come_back() {
    let mut s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.recording.max_retries = 1;
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let calls = [
        Call::recorded("call-1", 4, 800),
        Call::recorded("call-2", 80, 32 * 1024),
    ];
    s3.stop();

    for call in &calls {
        node.send_all(&call.events).await;
        node.until_received(&call.id, call.last()).await;
    }
    assert!(node.durable.is_empty());
    s3.kill_and_restart().await.unwrap();

    for call in &calls {
        node.until_durable(&call.id, call.last()).await;
        assert!(s3.object(BUCKET, &key(&call.id)).await.unwrap() == call.wav());
    }
}

#[tokio::test]
async fn turns_wait_for_postgres_to_come_back() {
    let mut postgres = Postgres::start().await.unwrap();
    let mut place = Place::new();
    use_postgres(&mut place, &postgres.dsn("postgres"));
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::unrecorded("call-1", 6);
    node.send_all(&call.events[..3]).await;
    node.until_durable("call-1", 3).await;

    postgres.stop();
    node.send_all(&call.events[3..]).await;
    postgres.restart_on_same_port().await.unwrap();

    node.until_durable("call-1", call.last()).await;
    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn a_table_of_someone_else_without_a_unique_key_gets_no_row_twice() {
    let postgres = Postgres::start().await.unwrap();
    let mut place = Place::new();
    use_postgres(&mut place, &postgres.dsn("postgres"));
    place.config.transcripts.table_name = "archive.lines".to_owned();
    let mut sql = PgConnection::connect(&postgres.dsn("postgres")).await.unwrap();
    sqlx::raw_sql(
        "CREATE SCHEMA archive; CREATE TABLE archive.lines (id BIGSERIAL PRIMARY KEY, session_id VARCHAR(64), \
         role VARCHAR(16), text TEXT, seq BIGINT, created_at TIMESTAMP)",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    let call = Call::unrecorded("call-1", 5);

    // Two nodes send the same call at once: they do not share any memory of what was written.
    let archiver = place.start().await;
    let mut nodes = [
        Node::connect(archiver.address, "n1").await,
        Node::connect(archiver.address, "n2").await,
    ];
    for event in &call.events {
        for node in &mut nodes {
            node.send(event).await;
        }
    }
    for node in &mut nodes {
        node.until_durable("call-1", call.last()).await;
    }

    assert_rows(&call, &archiver.rows("call-1").await);
}

#[tokio::test]
async fn the_table_made_at_start_is_the_one_of_the_specification() {
    let postgres = Postgres::start().await.unwrap();
    let mut place = Place::new();
    use_postgres(&mut place, &postgres.dsn("postgres"));

    let _archiver = place.start().await;

    let mut sql = PgConnection::connect(&postgres.dsn("postgres")).await.unwrap();
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_name = 'call_transcripts' ORDER BY ordinal_position",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap();
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    assert_eq!(
        columns,
        [
            ("session_id", "text"),
            ("role", "text"),
            ("text", "text"),
            ("seq", "integer"),
            ("created_at", "timestamp with time zone"),
        ]
    );
    let indexes: Vec<String> =
        sqlx::query_scalar("SELECT indexdef FROM pg_indexes WHERE tablename = 'call_transcripts' ORDER BY indexname")
            .fetch_all(&mut sql)
            .await
            .unwrap();
    assert_eq!(indexes.len(), 2, "{indexes:?}");
    assert!(indexes[0].contains("(created_at)"), "{indexes:?}");
    assert!(
        indexes[1].contains("UNIQUE") && indexes[1].contains("(session_id, seq)"),
        "{indexes:?}"
    );
}

#[tokio::test]
async fn what_a_dead_node_left_in_s3_is_replaced_by_the_whole_call() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    let archiver = start(
        &place,
        Options {
            node_dead_after: Some(Duration::ZERO),
            ..options(&s3)
        },
    )
    .await;
    let call = Call::recorded("call-1", 10, 160);
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events[..5]).await;
    node.until_received("call-1", 5).await;

    drop(node);
    let stored = loop {
        let asked = s3.client().head_object().bucket(BUCKET).key(key("call-1"));
        if let Ok(stored) = asked.send().await {
            break stored;
        }
    };
    assert_eq!(stored.metadata().unwrap()["voxray-incomplete"], "true");

    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(s3.object(BUCKET, &key("call-1")).await.unwrap(), call.wav());
    assert!(
        !head(&s3, "call-1")
            .await
            .metadata()
            .unwrap()
            .contains_key("voxray-incomplete")
    );
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_keys_stop_the_start_with_advice() {
    let s3 = S3::start().await.unwrap();
    let mut place = Place::new();
    use_s3(&mut place, &s3);

    let missing = place.try_start(options(&s3)).await.err().unwrap();
    assert_eq!(missing.status, exit::UNAVAILABLE);
    assert!(missing.what.contains("\"calls\" does not exist"), "{missing}");
    assert!(missing.remedy.contains("recording.bucket"), "{missing}");

    let wrong = Options {
        s3_credentials: Some(Credentials::new(s3.access_key(), "wrong", None, None, "test")),
        ..Options::default()
    };
    let refused = place.try_start(wrong).await.err().unwrap();
    assert_eq!(refused.status, exit::UNAVAILABLE);
    assert!(refused.remedy.contains("AWS_ACCESS_KEY_ID"), "{refused}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_stops_the_start_with_advice() {
    let postgres = Postgres::start().await.unwrap();
    let mut place = Place::new();
    use_postgres(&mut place, &postgres.dsn("nowhere"));

    let refused = place.try_start(Options::default()).await.err().unwrap();

    assert_eq!(refused.status, exit::UNAVAILABLE);
    assert!(refused.what.contains("nowhere"), "{refused}");
}
