//! A store that can be away, for tests.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::redis::LONGEST_OPERATION;
use crate::{Claim, MemoryStore, NodeRecord, Rate, SessionRecord, Store, StoreError};

/// What is promised: so long after a store has come back everything is right again. The media plane and the control
/// plane have half of it each.
pub const RIGHT_AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// A memory store that answers nothing while it is switched off.
#[derive(Default)]
pub struct Switch {
    inner: Mutex<Arc<MemoryStore>>,
    off: AtomicBool,
    hangs: AtomicBool,
    read_only: AtomicBool,
    /// Progress of this name and rank cannot be written.
    refused_progress: Mutex<Option<(&'static str, u32)>>,
    /// Keys that end like this cannot be kept.
    refused_key: Mutex<String>,
}

impl Switch {
    /// Switched on, and empty.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// On or off; what comes while it is off fails at once.
    pub fn switch(&self, on: bool) {
        self.off.store(!on, Ordering::SeqCst);
    }

    /// Whether what comes while it is off fails as late as a store can, even when it is on again by then.
    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Sessions can be read and not written.
    pub fn refuse_writes(&self, refuse: bool) {
        self.read_only.store(refuse, Ordering::SeqCst);
    }

    /// Progress whose name begins so cannot be written at this rank.
    pub fn refuse_progress(&self, name: &'static str, rank: u32) {
        *locked(&self.refused_progress) = Some((name, rank));
    }

    /// An idempotency key that ends like this cannot be kept.
    pub fn refuse_key(&self, end: &str) {
        end.clone_into(&mut locked(&self.refused_key));
    }

    /// Forgets everything.
    pub fn lose(&self) {
        *locked(&self.inner) = Arc::default();
    }

    async fn up(&self) -> Result<Arc<MemoryStore>, StoreError> {
        if !self.off.load(Ordering::SeqCst) {
            return Ok(Arc::clone(&locked(&self.inner)));
        }
        if self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(LONGEST_OPERATION).await;
        }
        Err(StoreError("switched off".to_owned()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Store for Switch {
    async fn put_session(&self, session: &SessionRecord, ttl: Duration) -> Result<(), StoreError> {
        if self.read_only.load(Ordering::SeqCst) {
            return Err(StoreError("read only".to_owned()));
        }
        self.up().await?.put_session(session, ttl).await
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        self.up().await?.session(session_id).await
    }

    async fn touch_session(&self, session_id: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.up().await?.touch_session(session_id, ttl).await
    }

    async fn remove_session(&self, session_id: &str) -> Result<(), StoreError> {
        self.up().await?.remove_session(session_id).await
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        self.up().await?.sessions().await
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        let refused = locked(&self.refused_key).clone();
        if !refused.is_empty() && key.ends_with(&refused) {
            return Err(StoreError("switched off".to_owned()));
        }
        self.up().await?.put_if_absent(key, value, ttl).await
    }

    async fn kept(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.up().await?.kept(key).await
    }

    async fn use_token(&self, token: &str, user: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.up().await?.use_token(token, user, ttl).await
    }

    async fn claim_session(&self, session_id: &str, node_id: &str, ttl: Duration) -> Result<Claim, StoreError> {
        self.up().await?.claim_session(session_id, node_id, ttl).await
    }

    async fn take_over_session(
        &self,
        session_id: &str,
        gone: &str,
        node_id: &str,
        ttl: Duration,
    ) -> Result<Claim, StoreError> {
        self.up().await?.take_over_session(session_id, gone, node_id, ttl).await
    }

    async fn release_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        self.up().await?.release_session(session_id, node_id).await
    }

    async fn leave_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        self.up().await?.leave_session(session_id, node_id).await
    }

    async fn heartbeat(&self, node: &NodeRecord) -> Result<bool, StoreError> {
        self.up().await?.heartbeat(node).await
    }

    async fn remove_node(&self, node_id: &str) -> Result<(), StoreError> {
        self.up().await?.remove_node(node_id).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.up().await?.nodes().await
    }

    async fn place(&self, node_id: &str, ticket: &str) -> Result<bool, StoreError> {
        self.up().await?.place(node_id, ticket).await
    }

    async fn unplace(&self, node_id: &str, ticket: &str) -> Result<(), StoreError> {
        self.up().await?.unplace(node_id, ticket).await
    }

    async fn held_by(&self, session_id: &str) -> Result<Option<String>, StoreError> {
        self.up().await?.held_by(session_id).await
    }

    async fn take(&self, allowance: &str, rate: Rate) -> Result<Option<Duration>, StoreError> {
        self.up().await?.take(allowance, rate).await
    }

    async fn hold_session(&self, tenant: &str, session_id: &str, most: u32) -> Result<bool, StoreError> {
        self.up().await?.hold_session(tenant, session_id, most).await
    }

    async fn drop_session(&self, tenant: &str, session_id: &str) -> Result<(), StoreError> {
        self.up().await?.drop_session(tenant, session_id).await
    }

    async fn advance(&self, what: &str, rank: u32, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        let refused = *locked(&self.refused_progress);
        if refused.is_some_and(|(name, at)| what.starts_with(name) && rank == at) {
            return Err(StoreError("refused".to_owned()));
        }
        self.up().await?.advance(what, rank, value, ttl).await
    }

    async fn progress(&self, what: &str) -> Result<Option<String>, StoreError> {
        self.up().await?.progress(what).await
    }

    async fn forget_progress(&self, what: &str) -> Result<(), StoreError> {
        self.up().await?.forget_progress(what).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.up().await?.ping().await
    }
}
