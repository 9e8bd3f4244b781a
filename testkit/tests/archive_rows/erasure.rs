//! What was erased stays erased, whatever is sent again.

use std::time::Duration;

use archiver_svc::Options;
use service_kit::config::{AudioFormat, Secret};
use service_kit::grpc::AttachToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use voxray_proto::archive::archive_query_client::ArchiveQueryClient;
use voxray_proto::archive::{EraseSessionRequest, EraseSessionResponse};
use voxray_testkit::wait::eventually;

use crate::common::{Call, Node, Place, Running, TOKEN, assert_rows};
use crate::databases::{Databases, archive, session};

const LIMIT: Duration = Duration::from_secs(60);

pub async fn query(archiver: &Running) -> ArchiveQueryClient<InterceptedService<Channel, AttachToken>> {
    let channel = Channel::from_shared(format!("http://{}", archiver.address))
        .unwrap()
        .connect()
        .await
        .unwrap();
    ArchiveQueryClient::with_interceptor(channel, AttachToken::new(&Secret::new(TOKEN)))
}

async fn erase(archiver: &Running, id: &str) -> EraseSessionResponse {
    let request = EraseSessionRequest {
        session_id: id.to_owned(),
        requested_by: "test".to_owned(),
    };
    query(archiver).await.erase_session(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn an_erased_call_is_gone_and_stays_gone_when_it_is_sent_again() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let archiver = database.start().await;
        let (call, other) = (Call::recorded("call-1", 8, 400), Call::recorded("call-2", 8, 400));
        archive(&archiver, "n1", &call).await;
        archive(&archiver, "n1", &other).await;
        let recording = database.place.recording("call-1");
        assert!(recording.is_file());

        let erased = erase(&archiver, "call-1").await;
        assert_eq!(
            (erased.rows, erased.recording, erased.again),
            (4, true, false),
            "{}",
            database.name
        );
        assert!(!recording.exists() && archiver.rows("call-1").await.is_empty());
        let again = erase(&archiver, "call-1").await;
        assert_eq!(
            (again.rows, again.recording, again.again),
            (0, false, true),
            "{}",
            database.name
        );

        // Another archiver remembers nothing of it but what is in the database.
        archiver.kill().await;
        let second = database.start().await;
        archive(&second, "n1", &call).await;
        assert!(second.rows("call-1").await.is_empty(), "{}", database.name);
        assert!(!recording.exists(), "{}", database.name);
        let grave = session(&second, "call-1").await.unwrap();
        assert!(grave.erased && grave.started_at.is_none() && grave.recording_key.is_none());
        assert_rows(&other, &second.rows("call-2").await);
        assert!(database.place.recording("call-2").is_file());
    }
}

#[tokio::test]
async fn of_a_call_erased_while_it_runs_nothing_more_is_kept() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let archiver = database.start().await;
        let call = Call::recorded("call-1", 12, 400);
        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.events[..10]).await;
        node.until_received("call-1", 10).await;
        let written = eventually("a row of the running call", LIMIT, || async {
            Ok((!archiver.rows("call-1").await.is_empty()).then_some(()))
        });
        written.await.unwrap();

        erase(&archiver, "call-1").await;
        node.send_all(&call.events[10..]).await;
        node.until_durable("call-1", call.last()).await;

        assert!(archiver.rows("call-1").await.is_empty(), "{}", database.name);
        assert!(!database.place.recording("call-1").exists(), "{}", database.name);
    }
}

#[tokio::test]
async fn the_rest_of_an_erased_call_finds_another_archiver_that_takes_it() {
    let servers = Databases::start().await;
    for database in servers.all() {
        // Without a recording turns become durable one by one, and the node forgets them.
        let call = Call::unrecorded("call-1", 6);
        let first = database.start().await;
        let mut node = Node::connect(first.address, "n1").await;
        node.send_all(&call.events[..4]).await;
        node.until_durable("call-1", 4).await;
        erase(&first, "call-1").await;
        first.kill().await;

        let second = database.start_with(Options::default()).await;
        let mut node = Node::connect(second.address, "n1").await;
        node.send_all(&call.behind(4)).await;

        node.until_durable("call-1", call.last()).await;
        assert!(second.rows("call-1").await.is_empty(), "{}", database.name);
    }
}

#[tokio::test]
async fn the_rest_of_a_long_recorded_call_that_was_erased_while_it_ran_finds_another_archiver_that_takes_it() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let in_parts = || Options {
            folder_part_bytes: Some(64 * 1024),
            ..Options::default()
        };
        let call = Call::recorded("call-1", 60, 1600);
        let first = database.start_with(in_parts()).await;
        let mut node = Node::connect(first.address, "n1").await;
        node.send_all(&call.events[..50]).await;
        // Chunk 31, which is event 47, is the end of the third part.
        node.until_durable("call-1", 46).await;
        erase(&first, "call-1").await;
        first.kill().await;

        let second = database.start_with(in_parts()).await;
        let mut node = Node::connect(second.address, "n1").await;
        node.send_all(&call.behind(46)).await;

        node.until_durable("call-1", call.last()).await;
        assert!(second.rows("call-1").await.is_empty(), "{}", database.name);
        let left = |folder: &str| {
            let left = std::fs::read_dir(database.place.config.recording.folder.join(folder));
            left.map_or(0, |left| left.count())
        };
        assert!(!database.place.recording("call-1").exists(), "{}", database.name);
        assert_eq!(
            (left(".uploads"), left("recordings/.open")),
            (0, 0),
            "{}",
            database.name
        );
    }
}

#[tokio::test]
async fn of_a_call_that_was_stored_in_another_format_before_nothing_is_left() {
    let mut place = Place::new();
    let dies_at_once = Options {
        node_dead_after: Some(Duration::ZERO),
        ..Options::default()
    };
    let first = place
        .try_start(dies_at_once)
        .await
        .unwrap_or_else(|fatal| panic!("{fatal}"));
    let call = Call::recorded("call-1", 8, 400);
    let mut node = Node::connect(first.address, "n1").await;
    node.send_all(&call.events[..6]).await;
    node.until_received("call-1", 6).await;
    drop(node);
    let closed = place.recording("call-1");
    let there = eventually("what came before the node was lost", LIMIT, || async {
        Ok(closed.exists().then_some(()))
    });
    there.await.unwrap();
    first.kill().await;
    place.config.recording.format = AudioFormat::Flac;
    let second = place.start().await;
    archive(&second, "n1", &call).await;
    let whole = closed.with_extension("flac");
    assert!(closed.exists() && whole.exists());

    erase(&second, "call-1").await;

    assert!(!closed.exists() && !whole.exists());
}

#[tokio::test]
async fn a_call_nobody_has_seen_yet_can_be_erased_as_well() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let archiver = database.start().await;
        let call = Call::recorded("call-1", 4, 400);

        let erased = erase(&archiver, "call-1").await;
        archive(&archiver, "n1", &call).await;

        assert_eq!(
            (erased.rows, erased.recording, erased.again),
            (0, false, false),
            "{}",
            database.name
        );
        assert!(archiver.rows("call-1").await.is_empty() && !database.place.recording("call-1").exists());
    }
}
