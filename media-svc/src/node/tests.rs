//! What the fleet sees of a node, in virtual time.

mod measured;
mod store;

use std::sync::Mutex;

use media_core::conversation::Input;
use service_kit::config::{MediaTransport, Secret};
use tempfile::TempDir;
use tokio::sync::mpsc;

use self::store::{FakeStore, Seen};
use super::reporter::{STRAY_AGE, STRAY_LOOKS};
use super::*;
use crate::archive::{ArchiveSink, Outbox, UplinkTiming};
use crate::call::registry::{Arrival, Refusal, Reservation, Slot};

struct Setup {
    node: Node,
    calls: Calls,
    store: Arc<FakeStore>,
    seen: mpsc::Receiver<Seen>,
    uplink: Uplink,
    outbox: Arc<Outbox>,
    _dir: TempDir,
}

fn links() -> Links {
    Links {
        archiver_url: None,
        media_control_url: None,
        media_advertise_url: None,
        service_token: Secret::default(),
        tls: None,
    }
}

fn setup(capacity: usize) -> Setup {
    setup_measuring(capacity, None)
}

fn setup_measuring(capacity: usize, measured: Option<Limit>) -> Setup {
    let scope = TaskScope::root("test");
    let calls = Calls::new(&scope, capacity, &[MediaTransport::Telephony]);
    let (sender, seen) = mpsc::channel(64);
    let store = Arc::new(FakeStore {
        seen: sender,
        away: Mutex::new(false),
        empty: Mutex::new(true),
        connected: Mutex::default(),
        reported: Mutex::default(),
    });
    let dir = tempfile::tempdir().unwrap();
    let settings = service_kit::config::Outbox {
        dir: dir.path().to_owned(),
        max_bytes: 1 << 30,
    };
    let outbox = Arc::new(Outbox::open(&settings).unwrap());
    let uplink = Uplink::start(&scope, Arc::clone(&outbox), &links(), "node-1", UplinkTiming::default()).unwrap();
    let registration = Registration {
        node_id: "node-1".into(),
        control_url: "http://10.0.0.7:9090".to_owned(),
        public_url: "ws://10.0.0.7:8080".to_owned(),
        zone: Some("z".to_owned()),
        drain_timeout: Duration::from_secs(600),
        flush_timeout: Duration::from_secs(20),
        drain_message: Some("Goodbye.".to_owned()),
        measured,
    };
    let node = Node::start(registration, store.clone(), calls.clone(), &scope);
    Setup {
        node,
        calls,
        store,
        seen,
        uplink,
        outbox,
        _dir: dir,
    }
}

fn connect(calls: &Calls, session_id: &str) -> (Slot, mpsc::Receiver<Input>) {
    let (input, orders) = mpsc::channel(1);
    let arrival = Arrival {
        session_id: session_id.into(),
        transport: MediaTransport::Telephony,
        provider: String::new(),
    };
    (calls.connect(arrival, input).unwrap(), orders)
}

fn reservation(session_id: &str) -> Reservation {
    Reservation {
        session_id: session_id.into(),
        transport: MediaTransport::Telephony,
        provider: String::new(),
        call_id: String::new(),
        body_json: String::new(),
        ttl: Duration::from_secs(60),
    }
}

fn beat(sessions: u32, draining: bool) -> Option<Seen> {
    Some(Seen::Heartbeat { sessions, draining })
}

#[tokio::test(start_paused = true)]
async fn a_node_reports_at_once_and_then_every_heartbeat() {
    let mut setup = setup(5);
    let began = Instant::now();
    for expected in [0, 2, 4] {
        assert_eq!(setup.seen.recv().await, beat(0, false));
        assert_eq!(began.elapsed().as_secs(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn filling_up_freeing_and_draining_are_reported_without_waiting_for_the_heartbeat() {
    let mut setup = setup(1);
    assert_eq!(setup.seen.recv().await, beat(0, false));
    let began = Instant::now();
    let (slot, _orders) = connect(&setup.calls, "a");
    assert_eq!(setup.seen.recv().await, beat(1, false));
    drop(slot);
    assert_eq!(setup.seen.recv().await, beat(0, false));
    setup.calls.start_draining();
    assert_eq!(setup.seen.recv().await, beat(0, true));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_tried_again_until_it_answers() {
    let mut setup = setup(5);
    assert_eq!(setup.seen.recv().await, beat(0, false));
    *setup.store.away.lock().unwrap() = true;
    assert_eq!(setup.seen.recv().await, Some(Seen::Refused));
    assert_eq!(setup.seen.recv().await, Some(Seen::Refused));
    *setup.store.away.lock().unwrap() = false;
    assert_eq!(setup.seen.recv().await, beat(0, false));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_has_in_a_store_that_comes_back_is_written_again() {
    let mut setup = setup(5);
    let mut restores = setup.node.restores();
    assert_eq!(setup.seen.recv().await, beat(0, false));
    setup.calls.reserve(reservation("expected")).unwrap();
    assert_eq!(setup.seen.recv().await, beat(1, false));
    assert!(!restores.has_changed().unwrap(), "nothing was lost");

    *setup.store.away.lock().unwrap() = true;
    assert_eq!(setup.seen.recv().await, Some(Seen::Refused));
    *setup.store.away.lock().unwrap() = false;
    let began = Instant::now();
    assert_eq!(setup.seen.recv().await, beat(1, false));
    assert_eq!(setup.seen.recv().await, Some(Seen::Written("expected".to_owned())));
    restores.changed().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_never_away_and_knows_the_node_no_more_has_lost_everything() {
    let mut setup = setup(5);
    let mut restores = setup.node.restores();
    assert_eq!(setup.seen.recv().await, beat(0, false));
    assert_eq!(setup.seen.recv().await, beat(0, false));
    assert!(!restores.has_changed().unwrap());

    *setup.store.empty.lock().unwrap() = true;
    assert_eq!(setup.seen.recv().await, beat(0, false));

    restores.changed().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_that_a_process_of_this_name_did_not_live_to_end_are_over() {
    let mut setup = setup(5);
    *setup.store.connected.lock().unwrap() = vec![
        ("elsewhere", "node-2"),
        ("coming", ""),
        ("killed", "node-1"),
        ("here", "node-1"),
    ];
    let (_slot, _orders) = connect(&setup.calls, "here");

    assert_eq!(setup.seen.recv().await, beat(1, false));
    assert_eq!(setup.seen.recv().await, Some(Seen::Left("killed".to_owned())));
    assert_eq!(setup.seen.recv().await, beat(1, false), "and nothing else");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_that_a_replica_had_not_heard_of_is_told_once_more() {
    let mut setup = setup(5);
    let (_slot, _orders) = connect(&setup.calls, "here");
    assert_eq!(setup.seen.recv().await, beat(1, false));
    assert_eq!(setup.seen.recv().await, beat(1, false));

    // It took over between two reports.
    *setup.store.connected.lock().unwrap() = vec![("elsewhere", "node-2"), ("ended", "node-1"), ("here", "node-1")];
    *setup.store.empty.lock().unwrap() = true;

    assert_eq!(setup.seen.recv().await, beat(1, false));
    assert_eq!(setup.seen.recv().await, Some(Seen::Left("ended".to_owned())));
    assert_eq!(setup.seen.recv().await, beat(1, false), "and nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_node_with_more_calls_than_it_can_carry_keeps_them_and_takes_no_more() {
    let setup = setup(5);
    let (_a, _b) = (connect(&setup.calls, "a"), connect(&setup.calls, "b"));
    setup.calls.set_capacity(1);
    assert!(setup.calls.load().is_full());
    assert_eq!(
        setup.calls.reserve(reservation("c")),
        Err(Refusal::Full { capacity: 1 })
    );
    assert_eq!(setup.calls.list().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_went_to_another_node_gives_its_slot_back() {
    let setup = setup(5);
    *setup.store.connected.lock().unwrap() = vec![("elsewhere", "node-2"), ("coming", "")];
    for session_id in ["elsewhere", "coming", "over"] {
        setup.calls.reserve(reservation(session_id)).unwrap();
    }

    // One whose record is missing is looked for again: a store that lost it gets it back in between.
    tokio::time::sleep(STRAY_AGE + NODE_HEARTBEAT * (STRAY_LOOKS + 1)).await;

    let waiting = setup.calls.list();
    let waiting: Vec<&str> = waiting.iter().map(|listed| listed.session_id.as_ref()).collect();
    assert_eq!(waiting, ["coming"]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_leaves_at_once() {
    let mut setup = setup(5);
    let began = Instant::now();
    let drained = setup.node.drain(&Shutdown::new(), &setup.uplink).await;
    assert_eq!((drained.ended, drained.left, drained.archived), (0, 0, Ok(())));
    assert_eq!(began.elapsed(), Duration::ZERO);
    let mut last = None;
    while let Ok(seen) = setup.seen.try_recv() {
        last = Some(seen);
    }
    assert_eq!(last, Some(Seen::Removed));
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_says_so_first_waits_for_its_call_and_is_never_registered_again() {
    let mut setup = setup(5);
    assert_eq!(setup.seen.recv().await, beat(0, false));
    let (slot, mut orders) = connect(&setup.calls, "a");
    let call = async move {
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(
            orders.try_recv().is_err(),
            "a call within the drain timeout is left alone"
        );
        drop(slot);
    };
    let shutdown = Shutdown::new();
    let began = Instant::now();
    let watch = async {
        assert_eq!(setup.seen.recv().await, beat(1, true));
        loop {
            match setup.seen.recv().await {
                Some(Seen::Heartbeat { draining, .. }) => assert!(draining),
                other => return other,
            }
        }
    };
    let (drained, (), last) = tokio::join!(setup.node.drain(&shutdown, &setup.uplink), call, watch);
    assert_eq!(drained.ended, 0);
    assert_eq!(began.elapsed().as_secs(), 300);
    assert_eq!(last, Some(Seen::Removed));
    tokio::time::advance(NODE_HEARTBEAT * 3).await;
    assert!(setup.seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn calls_that_outlast_the_drain_timeout_are_ended_with_last_words() {
    let mut setup = setup(5);
    let (slot, mut orders) = connect(&setup.calls, "a");
    let call = async move {
        let order = orders.recv().await;
        drop(slot);
        order
    };
    let began = Instant::now();
    let listen = async { while setup.seen.recv().await != Some(Seen::Removed) {} };
    let shutdown = Shutdown::new();
    let (drained, order, ()) = tokio::join!(setup.node.drain(&shutdown, &setup.uplink), call, listen);
    assert_eq!((drained.ended, drained.left), (1, 0));
    assert_eq!(began.elapsed().as_secs(), 600);
    let Some(Input::EndRequested { reason, last_words }) = order else {
        panic!("{order:?}")
    };
    assert_eq!(reason, EndReason::Drained);
    assert_eq!(last_words.as_deref(), Some("Goodbye."));
}

#[tokio::test(start_paused = true)]
async fn a_second_request_cuts_the_wait_and_a_stuck_call_holds_it_ten_seconds_at_most() {
    let mut setup = setup(5);
    let (_slot, _orders) = connect(&setup.calls, "stuck");
    let shutdown = Shutdown::new();
    shutdown.hurry_now();
    let began = Instant::now();
    let listen = async { while setup.seen.recv().await != Some(Seen::Removed) {} };
    let (drained, ()) = tokio::join!(setup.node.drain(&shutdown, &setup.uplink), listen);
    assert_eq!((drained.ended, drained.left), (1, 1));
    assert_eq!(began.elapsed(), GOODBYE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn what_the_archive_does_not_have_is_said_at_the_end() {
    let setup = setup(5);
    let session = ArchiveSink::open(&*setup.outbox, "a").unwrap();
    let ended = voxray_proto::archive::SessionEnded::default();
    session
        .append(voxray_proto::archive::event::Body::Ended(ended))
        .unwrap();
    let drained = setup.node.drain(&Shutdown::new(), &setup.uplink).await;
    assert_eq!(drained.archived, Err(Undelivered { events: 1 }));
}

#[tokio::test]
async fn the_record_tells_what_placement_needs() {
    let setup = setup(5);
    let record = setup.node.record();
    assert_eq!(
        (record.capacity, record.transports.as_slice()),
        (5, ["telephony".to_owned()].as_slice())
    );
    assert_eq!(record.version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_node_advertises_what_is_configured_or_what_it_has_bound() {
    let any: SocketAddr = "0.0.0.0:8080".parse().unwrap();
    let any6: SocketAddr = "[::]:8080".parse().unwrap();
    let mut links = links();
    assert_eq!(control_url(&links, any), "http://127.0.0.1:8080");
    assert_eq!(public_url(&links, false, any6), "ws://[::1]:8080");
    assert_eq!(
        public_url(&links, true, "10.0.0.7:443".parse().unwrap()),
        "wss://10.0.0.7:443"
    );
    links.media_control_url = Some("http://node-1:9090".to_owned());
    links.media_advertise_url = Some("node-1.example.com:443".to_owned());
    assert_eq!(control_url(&links, any), "http://node-1:9090");
    assert_eq!(public_url(&links, true, any), "wss://node-1.example.com:443");
    links.media_advertise_url = Some("wss://edge.example.com/node-1".to_owned());
    assert_eq!(public_url(&links, false, any), "wss://edge.example.com/node-1");
}
