//! The store of a single process: maps whose entries expire.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
// Tokio's clock, not the system's: tests pause and advance it.
use tokio::time::Instant;

use crate::{Claim, HOLD_GRACE, NODE_TTL, NodeRecord, PLACING, Rate, SessionRecord, Store, StoreError};

/// Sessions, nodes, keys and claims of one process; gone with it.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: Expiring<SessionRecord>,
    owners: Expiring<String>,
    kept: Expiring<String>,
    used_tokens: Expiring<String>,
    nodes: Expiring<NodeRecord>,
    /// Tickets of each node, and when they were given.
    placed: HashMap<String, HashMap<String, Instant>>,
    /// When the allowance will be whole again.
    allowances: Expiring<Instant>,
    /// Until when each session of a tenant counts whether it has a record or not.
    held: HashMap<String, HashMap<String, Instant>>,
    progress: Expiring<(u32, String)>,
}

impl Inner {
    fn tickets(&self, node_id: &str) -> u32 {
        let tickets = self.placed.get(node_id).map_or(0, HashMap::len);
        u32::try_from(tickets).unwrap_or(u32::MAX)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    // Nothing awaits while this is held, and no operation leaves the maps half-changed, so a poisoned lock is usable.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_session(&self, session: &SessionRecord, ttl: Duration) -> Result<(), StoreError> {
        self.lock()
            .sessions
            .put(&session.session_id, session.clone(), Instant::now(), ttl);
        Ok(())
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        Ok(self.lock().sessions.get(session_id, Instant::now()).cloned())
    }

    async fn touch_session(&self, session_id: &str, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let alive = inner.sessions.touch(session_id, now, ttl);
        if alive {
            inner.owners.touch(session_id, now, ttl);
        }
        Ok(alive)
    }

    async fn remove_session(&self, session_id: &str) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.sessions.remove(session_id);
        inner.owners.remove(session_id);
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        let mut sessions = self.lock().sessions.values(Instant::now());
        crate::oldest_first(&mut sessions);
        Ok(sessions)
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(kept) = inner.kept.get(key, now) {
            return Ok(Some(kept.clone()));
        }
        inner.kept.put(key, value.to_owned(), now, ttl);
        Ok(None)
    }

    async fn kept(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.lock().kept.get(key, Instant::now()).cloned())
    }

    async fn use_token(&self, token: &str, user: &str, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(first) = inner.used_tokens.get(token, now) {
            return Ok(first == user);
        }
        inner.used_tokens.put(token, user.to_owned(), now, ttl);
        Ok(true)
    }

    async fn claim_session(&self, session_id: &str, node_id: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(owner) = inner.owners.get(session_id, now)
            && owner != node_id
        {
            return Ok(Claim::OwnedBy(owner.clone()));
        }
        inner.owners.put(session_id, node_id.to_owned(), now, ttl);
        Ok(Claim::Owned)
    }

    async fn take_over_session(
        &self,
        session_id: &str,
        gone: &str,
        node_id: &str,
        ttl: Duration,
    ) -> Result<Claim, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(owner) = inner.owners.get(session_id, now)
            && owner != node_id
            && owner != gone
        {
            return Ok(Claim::OwnedBy(owner.clone()));
        }
        inner.owners.put(session_id, node_id.to_owned(), now, ttl);
        Ok(Claim::Owned)
    }

    async fn release_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner
            .owners
            .get(session_id, Instant::now())
            .is_some_and(|owner| owner == node_id)
        {
            inner.owners.remove(session_id);
        }
        Ok(())
    }

    async fn leave_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let owner = inner.owners.get(session_id, Instant::now());
        if owner.is_none_or(|owner| owner == node_id) {
            inner.sessions.remove(session_id);
            inner.owners.remove(session_id);
        }
        Ok(())
    }

    async fn heartbeat(&self, node: &NodeRecord) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let known = inner.nodes.get(&node.node_id, now).is_some();
        inner.nodes.put(&node.node_id, node.clone(), now, NODE_TTL);
        if let Some(placed) = inner.placed.get_mut(&node.node_id) {
            placed.retain(|_, at| *at + PLACING > now);
            if placed.is_empty() {
                inner.placed.remove(&node.node_id);
            }
        }
        Ok(known)
    }

    async fn remove_node(&self, node_id: &str) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.nodes.remove(node_id);
        inner.placed.remove(node_id);
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let inner = self.lock();
        let mut nodes = inner.nodes.values(Instant::now());
        for node in &mut nodes {
            node.placed = inner.tickets(&node.node_id);
        }
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Ok(nodes)
    }

    async fn place(&self, node_id: &str, ticket: &str) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let placed = inner.tickets(node_id);
        let fits = inner
            .nodes
            .get(node_id, now)
            .is_some_and(|node| !node.draining && placed < node.capacity.saturating_sub(node.sessions));
        if fits {
            let tickets = inner.placed.entry(node_id.to_owned()).or_default();
            tickets.insert(ticket.to_owned(), now);
        }
        Ok(fits)
    }

    async fn unplace(&self, node_id: &str, ticket: &str) -> Result<(), StoreError> {
        if let Some(tickets) = self.lock().placed.get_mut(node_id) {
            tickets.remove(ticket);
        }
        Ok(())
    }

    async fn take(&self, allowance: &str, rate: Rate) -> Result<Option<Duration>, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let whole_at = inner.allowances.get(allowance, now).copied().unwrap_or(now).max(now);
        let wait = (whole_at - now).saturating_sub(rate.tolerance());
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
        let whole_at = whole_at + rate.interval();
        inner.allowances.put(allowance, whole_at, now, whole_at - now);
        Ok(None)
    }

    async fn hold_session(&self, tenant: &str, session_id: &str, most: u32) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        let nodes = inner.nodes.values(now);
        let Inner { sessions, held, .. } = &mut *inner;
        let lives = |id: &String| {
            sessions
                .get(id, now)
                .is_some_and(|session| !session.is_orphaned(&nodes))
        };
        let of_tenant = held.entry(tenant.to_owned()).or_default();
        of_tenant.retain(|id, until| *until > now || lives(id));
        let fits = of_tenant.len() < usize::try_from(most).unwrap_or(usize::MAX);
        if fits {
            of_tenant.insert(session_id.to_owned(), now + HOLD_GRACE);
        } else if of_tenant.is_empty() {
            held.remove(tenant);
        }
        Ok(fits)
    }

    async fn held_by(&self, session_id: &str) -> Result<Option<String>, StoreError> {
        let inner = self.lock();
        let mut tenants = inner.held.iter();
        let found = tenants.find(|(_, sessions)| sessions.contains_key(session_id));
        Ok(found.map(|(tenant, _)| tenant.clone()))
    }

    async fn drop_session(&self, tenant: &str, session_id: &str) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if let Some(of_tenant) = inner.held.get_mut(tenant) {
            of_tenant.remove(session_id);
            if of_tenant.is_empty() {
                inner.held.remove(tenant);
            }
        }
        Ok(())
    }

    async fn advance(&self, what: &str, rank: u32, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.progress.get(what, now).is_some_and(|(kept, _)| *kept >= rank) {
            return Ok(false);
        }
        inner.progress.put(what, (rank, value.to_owned()), now, ttl);
        Ok(true)
    }

    async fn progress(&self, what: &str) -> Result<Option<String>, StoreError> {
        let kept = self.lock().progress.get(what, Instant::now()).cloned();
        Ok(kept.map(|(_, value)| value))
    }

    async fn forget_progress(&self, what: &str) -> Result<(), StoreError> {
        self.lock().progress.remove(what);
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Fewer entries than this are never swept: too few to matter.
const SWEEP_FLOOR: usize = 256;
/// A larger map is swept this often at most, and at once when it has doubled.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A map whose entries end at a deadline. Expired entries are invisible at once and freed by later writing, which stays
/// cheap while memory follows what is alive.
struct Expiring<V> {
    entries: HashMap<String, (V, Instant)>,
    sweep_at: usize,
    swept: Option<Instant>,
}

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            sweep_at: SWEEP_FLOOR,
            swept: None,
        }
    }
}

impl<V: Clone> Expiring<V> {
    fn put(&mut self, key: &str, value: V, now: Instant, ttl: Duration) {
        let is_due = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY);
        let count = self.entries.len();
        if count >= self.sweep_at || (is_due && count >= SWEEP_FLOOR) {
            self.entries.retain(|_, (_, deadline)| *deadline > now);
            self.entries.shrink_to(self.entries.len() * 2);
            self.sweep_at = (self.entries.len() * 2).max(SWEEP_FLOOR);
            self.swept = Some(now);
        }
        self.entries.insert(key.to_owned(), (value, now + ttl));
    }

    fn get(&self, key: &str, now: Instant) -> Option<&V> {
        self.entries
            .get(key)
            .filter(|(_, deadline)| *deadline > now)
            .map(|(value, _)| value)
    }

    /// At least `ttl` more.
    fn touch(&mut self, key: &str, now: Instant, ttl: Duration) -> bool {
        match self.entries.get_mut(key).filter(|(_, deadline)| *deadline > now) {
            Some((_, deadline)) => {
                *deadline = (*deadline).max(now + ttl);
                true
            }
            None => false,
        }
    }

    fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn values(&self, now: Instant) -> Vec<V> {
        self.entries
            .values()
            .filter(|(_, deadline)| *deadline > now)
            .map(|(value, _)| value.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test(start_paused = true)]
    async fn the_memory_store_keeps_every_promise_of_the_trait() {
        let store = MemoryStore::new();
        conformance::all(&store, tokio::time::advance).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_touched_session_outlives_its_first_deadline_and_so_does_its_claim() {
        let store = MemoryStore::new();
        let session = conformance::session("s1", 1);
        let minute = Duration::from_secs(60);
        store.put_session(&session, minute).await.unwrap();
        store.claim_session("s1", "a", minute).await.unwrap();

        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(store.touch_session("s1", minute).await.unwrap());
        tokio::time::advance(Duration::from_secs(59)).await;

        assert_eq!(store.session("s1").await.unwrap(), Some(session));
        let claim = store.claim_session("s1", "b", minute).await.unwrap();
        assert_eq!(claim, Claim::OwnedBy("a".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_of_a_node_that_is_gone_count_no_longer() {
        let store = MemoryStore::new();
        // Longer than a session counts without a record, longer than a node lives without a heartbeat.
        let grace_is_over = async |_: &str, _: &str| tokio::time::advance(HOLD_GRACE).await;
        conformance::a_session_whose_node_is_gone_counts_no_longer(&store, grace_is_over).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_gone_when_its_heartbeat_is_older_than_the_ttl() {
        let store = MemoryStore::new();
        store.heartbeat(&conformance::node("a")).await.unwrap();

        tokio::time::advance(NODE_TTL - Duration::from_millis(1)).await;
        assert_eq!(store.nodes().await.unwrap().len(), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(store.nodes().await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_follows_what_is_alive() {
        let store = MemoryStore::new();
        for n in 0..20_000 {
            let ttl = Duration::from_secs(10);
            store.put_if_absent(&format!("key-{n}"), "v", ttl).await.unwrap();
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        // 200 keys are alive at any moment.
        assert!(store.lock().kept.entries.len() <= 2 * SWEEP_FLOOR);
    }
}
