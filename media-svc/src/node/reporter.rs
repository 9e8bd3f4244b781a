//! What the session store hears of a node: that it lives, what it carries, and what it keeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use session_store::{NODE_HEARTBEAT, NodeRecord, SessionRecord, SessionState, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{STORE_RETRY, count};
use crate::call::registry::{Calls, NodeLoad, Reservation, transport_name};
use crate::latency;

/// How long a session may be reserved here before the node looks whether it went elsewhere.
pub(super) const STRAY_AGE: Duration = NODE_HEARTBEAT.saturating_mul(2);
/// How many looks in a row have to find no record of such a session before it is over: a store that has lost it gets it back
/// in between.
pub(super) const STRAY_LOOKS: u32 = 3;

/// Tells the session store of this node.
#[derive(Clone)]
pub(super) struct Reporter {
    pub(super) store: Arc<dyn Store>,
    pub(super) record: NodeRecord,
    pub(super) restores: watch::Sender<Option<Instant>>,
}

impl Reporter {
    pub(super) async fn run(self, calls: Calls) {
        let mut load = calls.load_changes();
        let mut away = false;
        let mut registered = false;
        let mut incomplete = false;
        // Whether calls may be listed here that are over: a process of this name may have had some before this one.
        let mut stale = true;
        loop {
            let now = *load.borrow_and_update();
            let was_away = away;
            let outcome = self.try_report(now).await;
            away = outcome.is_err();
            // A store that was away may be another one now (a replica that has become the primary), which misses the
            // last writes; one that does not know a node that has reported all the time has lost everything.
            if let Ok(known) = outcome
                && registered
                && (was_away || !known)
            {
                tracing::info!(
                    known,
                    "the session store is back: what this node has there is written again"
                );
                self.restores.send_replace(Some(Instant::now()));
                incomplete = true;
                stale = true;
            }
            if incomplete && !away {
                incomplete = !self.restore_reservations(&calls).await;
            }
            if stale && !away {
                stale = !self.leave_what_is_over(&calls).await;
            }
            registered |= !away;
            match outcome {
                Ok(_) if was_away => tracing::info!("registered again"),
                Ok(_) => {}
                Err(error) if was_away => tracing::debug!(error, "the session store is still away"),
                Err(error) => tracing::warn!(
                    error,
                    "cannot register this node: it gets no new sessions until the session store answers"
                ),
            }
            tokio::select! {
                () = tokio::time::sleep(if away || incomplete || stale { STORE_RETRY } else { NODE_HEARTBEAT }) => {}
                () = state_change(&mut load, now) => {}
            }
        }
    }

    /// Calls that are listed here and that nobody has are over: a former process of this name did not live to see their
    /// ends, or a replica that took over had not heard of them. False when the store could not be told of all.
    async fn leave_what_is_over(&self, calls: &Calls) -> bool {
        let sessions = match self.store.sessions().await {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::debug!(%error, "calls that are over may stay listed; the store is asked again");
                return false;
            }
        };
        let ours = sessions
            .into_iter()
            .filter(|session| session.has_begun() && session.node_id.as_deref() == Some(self.record.node_id.as_str()));
        for SessionRecord { session_id, .. } in ours {
            if calls.knows(&session_id) {
                continue;
            }
            tracing::info!(session_id, "a call is still listed here and is over");
            if let Err(error) = self.store.leave_session(&session_id, &self.record.node_id).await {
                tracing::debug!(session_id, %error, "a call that is over stays listed; the store is told again");
                return false;
            }
        }
        true
    }

    /// Frees the slots of sessions that were reserved here and went to another node: behind one address for all nodes
    /// the balancer knows nothing of the choice that was made.
    pub(super) async fn give_up_strays(self, calls: Calls) {
        let mut missed: HashMap<Arc<str>, u32> = HashMap::new();
        loop {
            tokio::time::sleep(NODE_HEARTBEAT).await;
            let missed_before = std::mem::take(&mut missed);
            for session_id in calls.waiting_since(STRAY_AGE) {
                let found = tokio::time::timeout(NODE_HEARTBEAT, self.store.session(&session_id)).await;
                // A store that does not answer says nothing: the reservation runs out by itself.
                let Ok(Ok(found)) = found else { break };
                let waits_here = match found {
                    Some(session) => match session.state {
                        SessionState::Created | SessionState::Reserved => true,
                        SessionState::Connected | SessionState::Ending => {
                            session.node_id.as_deref() == Some(self.record.node_id.as_str())
                        }
                    },
                    // Over, or lost with the store: then it is there again soon.
                    None => {
                        let looks = missed_before.get(&session_id).map_or(0, |before| *before) + 1;
                        missed.insert(session_id.clone(), looks);
                        looks < STRAY_LOOKS
                    }
                };
                if !waits_here {
                    tracing::debug!(%session_id, "a reserved session went elsewhere");
                    calls.give_up_reservation(&session_id);
                }
            }
        }
    }

    /// Writes the sessions again that are expected here; false when some could not be.
    async fn restore_reservations(&self, calls: &Calls) -> bool {
        let reservations = calls.reservations().into_iter();
        let restored = reservations.map(|(reservation, left)| self.restore_reservation(reservation, left));
        let restored = futures_util::future::join_all(restored).await;
        restored.into_iter().all(|is_listed| is_listed)
    }

    async fn restore_reservation(&self, reservation: Reservation, left: Duration) -> bool {
        let record = SessionRecord {
            session_id: reservation.session_id.to_string(),
            created_at_unix_ms: unix_ms(),
            transport: transport_name(reservation.transport).to_owned(),
            provider: reservation.provider,
            call_id: reservation.call_id,
            node_id: Some(self.record.node_id.clone()),
            state: SessionState::Reserved,
            body_json: reservation.body_json,
        };
        // One that is there already may be further along, on another node.
        let listed = match self.store.session(&record.session_id).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.store.put_session(&record, left).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &listed {
            tracing::debug!(session_id = %record.session_id, %error, "an expected session is not listed again yet");
        }
        listed.is_ok()
    }

    /// Reports once, outside of the rhythm.
    pub(super) async fn report(&self, load: NodeLoad) {
        if let Err(error) = self.try_report(load).await {
            tracing::warn!(
                error,
                "cannot tell the session store that this node drains; it will be told again"
            );
        }
    }

    async fn try_report(&self, load: NodeLoad) -> Result<bool, String> {
        let record = NodeRecord {
            // A strained node may have more calls than it says it can carry: it has no free slot.
            capacity: count(load.capacity.max(load.sessions)),
            sessions: count(load.sessions),
            draining: load.is_draining(),
            latency: Some(latency::report()),
            ..self.record.clone()
        };
        within_heartbeat(self.store.heartbeat(&record)).await
    }

    pub(super) async fn leave(&self) {
        if let Err(error) = within_heartbeat(self.store.remove_node(&self.record.node_id)).await {
            tracing::warn!(
                error,
                "cannot remove this node from the session store; it vanishes there by itself"
            );
        }
    }
}

/// A store that hangs is a store that is away: nothing here waits longer than one heartbeat.
async fn within_heartbeat<T>(
    operation: impl Future<Output = Result<T, session_store::StoreError>>,
) -> Result<T, String> {
    match tokio::time::timeout(NODE_HEARTBEAT, operation).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer within the time of a heartbeat".to_owned()),
    }
}

/// Resolves when placement must know at once: full, free again, or draining. Other changes can wait for the heartbeat.
async fn state_change(load: &mut watch::Receiver<NodeLoad>, reported: NodeLoad) {
    let urgent = |now: &NodeLoad| (now.is_full(), now.is_draining()) != (reported.is_full(), reported.is_draining());
    if load.wait_for(urgent).await.is_err() {
        // Nobody can change the load any more.
        std::future::pending::<()>().await;
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
