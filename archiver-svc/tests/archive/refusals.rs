//! What stops an archiver at start, and who is not let in: each says what to do.

use std::time::Duration;

use crate::common::{self, Call, Node, Place};
use archiver_svc::Options;
use service_kit::config::Secret;
use service_kit::exit::{self, Fatal};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tonic::Code;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{Event, Turn};

async fn refusal(place: &Place) -> Fatal {
    match place.try_start(Options::default()).await {
        Ok(_) => panic!("it started"),
        Err(fatal) => fatal,
    }
}

#[tokio::test]
async fn a_table_name_that_is_no_identifier_is_refused() {
    let mut place = Place::new();
    place.config.transcripts.table_name = "calls; DROP TABLE calls".to_owned();
    let fatal = refusal(&place).await;
    assert_eq!(fatal.status, exit::CONFIG);
    assert!(fatal.what.contains("transcripts.table_name"), "{fatal}");
}

#[tokio::test]
async fn an_empty_or_malformed_dsn_is_refused_with_an_example() {
    let mut place = Place::new();
    for (driver, dsn) in [
        (service_kit::config::TranscriptDriver::Sqlite, ""),
        (service_kit::config::TranscriptDriver::Postgres, "not a dsn"),
        (
            service_kit::config::TranscriptDriver::Postgres,
            "postgres://u:secret@h/db?pool_max_conns=x",
        ),
    ] {
        place.config.transcripts.driver = driver;
        place.config.transcripts.dsn = Secret::new(dsn);
        let fatal = refusal(&place).await;
        assert_eq!(fatal.status, exit::CONFIG, "{fatal}");
        assert!(
            fatal.remedy.contains("://") && !fatal.what.contains("secret"),
            "{fatal}"
        );
    }
}

#[tokio::test]
async fn a_database_that_refuses_is_named() {
    let mut place = Place::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    place.config.transcripts.driver = service_kit::config::TranscriptDriver::Postgres;
    place.config.transcripts.dsn = Secret::new(format!("postgres://u:p@{closed}/db"));
    let fatal = refusal(&place).await;
    assert_eq!(fatal.status, exit::UNAVAILABLE);
    assert!(fatal.remedy.contains("transcripts.dsn"), "{fatal}");
}

#[tokio::test]
async fn folders_that_cannot_be_written_are_named() {
    let mut place = Place::new();
    let file = place.dir.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let good = place.config.clone();
    place.config.recording.folder = file.join("recordings");
    assert_eq!(refusal(&place).await.status, exit::CANNOT_CREATE);
    place.config = good.clone();
    place.config.archiver.spool_dir = file.join("spool");
    assert!(refusal(&place).await.remedy.contains("archiver.spool_dir"));
    place.config = good;
    place.config.transcripts.dsn = Secret::new(format!("sqlite://{}", file.join("t.db").display()));
    assert!(refusal(&place).await.remedy.contains("transcripts.dsn"));
}

#[tokio::test]
async fn two_archivers_do_not_share_a_spool_folder() {
    let place = Place::new();
    let _first = place.start().await;
    let fatal = refusal(&place).await;
    assert_eq!(fatal.status, exit::CANNOT_CREATE);
    assert!(fatal.what.contains("another archiver"), "{fatal}");
}

#[tokio::test]
async fn an_s3_that_is_not_there_is_named() {
    let mut place = Place::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    place.config.recording.bucket = Some("calls".to_owned());
    place.config.s3.endpoint = Some(format!("http://{closed}"));
    let fatal = refusal(&place).await;
    assert!(matches!(fatal.status, exit::UNAVAILABLE | exit::CONFIG), "{fatal}");
    assert!(fatal.what.contains("S3"), "{fatal}");
}

#[tokio::test]
async fn a_node_with_another_token_is_not_let_in() {
    let place = Place::new();
    let archiver = place.start().await;
    let status = match Node::without_hello(archiver.address, "wrong").await {
        Ok(_) => panic!("it was let in"),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_stranger_is_let_go_and_a_node_stays() {
    let mut place = Place::new();
    place.config.http.connections.header_timeout = Duration::from_millis(200);
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut stranger = TcpStream::connect(archiver.address).await.unwrap();

    // A reset is as good as a close.
    let _ = stranger.read_to_end(&mut Vec::new()).await;

    let call = Call::unrecorded("call-1", 1);
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
}

#[tokio::test]
async fn a_message_larger_than_any_event_ends_its_stream() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let turn = Turn {
        text: "x".repeat(1024 * 1024),
        ..Turn::default()
    };
    let event = Event {
        session_id: "call-1".to_owned(),
        sequence: 1,
        body: Some(Body::Turn(turn)),
        ..Event::default()
    };

    node.send(&event).await;

    assert_eq!(node.until_closed().await.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_stream_that_does_not_say_who_it_is_is_closed() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::without_hello(archiver.address, common::TOKEN).await.unwrap();
    node.send(&Call::unrecorded("call-1", 1).events[0]).await;
    assert_eq!(node.until_closed().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn ids_that_would_leave_the_folder_are_not_archived() {
    let place = Place::new();
    let archiver = place.start().await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let (evil, good) = (Call::recorded("../../evil", 2, 160), Call::recorded("good", 2, 160));

    node.send_all(&evil.events).await;
    node.send_all(&good.events).await;
    node.until_durable("good", good.last()).await;

    assert!(node.received.keys().all(|id| id == "good"));
    assert!(!place.dir.path().join("evil.wav").exists());
}
