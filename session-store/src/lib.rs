//! What the control plane and the media plane share: sessions, media nodes, idempotency keys, single-use tokens and
//! ownership claims; in Redis for a deployment, in memory for one process, behind one trait.

#[doc(hidden)]
pub mod conformance;
mod measured;
mod memory;
mod patience;
pub mod redis;
#[doc(hidden)]
pub mod switch;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service_kit::config::StoreKind;
use service_kit::exit::Fatal;

pub use measured::Measured;
pub use memory::MemoryStore;
pub use patience::{PATIENCE, patiently};
pub use redis::RedisStore;

/// A heartbeat older than this means the node is gone.
pub const NODE_TTL: Duration = Duration::from_secs(6);
/// How often a node reports.
pub const NODE_HEARTBEAT: Duration = Duration::from_secs(2);

/// A session as every instance sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRecord {
    /// UUID.
    pub session_id: String,
    /// When it was made.
    pub created_at_unix_ms: u64,
    /// `telephony`, `websocket`, `webrtc`.
    pub transport: String,
    /// Telephony provider, or empty.
    #[serde(default)]
    pub provider: String,
    /// Provider's call id, or empty.
    #[serde(default)]
    pub call_id: String,
    /// Node chosen or owning.
    #[serde(default)]
    pub node_id: Option<String>,
    /// Where it is in its life.
    pub state: SessionState,
    /// JSON body given to `/start` or by the webhook; empty when none.
    #[serde(default)]
    pub body_json: String,
}

/// Life of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// Made by `/start`; nobody is connected and no node is chosen.
    Created,
    /// A node holds a slot for it.
    Reserved,
    /// Media flows.
    Connected,
    /// The call is being ended.
    Ending,
}

impl SessionRecord {
    /// Whether a node has had this call: what was said is there, no other may take it, and it ends with that node.
    pub fn has_begun(&self) -> bool {
        match self.state {
            SessionState::Connected | SessionState::Ending => true,
            SessionState::Created | SessionState::Reserved => false,
        }
    }

    /// Whether its call is over although nobody has said so: it was connected on a node that reports no more. A node that
    /// was only late reports again, and then the session lives again. Where no node reports at all the store is just back,
    /// and nothing is known.
    pub fn is_orphaned(&self, nodes: &[NodeRecord]) -> bool {
        let reports = |id: &String| nodes.iter().any(|node| node.node_id == *id);
        self.has_begun() && !nodes.is_empty() && self.node_id.as_ref().is_some_and(|id| !reports(id))
    }
}

/// A media node's report about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    /// Name, unique in the deployment.
    pub node_id: String,
    /// gRPC `MediaControl` (`http://10.0.0.7:9090`).
    pub control_url: String,
    /// Base URL of its sockets (`ws://10.0.0.7:8080`), used when `media_public_url` is not set.
    pub public_url: String,
    /// Sessions it can carry.
    pub capacity: u32,
    /// Sessions it carries or holds reserved.
    pub sessions: u32,
    /// Out of placement, finishing its calls.
    pub draining: bool,
    /// `telephony`, `websocket`, `webrtc`.
    pub transports: Vec<String>,
    /// Release of the node.
    pub version: String,
    /// How quick it was in the last minutes; absent from nodes of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<NodeLatency>,
    /// Where it is (`zone`), or none.
    #[serde(default)]
    pub zone: Option<String>,
    /// Sessions placed on it since this report: known to the store, not to the node.
    #[serde(skip)]
    pub placed: u32,
}

/// How quick a node was in the last minutes, to within 8 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeLatency {
    /// The time looked back on, seconds.
    pub window_secs: u32,
    /// Answered turns in that time.
    pub turns: u32,
    /// From the end of a caller's speech to the first audio of the answer: median, milliseconds; 0 without turns.
    pub turn_p50_ms: u32,
    /// 95th percentile.
    pub turn_p95_ms: u32,
    /// 99th percentile.
    pub turn_p99_ms: u32,
    /// How late outgoing audio frames left: 99th percentile, microseconds; 0 without frames.
    pub frame_late_p99_us: u32,
}

impl NodeRecord {
    /// Whether it has room for one more by its own report.
    pub fn has_room(&self) -> bool {
        !self.draining && self.sessions < self.capacity
    }

    /// Slots that are free by its report and by what was placed on it since.
    pub fn free_slots(&self) -> u32 {
        self.capacity.saturating_sub(self.sessions).saturating_sub(self.placed)
    }
}

/// A session that was placed on a node this long before the node's report counts in that report: asking a node for a slot
/// takes less, unless it hangs.
pub const PLACING: Duration = Duration::from_millis(500);

/// How long a session counts for its tenant before its record is written.
pub const HOLD_GRACE: Duration = Duration::from_secs(30);

/// An allowance: `burst` at once, and as many in each `window` from then on (the generic cell rate algorithm, ITU-T
/// I.371, which keeps one time stamp).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times in a window, at least 1.
    pub burst: u32,
    /// Length of the window.
    pub window: Duration,
}

impl Rate {
    /// Time in which one of them is given back, at least a millisecond.
    fn interval(self) -> Duration {
        (self.window / self.burst.max(1)).max(Duration::from_millis(1))
    }

    /// How far ahead of the clock the time stamp may be before a take.
    fn tolerance(self) -> Duration {
        self.interval() * self.burst.max(1).saturating_sub(1)
    }
}

/// Outcome of claiming a session for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This node owns the session now (or did already).
    Owned,
    /// Another node does.
    OwnedBy(String),
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("session store unavailable: {0}")]
pub struct StoreError(pub String);

/// Sessions, nodes, keys and claims. Every operation is atomic.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Writes a session; it lives for `ttl` unless touched.
    async fn put_session(&self, session: &SessionRecord, ttl: Duration) -> Result<(), StoreError>;
    /// Reads a session.
    async fn session(&self, session_id: &str) -> Result<Option<SessionRecord>, StoreError>;
    /// Renews the life of a session and of its ownership claim: at least `ttl` from now, and never less than they have
    /// left. False when the session is gone.
    async fn touch_session(&self, session_id: &str, ttl: Duration) -> Result<bool, StoreError>;
    /// Removes a session and its ownership claim.
    async fn remove_session(&self, session_id: &str) -> Result<(), StoreError>;
    /// All sessions that are alive, oldest first.
    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError>;

    /// Keeps `value` under an idempotency key unless one is kept already; answers the kept one if so.
    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError>;
    /// Reads what `put_if_absent` keeps.
    async fn kept(&self, key: &str) -> Result<Option<String>, StoreError>;
    /// Marks a token as used by `user`; true the first time, and when the same one asks again because the first answer was
    /// lost.
    async fn use_token(&self, token: &str, user: &str, ttl: Duration) -> Result<bool, StoreError>;
    /// Makes `node_id` the owner of a session for `ttl`, unless another node is; the owner may claim again to stay it.
    async fn claim_session(&self, session_id: &str, node_id: &str, ttl: Duration) -> Result<Claim, StoreError>;
    /// Makes `node_id` the owner of a session that `gone` owned, or nobody any more: of the nodes that try, one succeeds.
    async fn take_over_session(
        &self,
        session_id: &str,
        gone: &str,
        node_id: &str,
        ttl: Duration,
    ) -> Result<Claim, StoreError>;
    /// Gives the claim of `node_id` on a session back; the session stays. Another node's claim stays too.
    async fn release_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError>;
    /// Removes a session and its ownership claim like [`remove_session`](Self::remove_session), unless another node than
    /// `node_id` owns it by now: what that one has is not this one's to remove, however late it comes.
    async fn leave_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError>;

    /// Writes a node's report; gone after `NODE_TTL` without another. What was placed on the node more than [`PLACING`]
    /// ago is forgotten: the report counts it. True when there was a report before: false after the first one, and to a
    /// node that has reported all the time when the store has lost what it had, or may lack the last of it, as a replica
    /// that took over may. One node reports through a store.
    async fn heartbeat(&self, node: &NodeRecord) -> Result<bool, StoreError>;
    /// Forgets a node at once.
    async fn remove_node(&self, node_id: &str) -> Result<(), StoreError>;
    /// Nodes that reported within `NODE_TTL`, by id, with what was placed on them since.
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError>;
    /// Counts a session that is about to be placed on a node, under a ticket of its own, until the node has reported it.
    /// False, and nothing counted, when the node has no room by its last report and by what was placed since, drains, or
    /// is gone. Instances that place at the same time therefore never give one slot away twice.
    async fn place(&self, node_id: &str, ticket: &str) -> Result<bool, StoreError>;
    /// Takes back a ticket: the node did not take the session.
    async fn unplace(&self, node_id: &str, ticket: &str) -> Result<(), StoreError>;

    /// Takes a start from an allowance that refills evenly; answers how long to wait when it is used up.
    async fn take(&self, allowance: &str, rate: Rate) -> Result<Option<Duration>, StoreError>;
    /// Counts a session among those of a tenant unless `most` of them are alive; false when they are. The session
    /// counts from now, and after [`HOLD_GRACE`] as long as its record lives and its node reports
    /// ([`SessionRecord::is_orphaned`]).
    async fn hold_session(&self, tenant: &str, session_id: &str, most: u32) -> Result<bool, StoreError>;
    /// The tenant that a session counts for, as long as it lives and a day at most.
    async fn held_by(&self, session_id: &str) -> Result<Option<String>, StoreError>;
    /// Counts a session no longer.
    async fn drop_session(&self, tenant: &str, session_id: &str) -> Result<(), StoreError>;

    /// Notes progress: keeps `value` unless something of this rank or a higher one is kept already. True when kept.
    async fn advance(&self, what: &str, rank: u32, value: &str, ttl: Duration) -> Result<bool, StoreError>;
    /// Reads what [`advance`](Self::advance) keeps.
    async fn progress(&self, what: &str) -> Result<Option<String>, StoreError>;
    /// Forgets progress, so that it may begin again.
    async fn forget_progress(&self, what: &str) -> Result<(), StoreError>;

    /// Remembers for `ttl` that a session was ended: its token, where nobody has used it yet, opens nothing any more.
    async fn void_session(&self, session_id: &str, ttl: Duration) -> Result<(), StoreError> {
        self.advance(&ended(session_id), 1, "ended", ttl).await.map(drop)
    }
    /// Whether a session was ended, as far as [`void_session`](Self::void_session) remembers it.
    async fn is_void(&self, session_id: &str) -> Result<bool, StoreError> {
        Ok(self.progress(&ended(session_id)).await?.is_some())
    }

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// The store named in the configuration, with every operation timed.
///
/// Errors: Redis does not answer (exit status 69), its URL is not one (64), or a file for TLS cannot be read (66).
pub async fn open(kind: &StoreKind) -> Result<Arc<dyn Store>, Fatal> {
    match kind {
        StoreKind::Memory => Ok(Arc::new(Measured::new(MemoryStore::new()))),
        StoreKind::Redis { url, tls } => {
            let store = RedisStore::connect(url, tls).await?;
            Ok(Arc::new(Measured::new(store)))
        }
    }
}

/// What the end of a session is remembered as.
fn ended(session_id: &str) -> String {
    format!("ended:{session_id}")
}

fn oldest_first(sessions: &mut [SessionRecord]) {
    sessions.sort_by(|a, b| (a.created_at_unix_ms, &a.session_id).cmp(&(b.created_at_unix_ms, &b.session_id)));
}
