//! Nodes that die: what they sent is stored.
#![allow(clippy::unwrap_used, reason = "panics are how a test fails, in its helpers too")]

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use archiver_svc::Options;

use crate::common::{self, Call, Node, Place, Running, assert_rows};

/// A little longer than a node that lives takes to connect again.
const GONE: Duration = Duration::from_secs(6);
/// Every recording is tried again within this: the longest wait between two tries is shorter.
const TRIED: Duration = Duration::from_secs(20);

thread_local! {
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what this thread logs: all of a test that has one thread.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One subscriber for the whole process: with one a thread, whichever test logs first decides for all of them whether a
/// line is wanted.
fn keep_log() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    LOGGED.take();
}

/// The node dies, and so long ago that it would have come back if it lived.
async fn is_gone(node: Node) {
    drop(node);
    let seen = || LOGGED.with_borrow(|logged| String::from_utf8_lossy(logged).contains("archive stream closed"));
    common::until(seen).await;
    tokio::time::pause();
    tokio::time::advance(GONE).await;
    tokio::time::resume();
}

/// The store takes no recording until this is removed.
fn in_the_way(place: &Place) -> PathBuf {
    let in_the_way = place.config.recording.folder.join("recordings/2026");
    std::fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    std::fs::write(&in_the_way, "not a folder").unwrap();
    in_the_way
}

/// Shuts an archiver down whose store comes back only after every recording has been tried again.
async fn shut_down_until_the_store_is_back(archiver: Running, in_the_way: PathBuf) {
    archiver.shutdown.request();
    let readiness = archiver.archiver.readiness();
    common::until(|| readiness.check().is_err()).await;
    let stopped = archiver.archiver.stopped();
    tokio::pin!(stopped);
    tokio::time::pause();
    let ended = tokio::time::timeout(TRIED, &mut stopped).await;
    tokio::time::resume();
    assert!(ended.is_err(), "given up");
    std::fs::remove_file(in_the_way).unwrap();
    stopped.await;
}

#[tokio::test]
async fn what_a_dead_node_sent_is_stored_and_replaced_when_it_comes_back_with_all_of_it() {
    let place = Place::new();
    let options = Options {
        node_dead_after: Some(Duration::ZERO),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));
    let call = Call::recorded("call-1", 10, 160);
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events[..5]).await;
    node.until_received("call-1", 5).await;

    drop(node);
    common::until(|| place.recording("call-1").exists()).await;
    let part = std::fs::read(place.recording("call-1")).unwrap();
    assert!(part.len() > 44 && part.len() < call.wav().len());
    assert_eq!(part[44..], call.wav()[44..part.len()]);

    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}

#[tokio::test]
async fn what_a_lost_node_sent_is_stored_by_an_archiver_that_is_shut_down_before_it_counts_as_dead() {
    keep_log();
    let place = Place::new();
    let archiver = place.start().await;
    let in_the_way = in_the_way(&place);
    let (cut, whole) = (Call::recorded("call-1", 10, 160), Call::recorded("call-2", 10, 160));
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&cut.events[..5]).await;
    node.until_received("call-1", 5).await;
    node.send_all(&whole.events).await;
    node.until_received("call-2", whole.last()).await;
    is_gone(node).await;

    shut_down_until_the_store_is_back(archiver, in_the_way).await;

    let part = std::fs::read(place.recording("call-1")).unwrap();
    assert!(part.len() > 44 && part.len() < cut.wav().len());
    assert_eq!(part[44..], cut.wav()[44..part.len()]);
    assert_stored(&place, &[whole]).await;
}

#[tokio::test]
async fn what_a_lost_node_sent_is_stored_by_an_archiver_that_is_shut_down_while_it_holds_its_stream_back() {
    keep_log();
    let mut place = Place::new();
    (place.config.recording.worker_count, place.config.recording.queue_cap) = (1, 1);
    let archiver = place.start().await;
    let in_the_way = in_the_way(&place);
    let calls: Vec<_> = (0..2).map(|n| Call::recorded(&format!("call-{n}"), 10, 160)).collect();
    let mut node = Node::connect(archiver.address, "n1").await;
    // The first has the only place and keeps it; the second waits for it, and with it the stream.
    for call in &calls {
        node.send_all(&call.events).await;
        node.until_received(&call.id, call.last()).await;
    }
    is_gone(node).await;

    shut_down_until_the_store_is_back(archiver, in_the_way).await;

    assert_stored(&place, &calls).await;
}

/// All of them are stored, and noted, as another archiver sees.
async fn assert_stored(place: &Place, calls: &[Call]) {
    let again = place.start().await;
    for call in calls {
        assert_eq!(std::fs::read(place.recording(&call.id)).unwrap(), call.wav());
        let noted = again.transcripts.as_ref().unwrap().session(&call.id).await.unwrap();
        assert_eq!(noted.unwrap().recording_bytes, Some(call.wav().len() as u64));
        assert_rows(call, &again.rows(&call.id).await);
    }
}
