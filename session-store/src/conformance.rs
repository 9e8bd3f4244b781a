//! What every [`Store`] promises, as checks that panic when a promise is broken. Run against the memory store in its
//! unit tests and against a real Redis in integration tests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failing check is a panic: this module is only called by tests"
)]

use std::time::Duration;

use crate::{Claim, NodeRecord, PLACING, Rate, SessionRecord, SessionState, Store};

/// Long enough never to expire while a check runs.
const LONG: Duration = Duration::from_secs(600);
/// Expires while `pass` waits for [`PASSES`].
const SHORT: Duration = Duration::from_millis(40);
const PASSES: Duration = Duration::from_millis(60);

/// A session record for tests.
pub fn session(session_id: &str, created_at_unix_ms: u64) -> SessionRecord {
    SessionRecord {
        session_id: session_id.to_owned(),
        created_at_unix_ms,
        transport: "telephony".to_owned(),
        provider: "twilio".to_owned(),
        call_id: "CA1".to_owned(),
        node_id: Some("a".to_owned()),
        state: SessionState::Reserved,
        body_json: r#"{"name":"Zoë \"Z\""}"#.to_owned(),
    }
}

/// A node report for tests.
pub fn node(node_id: &str) -> NodeRecord {
    NodeRecord {
        node_id: node_id.to_owned(),
        control_url: format!("http://{node_id}:9090"),
        public_url: format!("ws://{node_id}:8080"),
        capacity: 10,
        sessions: 3,
        draining: false,
        transports: vec!["telephony".to_owned()],
        version: "0.1.0".to_owned(),
        latency: None,
        zone: Some("z".to_owned()),
        placed: 0,
    }
}

/// Runs every check against an empty store. `pass` lets time go by: virtual where the store's clock is, else real.
pub async fn all<S: Store + ?Sized>(store: &S, pass: impl AsyncFn(Duration)) {
    store.ping().await.unwrap();
    sessions_are_kept_and_replaced(store).await;
    sessions_expire(store, &pass).await;
    touching_never_shortens_a_life(store, &pass).await;
    removing_a_session_forgets_it_and_its_claim(store).await;
    sessions_are_listed_oldest_first(store).await;
    the_first_value_under_a_key_stays(store, &pass).await;
    a_token_is_used_once(store, &pass).await;
    one_node_owns_a_session(store, &pass).await;
    only_one_of_many_racing_claims_wins(store).await;
    a_claim_is_taken_over_from_a_named_node_only_and_by_one(store).await;
    a_node_gives_back_what_is_its_own_and_nothing_else(store).await;
    nodes_report_and_leave(store).await;
    a_node_that_is_placed_on_counts_as_fuller_until_it_reports(store, &pass).await;
    no_slot_is_given_away_twice(store).await;
    an_allowance_is_used_up_and_refills(store, &pass).await;
    a_tenant_has_no_more_sessions_than_it_may(store).await;
    a_session_that_lives_counts_for_its_tenant(store).await;
    only_so_many_of_racing_sessions_are_held(store).await;
    progress_goes_forward_only(store, &pass).await;
    a_session_that_was_ended_is_void_for_a_while(store, &pass).await;
}

/// A second put replaces the first; an unknown id is none.
pub async fn sessions_are_kept_and_replaced<S: Store + ?Sized>(store: &S) {
    let mut record = session("kept", 10);
    store.put_session(&record, LONG).await.unwrap();
    assert_eq!(store.session("kept").await.unwrap(), Some(record.clone()));

    record.state = SessionState::Connected;
    record.node_id = None;
    store.put_session(&record, LONG).await.unwrap();
    assert_eq!(store.session("kept").await.unwrap(), Some(record));
    assert_eq!(store.sessions().await.unwrap().len(), 1);
    assert_eq!(store.session("unknown").await.unwrap(), None);
    store.remove_session("kept").await.unwrap();
}

/// An expired session is neither found nor listed nor touched.
pub async fn sessions_expire<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    store.put_session(&session("expires", 1), SHORT).await.unwrap();
    pass(PASSES).await;
    assert_eq!(store.session("expires").await.unwrap(), None);
    assert!(store.sessions().await.unwrap().is_empty());
    assert!(!store.touch_session("expires", LONG).await.unwrap());
}

/// Of two who renew a session, the one that wants less takes nothing from the other, nor from the claim.
pub async fn touching_never_shortens_a_life<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    store.put_session(&session("touched", 1), LONG).await.unwrap();
    store.claim_session("touched", "a", LONG).await.unwrap();
    assert!(store.touch_session("touched", SHORT).await.unwrap());
    pass(PASSES).await;
    assert_eq!(store.session("touched").await.unwrap(), Some(session("touched", 1)));
    assert_eq!(store.sessions().await.unwrap().len(), 1);
    let claim = store.claim_session("touched", "b", LONG).await.unwrap();
    assert_eq!(claim, Claim::OwnedBy("a".to_owned()));
    store.remove_session("touched").await.unwrap();
}

/// After removal another node may claim the same id.
pub async fn removing_a_session_forgets_it_and_its_claim<S: Store + ?Sized>(store: &S) {
    store.put_session(&session("removed", 1), LONG).await.unwrap();
    store.claim_session("removed", "a", LONG).await.unwrap();
    store.remove_session("removed").await.unwrap();
    assert_eq!(store.session("removed").await.unwrap(), None);
    assert!(store.sessions().await.unwrap().is_empty());
    assert_eq!(store.claim_session("removed", "b", LONG).await.unwrap(), Claim::Owned);
    store.remove_session("removed").await.unwrap();
    store.remove_session("never there").await.unwrap();
}

/// By time of creation, then by id.
pub async fn sessions_are_listed_oldest_first<S: Store + ?Sized>(store: &S) {
    for (id, created) in [("young", 3_000), ("old", 1_000), ("b", 2_000), ("a", 2_000)] {
        store.put_session(&session(id, created), LONG).await.unwrap();
    }
    let sessions = store.sessions().await.unwrap();
    let ids: Vec<_> = sessions.iter().map(|s| s.session_id.as_str()).collect();
    assert_eq!(ids, ["old", "a", "b", "young"]);
    for id in ids {
        store.remove_session(id).await.unwrap();
    }
}

/// Later values are refused, and told what is kept, until it expires.
pub async fn the_first_value_under_a_key_stays<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    assert_eq!(store.kept("key").await.unwrap(), None);
    assert_eq!(store.put_if_absent("key", "first", LONG).await.unwrap(), None);
    let kept = store.put_if_absent("key", "second", LONG).await.unwrap();
    assert_eq!(kept.as_deref(), Some("first"));
    assert_eq!(store.kept("key").await.unwrap().as_deref(), Some("first"));

    assert_eq!(store.put_if_absent("brief", "first", SHORT).await.unwrap(), None);
    pass(PASSES).await;
    assert_eq!(store.kept("brief").await.unwrap(), None);
    assert_eq!(store.put_if_absent("brief", "second", LONG).await.unwrap(), None);
}

/// True once, until the mark expires; and again for whoever has used it and did not hear the answer.
pub async fn a_token_is_used_once<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    assert!(store.use_token("token", "first", LONG).await.unwrap());
    assert!(!store.use_token("token", "second", LONG).await.unwrap());
    assert!(store.use_token("token", "first", LONG).await.unwrap());
    assert!(store.use_token("other token", "first", SHORT).await.unwrap());
    pass(PASSES).await;
    assert!(store.use_token("other token", "second", LONG).await.unwrap());
}

/// The end of a session is remembered, of that session only, and for as long as was asked.
pub async fn a_session_that_was_ended_is_void_for_a_while<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    store.void_session("ended", LONG).await.unwrap();
    store.void_session("ended long ago", SHORT).await.unwrap();
    pass(PASSES).await;
    assert!(store.is_void("ended").await.unwrap());
    assert!(!store.is_void("ended long ago").await.unwrap());
    assert!(!store.is_void("another").await.unwrap());
}

/// A claim holds against others, renews for its owner and ends with its time.
pub async fn one_node_owns_a_session<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    assert_eq!(store.claim_session("claimed", "a", LONG).await.unwrap(), Claim::Owned);
    assert_eq!(store.claim_session("claimed", "a", LONG).await.unwrap(), Claim::Owned);
    let refused = store.claim_session("claimed", "b", LONG).await.unwrap();
    assert_eq!(refused, Claim::OwnedBy("a".to_owned()));

    assert_eq!(store.claim_session("claimed", "a", SHORT).await.unwrap(), Claim::Owned);
    pass(PASSES).await;
    assert_eq!(store.claim_session("claimed", "b", LONG).await.unwrap(), Claim::Owned);
    store.remove_session("claimed").await.unwrap();
}

/// Sixteen nodes claim at once: one gets the session and the others are told which.
pub async fn only_one_of_many_racing_claims_wins<S: Store + ?Sized>(store: &S) {
    let names: Vec<_> = (0..16).map(|n| format!("node-{n}")).collect();
    let claims = names.iter().map(|name| store.claim_session("raced", name, LONG));
    let outcomes: Vec<_> = futures_util::future::join_all(claims)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();

    let winner = outcomes.iter().position(|claim| *claim == Claim::Owned).unwrap();
    for (n, outcome) in outcomes.iter().enumerate() {
        if n != winner {
            assert_eq!(*outcome, Claim::OwnedBy(format!("node-{winner}")));
        }
    }
    store.remove_session("raced").await.unwrap();
}

/// Whoever has not seen that somebody else was faster takes nothing.
pub async fn a_claim_is_taken_over_from_a_named_node_only_and_by_one<S: Store + ?Sized>(store: &S) {
    store.claim_session("orphan", "dead", LONG).await.unwrap();
    let wrong = store.take_over_session("orphan", "another", "a", LONG).await.unwrap();
    assert_eq!(wrong, Claim::OwnedBy("dead".to_owned()));

    let names: Vec<_> = (0..16).map(|n| format!("node-{n}")).collect();
    let takers = names
        .iter()
        .map(|name| store.take_over_session("orphan", "dead", name, LONG));
    let outcomes = futures_util::future::join_all(takers).await;
    let won = outcomes.iter().filter(|claim| *claim.as_ref().unwrap() == Claim::Owned);
    assert_eq!(won.count(), 1);
    store.remove_session("orphan").await.unwrap();

    let free = store.take_over_session("orphan", "dead", "a", LONG).await.unwrap();
    assert_eq!(free, Claim::Owned, "its claim has ended meanwhile");
    let again = store.take_over_session("orphan", "dead", "a", LONG).await.unwrap();
    assert_eq!(again, Claim::Owned);
    store.remove_session("orphan").await.unwrap();
}

/// A claim is given back by its owner, and a session removed unless another node has it.
pub async fn a_node_gives_back_what_is_its_own_and_nothing_else<S: Store + ?Sized>(store: &S) {
    store.put_session(&session("left", 1), LONG).await.unwrap();
    store.claim_session("left", "a", LONG).await.unwrap();
    store.release_session("left", "b").await.unwrap();
    store.leave_session("left", "b").await.unwrap();
    let refused = store.claim_session("left", "b", LONG).await.unwrap();
    assert_eq!(refused, Claim::OwnedBy("a".to_owned()));
    assert!(store.session("left").await.unwrap().is_some());

    store.release_session("left", "a").await.unwrap();
    assert!(store.session("left").await.unwrap().is_some(), "the session stays");
    assert_eq!(store.claim_session("left", "b", LONG).await.unwrap(), Claim::Owned);
    store.leave_session("left", "a").await.unwrap();
    assert!(store.session("left").await.unwrap().is_some(), "it is late");

    store.leave_session("left", "b").await.unwrap();
    assert_eq!(store.session("left").await.unwrap(), None);
    assert!(store.sessions().await.unwrap().is_empty());
    store.put_session(&session("left", 1), LONG).await.unwrap();
    store.leave_session("left", "b").await.unwrap();
    assert_eq!(store.session("left").await.unwrap(), None, "nobody has it");
}

/// A second report replaces the first; a node that leaves is gone at once.
pub async fn nodes_report_and_leave<S: Store + ?Sized>(store: &S) {
    let mut first = node("a");
    assert!(!store.heartbeat(&first).await.unwrap(), "nobody knew it");
    store.heartbeat(&node("b")).await.unwrap();
    first.draining = true;
    assert!(store.heartbeat(&first).await.unwrap(), "it is known");
    assert_eq!(store.nodes().await.unwrap(), [first, node("b")]);

    store.remove_node("a").await.unwrap();
    assert_eq!(store.nodes().await.unwrap(), [node("b")]);
    store.remove_node("b").await.unwrap();
}

/// Room is what the last report leaves of the capacity, less what was placed since; a report counts what is old enough.
pub async fn a_node_that_is_placed_on_counts_as_fuller_until_it_reports<S: Store + ?Sized>(
    store: &S,
    pass: &impl AsyncFn(Duration),
) {
    let report = NodeRecord {
        sessions: 8,
        ..node("placed")
    };
    let placed = async || store.nodes().await.unwrap()[0].placed;
    assert!(!store.place("placed", "t0").await.unwrap(), "it has not reported");
    store.heartbeat(&report).await.unwrap();
    assert!(store.place("placed", "t1").await.unwrap());
    assert!(store.place("placed", "t2").await.unwrap());
    assert!(!store.place("placed", "t3").await.unwrap(), "the second was the last");
    assert_eq!(placed().await, 2);

    store.unplace("placed", "t1").await.unwrap();
    assert!(store.place("placed", "t4").await.unwrap());
    store.heartbeat(&report).await.unwrap();
    assert_eq!(
        placed().await,
        2,
        "the report may not count what was placed a moment ago"
    );
    pass(PLACING + PASSES).await;
    store.heartbeat(&report).await.unwrap();
    assert_eq!(placed().await, 0);

    let draining = NodeRecord {
        draining: true,
        ..report
    };
    store.heartbeat(&draining).await.unwrap();
    assert!(!store.place("placed", "t5").await.unwrap());
    store.remove_node("placed").await.unwrap();
    assert!(!store.place("placed", "t6").await.unwrap());
}

/// Two dozen placements at once, room for seven.
pub async fn no_slot_is_given_away_twice<S: Store + ?Sized>(store: &S) {
    store.heartbeat(&node("sought")).await.unwrap();
    let tickets: Vec<_> = (0..24).map(|n| format!("ticket-{n}")).collect();
    let placed = tickets.iter().map(|ticket| store.place("sought", ticket));
    let placed = futures_util::future::join_all(placed).await;
    assert_eq!(placed.into_iter().filter(|placed| *placed.as_ref().unwrap()).count(), 7);
    store.remove_node("sought").await.unwrap();
}

/// As many as the burst at once, then one for every interval; tenants do not take from each other.
pub async fn an_allowance_is_used_up_and_refills<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    // One comes back every ten minutes: none while this runs, however slow the machine.
    let slow = Rate {
        burst: 3,
        window: LONG * 3,
    };
    for _ in 0..3 {
        assert_eq!(store.take("slow", slow).await.unwrap(), None);
    }
    let wait = store.take("slow", slow).await.unwrap().unwrap();
    assert!(wait <= LONG && wait > LONG / 2, "{wait:?}");
    assert_eq!(store.take("other", slow).await.unwrap(), None);

    let quick = Rate {
        burst: 1,
        window: SHORT,
    };
    assert_eq!(store.take("quick", quick).await.unwrap(), None);
    pass(PASSES).await;
    assert_eq!(store.take("quick", quick).await.unwrap(), None);
}

/// A session counts from the moment it is held, and no longer when it is dropped or over.
pub async fn a_tenant_has_no_more_sessions_than_it_may<S: Store + ?Sized>(store: &S) {
    assert!(store.hold_session("tenant", "one", 2).await.unwrap());
    assert!(store.hold_session("tenant", "two", 2).await.unwrap());
    assert!(!store.hold_session("tenant", "three", 2).await.unwrap());
    assert!(store.hold_session("another tenant", "three", 2).await.unwrap());

    store.drop_session("tenant", "one").await.unwrap();
    assert!(store.hold_session("tenant", "three", 2).await.unwrap());
    assert!(!store.hold_session("tenant", "four", 2).await.unwrap());
    store.drop_session("nobody", "one").await.unwrap();
}

/// The store tells for whom, so that a node can count it again in a store that has lost it.
pub async fn a_session_that_lives_counts_for_its_tenant<S: Store + ?Sized>(store: &S) {
    assert_eq!(store.held_by("held").await.unwrap(), None);
    assert!(store.hold_session("holder", "held", u32::MAX).await.unwrap());
    assert_eq!(store.held_by("held").await.unwrap().as_deref(), Some("holder"));
    assert!(store.hold_session("holder", "held", u32::MAX).await.unwrap(), "again");
    assert!(!store.hold_session("holder", "another", 1).await.unwrap());
    store.drop_session("holder", "held").await.unwrap();
    assert_eq!(store.held_by("held").await.unwrap(), None);
}

/// A call ends with its node: its key may start another one. As long as its node reports, and while no node does, it counts.
/// `grace_is_over` makes a tenant's session count by its record alone.
pub async fn a_session_whose_node_is_gone_counts_no_longer<S: Store + ?Sized>(
    store: &S,
    grace_is_over: impl AsyncFn(&str, &str),
) {
    let connected = SessionRecord {
        state: SessionState::Connected,
        ..session("orphaned", 1)
    };
    store.put_session(&connected, LONG).await.unwrap();
    assert!(store.hold_session("locked out", "orphaned", 1).await.unwrap());
    grace_is_over("locked out", "orphaned").await;
    assert!(
        !store.hold_session("locked out", "next", 1).await.unwrap(),
        "a store that has just come back knows no nodes"
    );
    store.heartbeat(&node("a")).await.unwrap();
    store.heartbeat(&node("b")).await.unwrap();
    assert!(
        !store.hold_session("locked out", "next", 1).await.unwrap(),
        "its node reports"
    );
    store.remove_node("a").await.unwrap();
    assert!(store.hold_session("locked out", "next", 1).await.unwrap());
    store.remove_session("orphaned").await.unwrap();
    store.remove_node("b").await.unwrap();
}

/// Sixteen starts at once, room for five.
pub async fn only_so_many_of_racing_sessions_are_held<S: Store + ?Sized>(store: &S) {
    let names: Vec<_> = (0..16).map(|n| format!("racing-{n}")).collect();
    let holds = names.iter().map(|name| store.hold_session("crowd", name, 5));
    let held = futures_util::future::join_all(holds).await;
    assert_eq!(held.into_iter().filter(|held| *held.as_ref().unwrap()).count(), 5);
}

/// What is late, or comes twice, changes nothing.
pub async fn progress_goes_forward_only<S: Store + ?Sized>(store: &S, pass: &impl AsyncFn(Duration)) {
    assert_eq!(store.progress("call").await.unwrap(), None);
    assert!(store.advance("call", 0, "queued", LONG).await.unwrap());
    assert!(!store.advance("call", 0, "again", LONG).await.unwrap());
    assert!(store.advance("call", 2, "answered", LONG).await.unwrap());
    assert!(!store.advance("call", 1, "ringing", LONG).await.unwrap());
    assert_eq!(store.progress("call").await.unwrap().as_deref(), Some("answered"));

    store.forget_progress("call").await.unwrap();
    assert_eq!(store.progress("call").await.unwrap(), None);
    assert!(store.advance("call", 0, "queued", SHORT).await.unwrap());
    pass(PASSES).await;
    assert_eq!(store.progress("call").await.unwrap(), None);
    assert!(store.advance("call", 0, "queued", LONG).await.unwrap());
}
