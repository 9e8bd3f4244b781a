//! Long recordings are stored while the call runs, and another archiver goes on where one stopped.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "panics are how a test fails, in its helpers too"
)]

use std::time::Duration;

use archiver_svc::Options;

use crate::common::{self, Call, Node, Place, Running, assert_rows};

/// Length of a part in these tests, bytes.
const PART: u64 = 64 * 1024;
/// Frames of a chunk: 200 ms, 6400 bytes.
pub const CHUNK: usize = 1600;

pub fn options() -> Options {
    Options {
        folder_part_bytes: Some(PART),
        ..Options::default()
    }
}

pub async fn start(place: &Place, options: Options) -> Running {
    place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"))
}

/// Sends the first events and returns up to where they become durable: at least this many parts.
async fn send_until_parts(node: &mut Node, call: &Call, events: usize, parts: u64) -> u64 {
    node.send_all(&call.events[..events]).await;
    let chunks = parts * PART / 6400 - 1;
    node.until_durable(&call.id, chunks).await;
    node.durable[&call.id]
}

pub fn unfinished(place: &Place, what: &str) -> usize {
    let folder = place.config.recording.folder.join(what);
    std::fs::read_dir(folder).map_or(0, |entries| entries.count())
}

#[tokio::test]
async fn whole_parts_of_a_running_call_are_durable_and_the_end_is_one_file() {
    let place = Place::new();
    let archiver = start(&place, options()).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 60, CHUNK);

    let durable = send_until_parts(&mut node, &call, 50, 3).await;
    assert!(durable < 50);
    assert!(!place.recording("call-1").exists());

    node.send_all(&call.events[50..]).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
    assert_eq!(
        (unfinished(&place, ".uploads"), unfinished(&place, "recordings/.open")),
        (0, 1)
    );
}

#[tokio::test]
async fn a_long_call_that_ended_before_its_first_part_could_be_stored_is_stored_whole() {
    let mut place = Place::new();
    place.config.recording.max_retries = 0;
    let archiver = start(&place, options()).await;
    let in_the_way = place.config.recording.folder.join("recordings");
    std::fs::write(&in_the_way, "not a folder").unwrap();
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 60, CHUNK);
    node.send_all(&call.events).await;
    node.until_received("call-1", call.last()).await;

    std::fs::remove_file(&in_the_way).unwrap();
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}

#[tokio::test]
async fn a_long_call_in_any_order_and_with_everything_twice_is_stored_in_parts_as_it_was() {
    let place = Place::new();
    let archiver = start(&place, options()).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 60, CHUNK);
    let mut events: Vec<_> = call.events.iter().chain(&call.events).cloned().collect();
    // A fixed shuffle: neighbours end up far apart, and the end long before the last part.
    events.sort_by_key(|event| event.sequence * 7919 % 101);

    node.send_all(&events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
    assert_eq!(unfinished(&place, ".uploads"), 0);
}

#[tokio::test]
async fn an_upload_that_is_gone_before_its_second_part_is_begun_again_and_later_the_recording_stays_with_its_node() {
    for (parts, is_lost) in [(1, false), (2, true)] {
        let place = Place::new();
        let archiver = start(&place, options()).await;
        let mut node = Node::connect(archiver.address, "n1").await;
        let call = Call::recorded("call-1", 60, CHUNK);
        // Ten chunks are just less than a part.
        let sent = 1 + parts * 15 + 8;
        node.send_all(&call.events[..sent]).await;
        node.until_received("call-1", sent as u64).await;
        node.until_durable("call-1", parts as u64 * 15).await;
        let durable = node.durable["call-1"];

        let uploads = std::fs::read_dir(place.config.recording.folder.join(".uploads")).unwrap();
        let uploads: Vec<_> = uploads.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(uploads.len(), 1);
        std::fs::remove_file(&uploads[0]).unwrap();
        node.send_all(&call.events[sent..]).await;
        if is_lost {
            node.until_received("call-1", call.last()).await;
            assert_eq!(node.durable["call-1"], durable);
            continue;
        }
        node.until_durable("call-1", call.last()).await;

        assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
        assert_eq!(unfinished(&place, ".uploads"), 0);
    }
}

#[tokio::test]
async fn a_second_archiver_goes_on_behind_what_the_first_made_durable() {
    let place = Place::new();
    let first = start(&place, options()).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 100, CHUNK);
    let durable = send_until_parts(&mut node, &call, 80, 3).await;
    first.kill().await;

    let second = start(&place, options()).await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &second.rows("call-1").await);
    assert_eq!(unfinished(&place, ".uploads"), 0);
}

/// As if the database had been away when the first archiver had these rows: its audio was stored, that was not noted, and
/// the node was told of nothing behind the turn before them.
async fn lose_rows_from(place: &Place, turn: u32) {
    use sqlx::Connection;
    let dsn = place.config.transcripts.dsn.expose();
    let mut database = sqlx::SqliteConnection::connect(dsn).await.unwrap();
    let rows = sqlx::query("DELETE FROM call_transcripts WHERE seq >= $1").bind(turn);
    assert!(rows.execute(&mut database).await.unwrap().rows_affected() > 0);
    database.close().await.unwrap();
    forget_note(place).await;
}

/// As if it had not been noted that the recording is stored.
async fn forget_note(place: &Place) {
    use sqlx::Connection;
    let dsn = place.config.transcripts.dsn.expose();
    let mut database = sqlx::SqliteConnection::connect(dsn).await.unwrap();
    let noted = sqlx::query("UPDATE call_transcripts_sessions SET recording_bytes = NULL");
    noted.execute(&mut database).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn turns_of_which_only_the_audio_was_stored_are_written_by_the_archiver_that_goes_on() {
    for sent in [80, 151] {
        let place = Place::new();
        let first = start(&place, options()).await;
        let mut node = Node::connect(first.address, "n1").await;
        let call = Call::recorded("call-1", 100, CHUNK);
        assert_eq!(call.last(), 152);
        node.send_all(&call.events[..sent]).await;
        node.until_durable("call-1", 3 * PART / 6400 - 1).await;
        if sent + 1 == call.events.len() {
            node.send_all(&call.events[sent..]).await;
            node.until_durable("call-1", call.last()).await;
        }
        first.kill().await;
        lose_rows_from(&place, 3).await;

        let second = start(&place, options()).await;
        let mut node = Node::connect(second.address, "n1").await;
        // The third turn is the tenth event.
        node.send_all(&call.behind(10)).await;
        node.until_durable("call-1", call.last()).await;

        assert_rows(&call, &second.rows("call-1").await);
        assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
        assert_eq!(noted_bytes(&second).await, Some(call.wav().len() as u64));
    }
}

/// Waits until SQL knows that the recording is stored, and returns its length.
async fn until_noted(archiver: &Running) -> u64 {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    loop {
        look.tick().await;
        if let Some(bytes) = noted_bytes(archiver).await {
            return bytes;
        }
    }
}

/// What SQL knows of the length of the recording.
async fn noted_bytes(archiver: &Running) -> Option<u64> {
    let store = archiver.transcripts.as_ref().unwrap();
    store.session("call-1").await.unwrap()?.recording_bytes
}

#[tokio::test]
async fn a_recording_that_was_stored_while_its_call_was_erased_goes_when_the_rest_of_the_call_comes() {
    let place = Place::new();
    let first = start(&place, options()).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 60, CHUNK);
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    // As if it had been erased before the object was there, and the archiver had died before it looked again.
    let store = first.transcripts.clone().unwrap();
    store.erase("call-1", time::OffsetDateTime::now_utc()).await.unwrap();
    store.forget_key("call-1").await.unwrap();
    first.kill().await;

    let second = start(&place, options()).await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(40)).await;
    node.until_durable("call-1", call.last()).await;

    assert!(!place.recording("call-1").exists());
    assert!(second.rows("call-1").await.is_empty());
}

#[tokio::test]
async fn an_archiver_that_is_shut_down_in_mid_call_hands_over_without_loss() {
    let mut place = Place::new();
    let first = start(&place, options()).await;
    place.config.archiver.spool_dir = place.dir.path().join("second-spool");
    let second = start(&place, options()).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 100, CHUNK);
    let durable = send_until_parts(&mut node, &call, 80, 3).await;

    first.shutdown.request();
    assert_eq!(node.until_closed().await.code(), tonic::Code::Unavailable);
    let durable = node.durable["call-1"].max(durable);
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("call-1", call.last()).await;
    first.archiver.stopped().await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &second.rows("call-1").await);
    assert_eq!(unfinished(&place, ".uploads"), 0);
}

#[tokio::test]
async fn a_node_that_missed_the_acknowledgements_sends_all_of_it_and_nothing_is_stored_twice() {
    let place = Place::new();
    let first = start(&place, options()).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 60, CHUNK);
    send_until_parts(&mut node, &call, 50, 2).await;
    first.kill().await;

    let second = start(&place, options()).await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &second.rows("call-1").await);
    assert_eq!(unfinished(&place, ".uploads"), 0);
}

#[tokio::test]
async fn a_call_that_ended_is_acknowledged_by_an_archiver_that_knows_only_what_is_stored() {
    let place = Place::new();
    let first = start(&place, options()).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 60, CHUNK);
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    let written = std::fs::metadata(place.recording("call-1"))
        .unwrap()
        .modified()
        .unwrap();
    first.kill().await;

    let second = start(&place, options()).await;
    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(40)).await;
    node.until_durable("call-1", call.last()).await;
    let mut again = Node::connect(second.address, "n2").await;
    again.send_all(&call.events).await;
    again.until_durable("call-1", call.last()).await;

    let there = std::fs::metadata(place.recording("call-1"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(there, written);
}

#[tokio::test]
async fn what_a_dead_node_sent_of_a_long_call_is_closed_and_goes_on_when_it_comes_back() {
    let place = Place::new();
    let dies_at_once = Options {
        node_dead_after: Some(Duration::ZERO),
        ..options()
    };
    let archiver = start(&place, dies_at_once).await;
    let call = Call::recorded("call-1", 80, CHUNK);
    let mut node = Node::connect(archiver.address, "n1").await;
    let durable = send_until_parts(&mut node, &call, 60, 3).await;
    node.until_received("call-1", 60).await;

    drop(node);
    common::until(|| place.recording("call-1").exists()).await;
    let part = std::fs::read(place.recording("call-1")).unwrap();
    let reader = hound::WavReader::new(part.as_slice()).unwrap();
    assert_eq!(reader.len() as usize * 2 + 44, part.len());
    assert_eq!(part[44..], call.wav()[44..part.len()]);

    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &archiver.rows("call-1").await);
    common::until(|| unfinished(&place, ".uploads") == 0).await;
}

#[tokio::test]
async fn a_node_that_comes_back_and_dies_again_before_it_has_sent_more_leaves_what_is_closed_as_it_is() {
    // What it sends then: some audio, less than is closed; or none, a turn of whose acknowledgement it has not heard.
    for (durable, sent) in [(46, 2), (45, 1)] {
        let place = Place::new();
        let dies_at_once = Options {
            node_dead_after: Some(Duration::ZERO),
            ..options()
        };
        let archiver = start(&place, dies_at_once).await;
        let call = Call::recorded("call-1", 80, CHUNK);
        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.events[..60]).await;
        // Chunk 31, which is event 47, is the end of the third part.
        node.until_durable("call-1", 46).await;
        node.until_received("call-1", 60).await;
        drop(node);
        until_noted(&archiver).await;
        let closed = std::fs::read(place.recording("call-1")).unwrap();
        forget_note(&place).await;

        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.behind(durable)[..sent]).await;
        node.until_received("call-1", durable + sent as u64).await;
        drop(node);
        until_noted(&archiver).await;
        assert!(std::fs::read(place.recording("call-1")).unwrap() == closed);

        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.behind(46)).await;
        node.until_durable("call-1", call.last()).await;
        assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
        common::until(|| unfinished(&place, ".uploads") == 0).await;
    }
}

#[tokio::test]
async fn a_node_that_went_to_another_archiver_is_not_taken_for_dead() {
    let mut place = Place::new();
    let dies_at_once = Options {
        node_dead_after: Some(Duration::ZERO),
        ..options()
    };
    let first = start(&place, dies_at_once).await;
    place.config.archiver.spool_dir = place.dir.path().join("second-spool");
    let second = start(&place, options()).await;
    let call = Call::recorded("call-1", 80, CHUNK);
    let mut node = Node::connect(first.address, "n1").await;
    let durable = send_until_parts(&mut node, &call, 50, 3).await;

    let claim = place.config.recording.folder.join("recordings/.nodes/6e31");
    common::until(|| claim.exists()).await;
    let first_claim = std::fs::read(&claim).unwrap();
    let mut moved = Node::connect(second.address, "n1").await;
    moved.send_all(&call.behind(durable)[..20]).await;
    moved.until_received("call-1", durable + 20).await;
    common::until(|| std::fs::read(&claim).unwrap() != first_claim).await;

    drop(node);
    first.shutdown.request();
    first.archiver.stopped().await;
    assert!(!place.recording("call-1").exists());

    moved.send_all(&call.behind(durable)[20..]).await;
    moved.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}

#[tokio::test]
async fn two_archivers_that_both_have_a_call_store_it_once() {
    let mut place = Place::new();
    let first = start(&place, options()).await;
    place.config.archiver.spool_dir = place.dir.path().join("second-spool");
    let second = start(&place, options()).await;
    let call = Call::recorded("call-1", 80, CHUNK);
    let mut one = Node::connect(first.address, "n1").await;
    let mut two = Node::connect(second.address, "n1").await;

    for event in &call.events {
        one.send(event).await;
        two.send(event).await;
    }
    one.until_durable("call-1", call.last()).await;
    two.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
    assert_rows(&call, &second.rows("call-1").await);
    // The one that came second gives its upload up after it has answered.
    common::until(|| unfinished(&place, ".uploads") == 0).await;
}

#[tokio::test]
async fn a_recording_that_nobody_goes_on_with_is_closed_with_what_is_stored_of_it() {
    let mut place = Place::new();
    let first = start(&place, options()).await;
    let mut node = Node::connect(first.address, "n1").await;
    let call = Call::recorded("call-1", 80, CHUNK);
    let durable = send_until_parts(&mut node, &call, 60, 3).await;
    first.kill().await;
    std::fs::write(
        place.config.recording.folder.join(".uploads/recordings%2026%x.wav.1"),
        "stray",
    )
    .unwrap();

    // What nobody can read keeps nothing else from being cleared up, wherever it stands in the list.
    let junk = ["a", "call-0", "call-2", "z"].map(|id| format!("recordings/.open/{id}.json"));
    let junk = junk.map(|key| place.config.recording.folder.join(key));
    junk.iter().for_each(|file| std::fs::write(file, "{").unwrap());

    place.config.recording.upload_max_age_secs = 0;
    let second = start(&place, options()).await;
    common::until(|| place.recording("call-1").exists() && unfinished(&place, ".uploads") == 0).await;
    let closed = std::fs::read(place.recording("call-1")).unwrap();
    assert_eq!(until_noted(&second).await, closed.len() as u64);
    assert!(junk.iter().all(|file| file.exists()));
    assert_eq!(closed.len() as u64 % PART, 0);
    assert_eq!(closed[44..], call.wav()[44..closed.len()]);

    let mut node = Node::connect(second.address, "n1").await;
    node.send_all(&call.behind(durable)).await;
    node.until_durable("call-1", call.last()).await;
    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}

#[tokio::test]
async fn a_node_that_was_cut_off_behind_durable_parts_ends_its_call_without_a_hash() {
    use voxray_proto::archive::event::Body;
    let place = Place::new();
    let archiver = start(&place, options()).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let mut call = Call::recorded("call-1", 60, CHUNK);
    if let Some(Body::Ended(ended)) = call.events.last_mut().and_then(|event| event.body.as_mut()) {
        ended.pcm_sha256.clear();
        ended.reason = "node_restarted".to_owned();
    }

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    assert_eq!(std::fs::read(place.recording("call-1")).unwrap(), call.wav());
}
