//! This node in the fleet: its registration, its heartbeat, and how it leaves.

mod capacity;
mod reporter;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use media_core::conversation::EndReason;
use service_kit::config::{Config, Links};
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use session_store::{NODE_HEARTBEAT, NodeRecord, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::archive::{Undelivered, Uplink};
use crate::call::registry::{Calls, transport_name};
use capacity::{Capacity, Gauge};
use reporter::Reporter;

/// How long calls that were told to end may take for their last words.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the archive may take for what is left in the outbox once there is no time left: what it has got already is
/// acknowledged sooner.
const HURRIED_FLUSH: Duration = Duration::from_secs(5);
/// How soon a store that did not answer is asked again: the node and its sessions are there again within 5 s of its return.
pub(crate) const STORE_RETRY: Duration = Duration::from_millis(500);

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

fn count(sessions: usize) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
