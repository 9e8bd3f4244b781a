//! Times every operation of a store.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use prometheus::{HistogramVec, IntCounterVec};

use crate::{Claim, NodeRecord, Rate, SessionRecord, Store, StoreError};

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    service_kit::metrics::histogram_vec(
        "session_store_duration_seconds",
        "Time one operation of the session store took, failed ones included.",
        &["operation"],
    )
});

static ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    service_kit::metrics::counter_vec(
        "session_store_errors_total",
        "Operations of the session store that failed: it is away, or refuses.",
        &["operation"],
    )
});

/// A store that observes `session_store_duration_seconds{operation}` and counts `session_store_errors_total{operation}`
/// around another one.
pub struct Measured<S> {
    inner: S,
}

impl<S: Store> Measured<S> {
    /// Wraps a store.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

/// Observes on drop, so that an operation that is cancelled half-way is counted as well.
struct Timer {
    operation: &'static str,
    started: Instant,
}

async fn timed<T>(operation: &'static str, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let _timer = Timer {
        operation,
        started: Instant::now(),
    };
    let errors = ERRORS.with_label_values(&[operation]);
    work.await.inspect_err(|_| errors.inc())
}

impl Drop for Timer {
    fn drop(&mut self) {
        DURATION
            .with_label_values(&[self.operation])
            .observe(self.started.elapsed().as_secs_f64());
    }
}

#[async_trait]
impl<S: Store> Store for Measured<S> {
    async fn put_session(&self, session: &SessionRecord, ttl: Duration) -> Result<(), StoreError> {
        timed("put_session", self.inner.put_session(session, ttl)).await
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        timed("session", self.inner.session(session_id)).await
    }

    async fn touch_session(&self, session_id: &str, ttl: Duration) -> Result<bool, StoreError> {
        timed("touch_session", self.inner.touch_session(session_id, ttl)).await
    }

    async fn remove_session(&self, session_id: &str) -> Result<(), StoreError> {
        timed("remove_session", self.inner.remove_session(session_id)).await
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        timed("sessions", self.inner.sessions()).await
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        timed("put_if_absent", self.inner.put_if_absent(key, value, ttl)).await
    }

    async fn kept(&self, key: &str) -> Result<Option<String>, StoreError> {
        timed("kept", self.inner.kept(key)).await
    }

    async fn use_token(&self, token: &str, user: &str, ttl: Duration) -> Result<bool, StoreError> {
        timed("use_token", self.inner.use_token(token, user, ttl)).await
    }

    async fn claim_session(&self, session_id: &str, node_id: &str, ttl: Duration) -> Result<Claim, StoreError> {
        timed("claim_session", self.inner.claim_session(session_id, node_id, ttl)).await
    }

    async fn take_over_session(
        &self,
        session_id: &str,
        gone: &str,
        node_id: &str,
        ttl: Duration,
    ) -> Result<Claim, StoreError> {
        let taking = self.inner.take_over_session(session_id, gone, node_id, ttl);
        timed("take_over_session", taking).await
    }

    async fn release_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        timed("release_session", self.inner.release_session(session_id, node_id)).await
    }

    async fn leave_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        timed("leave_session", self.inner.leave_session(session_id, node_id)).await
    }

    async fn heartbeat(&self, node: &NodeRecord) -> Result<bool, StoreError> {
        timed("heartbeat", self.inner.heartbeat(node)).await
    }

    async fn remove_node(&self, node_id: &str) -> Result<(), StoreError> {
        timed("remove_node", self.inner.remove_node(node_id)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        timed("nodes", self.inner.nodes()).await
    }

    async fn place(&self, node_id: &str, ticket: &str) -> Result<bool, StoreError> {
        timed("place", self.inner.place(node_id, ticket)).await
    }

    async fn unplace(&self, node_id: &str, ticket: &str) -> Result<(), StoreError> {
        timed("unplace", self.inner.unplace(node_id, ticket)).await
    }

    async fn take(&self, allowance: &str, rate: Rate) -> Result<Option<Duration>, StoreError> {
        timed("take", self.inner.take(allowance, rate)).await
    }

    async fn hold_session(&self, tenant: &str, session_id: &str, most: u32) -> Result<bool, StoreError> {
        timed("hold_session", self.inner.hold_session(tenant, session_id, most)).await
    }

    async fn held_by(&self, session_id: &str) -> Result<Option<String>, StoreError> {
        timed("held_by", self.inner.held_by(session_id)).await
    }

    async fn drop_session(&self, tenant: &str, session_id: &str) -> Result<(), StoreError> {
        timed("drop_session", self.inner.drop_session(tenant, session_id)).await
    }

    async fn advance(&self, what: &str, rank: u32, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        timed("advance", self.inner.advance(what, rank, value, ttl)).await
    }

    async fn progress(&self, what: &str) -> Result<Option<String>, StoreError> {
        timed("progress", self.inner.progress(what)).await
    }

    async fn forget_progress(&self, what: &str) -> Result<(), StoreError> {
        timed("forget_progress", self.inner.forget_progress(what)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        timed("ping", self.inner.ping()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test]
    async fn every_operation_is_counted_under_its_name() {
        let store = Measured::new(MemoryStore::new());
        let before = DURATION.with_label_values(&["ping"]).get_sample_count();

        store.ping().await.unwrap();

        assert_eq!(DURATION.with_label_values(&["ping"]).get_sample_count(), before + 1);
    }
}
