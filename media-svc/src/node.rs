//! This node in the fleet: its registration, its heartbeat, and how it leaves.

mod capacity;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use media_core::conversation::EndReason;
use service_kit::config::{Config, Links};
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use session_store::{NODE_HEARTBEAT, NodeRecord, SessionRecord, SessionState, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::archive::{Undelivered, Uplink};
use crate::call::registry::{Calls, NodeLoad, transport_name};
use crate::latency;
use capacity::{Capacity, Gauge};

/// How long calls that were told to end may take for their last words.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the archive may take for what is left in the outbox once there is no time left: what it has got already is
/// acknowledged sooner.
const HURRIED_FLUSH: Duration = Duration::from_secs(5);
/// How soon a store that did not answer is asked again: the node and its sessions are there again within 5 s of its return.
const RETRY: Duration = Duration::from_millis(500);
/// How long a session may be reserved here before the node looks whether it went elsewhere.
const STRAY_AGE: Duration = NODE_HEARTBEAT.saturating_mul(2);

/// Addresses that were bound.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Sockets of callers.
    pub public: SocketAddr,
    /// gRPC `MediaControl`.
    pub control: SocketAddr,
}

/// How draining went.
#[derive(Debug, PartialEq, Eq)]
pub struct Drained {
    /// Calls that had to be ended.
    pub ended: usize,
    /// Calls that did not even end when told to; they are cut off when the process ends.
    pub left: usize,
    /// Whether the archive has everything.
    pub archived: Result<(), Undelivered>,
}

/// What a node says about itself, and how long it waits for its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Name, unique in the deployment.
    pub node_id: Arc<str>,
    /// Where the control plane reaches it.
    pub control_url: String,
    /// Where callers reach it.
    pub public_url: String,
    /// Where it is.
    pub zone: Option<String>,
    /// Longest wait for running calls.
    pub drain_timeout: Duration,
    /// How long the archive may take for what is left in the outbox.
    pub flush_timeout: Duration,
    /// What the agent says when the node cannot wait for a call any longer.
    pub drain_message: Option<String>,
    /// Whether the node lowers its capacity to what it can carry, and the most it may be.
    pub measured: Option<Limit>,
}

/// What a measured capacity may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// `media.max_sessions`, when set.
    pub most: Option<NonZeroUsize>,
}

impl Registration {
    /// From the configuration: what is advertised there, else the bound addresses. A node without a configured name gets the
    /// host's with a random end: call this once.
    pub fn new(config: &Config, bound: Bound) -> Self {
        let node_id = config.media.node_id.clone().unwrap_or_else(|| {
            let named = service_kit::telemetry::node();
            named.map_or_else(service_kit::ids::node_id, str::to_owned)
        });
        Self {
            node_id: node_id.into(),
            control_url: control_url(&config.links, bound.control),
            public_url: public_url(&config.links, config.http.tls.is_some(), bound.public),
            zone: config.zone.clone(),
            drain_timeout: Duration::from_secs(config.media.drain_timeout_secs),
            flush_timeout: Duration::from_secs(config.media.flush_timeout_secs),
            drain_message: config.media.drain_message.clone(),
            measured: config.media.measure_capacity.then_some(Limit {
                most: NonZeroUsize::new(config.media.max_sessions),
            }),
        }
    }
}

/// A registered node.
pub struct Node {
    calls: Calls,
    reporter: Reporter,
    scope: TaskScope,
    drain_timeout: Duration,
    flush_timeout: Duration,
    drain_message: Option<String>,
}

impl Node {
    /// Registers the node and keeps reporting: every [`NODE_HEARTBEAT`], and at once when it fills up, has room
    /// again, or drains. A store that is away is retried; calls go on meanwhile, and are told when it has come back or has
    /// lost what it had.
    pub fn start(registration: Registration, store: Arc<dyn Store>, calls: Calls, parent: &TaskScope) -> Self {
        let scope = parent.child("node");
        let (drain_timeout, flush_timeout) = (registration.drain_timeout, registration.flush_timeout);
        let drain_message = registration.drain_message.clone();
        if let Some(limit) = registration.measured {
            let measuring = measure(calls.clone(), limit);
            let cancelled = scope.token().cancelled_owned();
            scope.spawn("capacity", async move {
                tokio::select! {
                    () = cancelled => {}
                    () = measuring => {}
                }
            });
        }
        let reporter = Reporter {
            store,
            record: record(registration, &calls),
            restores: watch::Sender::default(),
        };
        let heartbeat = reporter.clone().run(calls.clone());
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("heartbeat", async move {
            tokio::select! {
                () = cancelled => {}
                () = heartbeat => {}
            }
        });
        let strays = reporter.clone().give_up_strays(calls.clone());
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("stray reservations", async move {
            tokio::select! {
                () = cancelled => {}
                () = strays => {}
            }
        });
        Self {
            calls,
            reporter,
            scope,
            drain_timeout,
            flush_timeout,
            drain_message,
        }
    }

    /// When what this node has in the session store last had to be written again: the store was away, or has lost what it
    /// had. Changes each time.
    pub fn restores(&self) -> watch::Receiver<Option<Instant>> {
        self.reporter.restores.subscribe()
    }

    /// What this node says about itself, but for its load.
    pub fn record(&self) -> &NodeRecord {
        &self.reporter.record
    }

    /// Leaves the fleet:
    /// 1. out of placement: no new sessions, and the fleet is told at once;
    /// 2. running calls go on until they end, `media.drain_timeout_secs` are over (counted from when draining began,
    ///    which the control plane may have asked for earlier), or a second shutdown request;
    /// 3. what is left is ended politely: the agent says `media.drain_message`; 10 s at most;
    /// 4. the node is removed from the fleet;
    /// 5. the outbox is emptied into the archive; `media.flush_timeout_secs` at most, the rest stays on disk.
    pub async fn drain(self, shutdown: &Shutdown, uplink: &Uplink) -> Drained {
        self.calls.start_draining();
        let load = self.calls.load();
        tracing::info!(sessions = load.sessions, "draining: waiting for running calls");
        self.reporter.report(load).await;
        let deadline = load.draining_since.unwrap_or_else(Instant::now) + self.drain_timeout;
        tokio::select! {
            () = self.calls.wait_empty() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = shutdown.hurried() => {}
        }
        let ended = self.calls.load().sessions;
        if ended > 0 {
            tracing::warn!(sessions = ended, "ending the calls that are left");
            let goodbye = async {
                let last_words = self.drain_message.as_deref();
                self.calls.end_all(&EndReason::Drained, last_words).await;
                self.calls.wait_empty().await;
            };
            // When this is over the load says how many did not make it.
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
        }
        let left = self.calls.load().sessions;
        // The heartbeat must be gone first: it would register the node again.
        self.scope.cancel();
        self.scope.join().await;
        self.reporter.leave().await;
        let hurried = async {
            shutdown.hurried().await;
            tokio::time::sleep(HURRIED_FLUSH).await;
        };
        let archived = tokio::select! {
            archived = uplink.flush(self.flush_timeout) => archived,
            () = hurried => uplink.flush(Duration::ZERO).await,
        };
        if let Err(undelivered) = &archived {
            tracing::warn!(%undelivered, "left with events in the outbox");
        }
        tracing::info!(ended, left, "drained");
        Drained { ended, left, archived }
    }
}

#[derive(Clone)]
struct Reporter {
    store: Arc<dyn Store>,
    record: NodeRecord,
    restores: watch::Sender<Option<Instant>>,
}

impl Reporter {
    async fn run(self, calls: Calls) {
        let mut load = calls.load_changes();
        let mut away = false;
        let mut registered = false;
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
                self.restore_reservations(&calls).await;
                self.restores.send_replace(Some(Instant::now()));
            }
            if outcome.is_ok() && !registered {
                registered = true;
                self.leave_former_life(&calls).await;
            }
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
                () = tokio::time::sleep(if away { RETRY } else { NODE_HEARTBEAT }) => {}
                () = state_change(&mut load, now) => {}
            }
        }
    }

    /// Calls that a process of this name had which did not live to see their ends are over: it reports again, so nobody
    /// else can tell.
    async fn leave_former_life(&self, calls: &Calls) {
        let sessions = match self.store.sessions().await {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::warn!(%error, "calls of this node's former life stay listed until they expire");
                return;
            }
        };
        let left = sessions.into_iter().filter(|session| {
            let began = match session.state {
                SessionState::Connected | SessionState::Ending => true,
                SessionState::Created | SessionState::Reserved => false,
            };
            let ours = session.node_id.as_deref() == Some(self.record.node_id.as_str());
            began && ours && !calls.knows(&session.session_id)
        });
        for SessionRecord { session_id, .. } in left {
            tracing::info!(session_id, "a call of this node's former life is over");
            if let Err(error) = self.store.leave_session(&session_id, &self.record.node_id).await {
                tracing::warn!(session_id, %error, "a call that is over stays listed until it expires");
            }
        }
    }

    /// Frees the slots of sessions that were reserved here and went to another node: behind one address for all nodes
    /// the balancer knows nothing of the choice that was made.
    async fn give_up_strays(self, calls: Calls) {
        let mut missed: HashSet<Arc<str>> = HashSet::new();
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
                    // Over, or lost with the store: then it is there again after the next heartbeat.
                    None => missed.insert(session_id.clone()) && !missed_before.contains(&session_id),
                };
                if !waits_here {
                    tracing::debug!(%session_id, "a reserved session went elsewhere");
                    calls.give_up_reservation(&session_id);
                }
            }
        }
    }

    /// Writes the sessions again that are expected here.
    async fn restore_reservations(&self, calls: &Calls) {
        for (reservation, left) in calls.reservations() {
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
            let known = self.store.session(&record.session_id).await;
            if matches!(known, Ok(None))
                && let Err(error) = self.store.put_session(&record, left).await
            {
                tracing::warn!(session_id = %record.session_id, %error, "an expected session cannot be listed again");
            }
        }
    }

    /// Reports once, outside of the rhythm.
    async fn report(&self, load: NodeLoad) {
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

    async fn leave(&self) {
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

/// Looks every heartbeat at what the node has measured, and says what it can carry.
async fn measure(calls: Calls, limit: Limit) {
    let mut capacity = Capacity::new(calls.load().capacity, limit.most);
    let mut gauge = Gauge::new();
    loop {
        tokio::time::sleep(NODE_HEARTBEAT).await;
        let load = calls.load();
        let window = gauge.read(load.sessions);
        let carries = capacity.observe(&window);
        if carries < load.capacity {
            tracing::warn!(
                carries,
                before = load.capacity,
                ?window,
                "this node is strained: it takes fewer sessions"
            );
        }
        calls.set_capacity(carries);
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

fn record(registration: Registration, calls: &Calls) -> NodeRecord {
    let load = calls.load();
    NodeRecord {
        node_id: registration.node_id.to_string(),
        control_url: registration.control_url,
        public_url: registration.public_url,
        capacity: count(load.capacity),
        sessions: count(load.sessions),
        draining: load.is_draining(),
        transports: calls
            .transports()
            .iter()
            .map(|t| transport_name(*t).to_owned())
            .collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        latency: None,
        zone: registration.zone,
        placed: 0,
    }
}

fn control_url(links: &Links, bound: SocketAddr) -> String {
    match &links.media_control_url {
        Some(url) => url.clone(),
        None => {
            let scheme = if links.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", reachable(bound))
        }
    }
}

fn public_url(links: &Links, tls: bool, bound: SocketAddr) -> String {
    let scheme = if tls { "wss" } else { "ws" };
    match &links.media_advertise_url {
        Some(url) if url.contains("://") => url.clone(),
        Some(host_and_port) => format!("{scheme}://{host_and_port}"),
        None => format!("{scheme}://{}", reachable(bound)),
    }
}

/// An address that others on this host can connect to: loopback in place of "any".
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bound.port())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn count(sessions: usize) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
