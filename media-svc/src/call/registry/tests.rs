//! What the registry of calls promises.

use std::sync::Arc;
use std::time::Duration;

use media_core::conversation::{EndReason, Input, Notice};
use service_kit::config::MediaTransport;
use service_kit::tasks::TaskScope;
use tokio::sync::mpsc;

use super::{Arrival, CallState, Calls, EndError, Refusal, Reservation, Slot};

fn calls(capacity: usize) -> Calls {
    let served = [MediaTransport::Telephony, MediaTransport::WebSocket];
    Calls::new(&TaskScope::root("test"), capacity, &served)
}

fn reservation(session_id: &str) -> Reservation {
    Reservation {
        session_id: session_id.into(),
        transport: MediaTransport::Telephony,
        provider: "twilio".to_owned(),
        call_id: "CA1".to_owned(),
        body_json: "{}".to_owned(),
        ttl: Duration::from_secs(60),
    }
}

fn arrival(session_id: &str) -> Arrival {
    Arrival {
        session_id: session_id.into(),
        transport: MediaTransport::Telephony,
        provider: "twilio".to_owned(),
    }
}

fn connect(calls: &Calls, session_id: &str) -> Result<(Slot, mpsc::Receiver<Input>), Refusal> {
    let (input, orders) = mpsc::channel(1);
    Ok((calls.connect(arrival(session_id), input)?, orders))
}

#[tokio::test]
async fn a_full_node_refuses_until_a_slot_is_dropped() {
    let calls = calls(2);
    let (first, _orders) = connect(&calls, "a").unwrap();
    calls.reserve(reservation("b")).unwrap();
    assert_eq!(calls.reserve(reservation("c")), Err(Refusal::Full { capacity: 2 }));
    assert_eq!(connect(&calls, "c").err(), Some(Refusal::Full { capacity: 2 }));
    drop(first);
    assert!(connect(&calls, "c").is_ok());
}

#[tokio::test]
async fn a_reserved_session_connects_to_a_full_node_and_learns_what_was_said_about_it() {
    let calls = calls(1);
    calls.reserve(reservation("a")).unwrap();
    let (slot, _orders) = connect(&calls, "a").unwrap();
    assert_eq!(slot.reservation(), Some(&reservation("a")));
    assert_eq!(calls.load().sessions, 1);
}

#[tokio::test]
async fn a_session_cannot_be_connected_twice() {
    let calls = calls(5);
    let (_slot, _orders) = connect(&calls, "a").unwrap();
    assert_eq!(connect(&calls, "a").err(), Some(Refusal::AlreadyConnected));
    assert_eq!(calls.reserve(reservation("a")), Err(Refusal::AlreadyConnected));
    assert_eq!(calls.load().sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_nobody_claims_frees_its_slot_and_tells_those_who_watch() {
    let calls = calls(1);
    let mut changes = calls.load_changes();
    calls.reserve(reservation("a")).unwrap();
    changes.wait_for(|load| load.sessions == 1).await.unwrap();
    let began = tokio::time::Instant::now();
    changes.wait_for(|load| load.sessions == 0).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(calls.reserve(reservation("b")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn reservations_run_out_each_at_its_own_time() {
    let calls = calls(5);
    calls.reserve(reservation("long")).unwrap();
    let ttl = Duration::from_secs(5);
    calls
        .reserve(Reservation {
            ttl,
            ..reservation("short")
        })
        .unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    let left: Vec<Arc<str>> = calls.list().into_iter().map(|listed| listed.session_id).collect();
    assert_eq!(left, [Arc::<str>::from("long")]);
}

#[tokio::test]
async fn a_draining_node_takes_nothing_new_and_honours_reservations() {
    let calls = calls(5);
    calls.reserve(reservation("promised")).unwrap();
    calls.start_draining();
    assert_eq!(calls.reserve(reservation("a")), Err(Refusal::Draining));
    assert_eq!(connect(&calls, "b").err(), Some(Refusal::Draining));
    assert!(connect(&calls, "promised").is_ok());
}

#[tokio::test(start_paused = true)]
async fn asking_to_drain_again_does_not_restart_the_clock() {
    let calls = calls(1);
    calls.start_draining();
    let since = calls.load().draining_since;
    tokio::time::advance(Duration::from_secs(3)).await;
    calls.start_draining();
    assert_eq!(calls.load().draining_since, since);
}

#[tokio::test]
async fn a_transport_outside_the_configuration_is_refused() {
    let calls = calls(5);
    let webrtc = MediaTransport::WebRtc;
    let refused = calls.reserve(Reservation {
        transport: webrtc,
        ..reservation("a")
    });
    assert_eq!(refused, Err(Refusal::TransportNotServed(webrtc)));
    assert_eq!(refused.unwrap_err().to_string(), "this node serves no webrtc");
}

#[tokio::test]
async fn ending_a_call_gives_its_task_the_reason_and_the_last_words() {
    let calls = calls(5);
    let (_slot, mut orders) = connect(&calls, "a").unwrap();
    calls
        .end("a", EndReason::Requested, Some("Bye.".to_owned()))
        .await
        .unwrap();
    assert_eq!(calls.list()[0].state, CallState::Ending);
    match orders.recv().await {
        Some(Input::EndRequested { reason, last_words }) => {
            assert_eq!((reason, last_words.as_deref()), (EndReason::Requested, Some("Bye.")));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ending_a_reservation_gives_it_up() {
    let calls = calls(1);
    calls.reserve(reservation("a")).unwrap();
    calls.end("a", EndReason::Requested, None).await.unwrap();
    assert_eq!(calls.load().sessions, 0);
    assert_eq!(
        calls.end("a", EndReason::Requested, None).await,
        Err(EndError::NotFound)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_no_orders_is_reported() {
    let calls = calls(5);
    let (_slot, _orders) = connect(&calls, "a").unwrap();
    calls.end("a", EndReason::Requested, None).await.unwrap();
    assert_eq!(calls.end("a", EndReason::Requested, None).await, Err(EndError::Stuck));
}

#[tokio::test]
async fn waiting_for_empty_ends_with_the_last_call() {
    let calls = calls(5);
    let (slot, _orders) = connect(&calls, "a").unwrap();
    let waiter = calls.clone();
    let mut wait = std::pin::pin!(async move { waiter.wait_empty().await });
    assert!(futures_util::poll!(wait.as_mut()).is_pending());
    drop(slot);
    wait.await;
}

#[tokio::test]
async fn a_call_that_ended_leaves_no_trace() {
    let calls = calls(5);
    drop(connect(&calls, "a").unwrap());
    assert_eq!(calls.list(), []);
    assert!(connect(&calls, "a").is_ok());
}

#[tokio::test]
async fn a_slow_observer_misses_notices_and_holds_nobody_up() {
    let calls = calls(5);
    let mut observer = calls.events();
    let (slot, _orders) = connect(&calls, "a").unwrap();
    for _ in 0..=super::NOTICES {
        slot.notify(Notice::ReplyDone);
    }
    assert!(matches!(
        observer.recv().await,
        Err(tokio::sync::broadcast::error::RecvError::Lagged(_))
    ));
    assert_eq!(observer.recv().await.unwrap(), ("a".into(), Notice::ReplyDone));
}

#[tokio::test]
async fn capacity_comes_from_the_cores_when_none_is_configured() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(calls(0).load().capacity, cores * super::SESSIONS_PER_CORE);
    assert_eq!(super::capacity_at_start(true), cores * super::LOCAL_SESSIONS_PER_CORE);
}
