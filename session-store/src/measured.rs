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
    use std::collections::BTreeSet;

    use futures_util::future::BoxFuture;
    use futures_util::{FutureExt as _, TryFutureExt as _};

    use super::*;
    use crate::conformance;
    use crate::switch::Switch;

    const TTL: Duration = Duration::from_secs(60);
    /// Made of `advance` and `progress`, and counted as these.
    const COMPOSED: [&str; 2] = ["void_session", "is_void"];

    /// What the trait promises, by its own text.
    fn operations() -> BTreeSet<&'static str> {
        let (_, store) = include_str!("lib.rs").split_once("pub trait Store").unwrap();
        let (store, _) = store.split_once("\n}").unwrap();
        let names = store
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("async fn "));
        let names = names.filter_map(|rest| rest.split('(').next());
        names.filter(|name| !COMPOSED.contains(name)).collect()
    }

    struct Given {
        store: Measured<Switch>,
        session: SessionRecord,
        node: NodeRecord,
    }

    impl Given {
        /// Every operation once, under its name.
        fn each(&self) -> Vec<(&'static str, BoxFuture<'_, Result<(), StoreError>>)> {
            macro_rules! once {
                ($($operation:ident($($argument:expr),*);)*) => {
                    vec![$((stringify!($operation), self.store.$operation($($argument),*).map_ok(drop).boxed())),*]
                };
            }
            let rate = Rate { burst: 1, window: TTL };
            once![
                put_session(&self.session, TTL);
                session("s");
                touch_session("s", TTL);
                remove_session("s");
                sessions();
                put_if_absent("k", "v", TTL);
                kept("k");
                use_token("t", "user", TTL);
                claim_session("s", "a", TTL);
                take_over_session("s", "a", "b", TTL);
                release_session("s", "b");
                leave_session("s", "b");
                heartbeat(&self.node);
                remove_node("a");
                nodes();
                place("a", "ticket");
                unplace("a", "ticket");
                take("tenant", rate);
                hold_session("tenant", "s", 1);
                held_by("s");
                drop_session("tenant", "s");
                advance("call", 1, "ringing", TTL);
                progress("call");
                forget_progress("call");
                ping();
            ]
        }
    }

    fn observed(operation: &str) -> (u64, u64) {
        let times = DURATION.with_label_values(&[operation]).get_sample_count();
        (times, ERRORS.with_label_values(&[operation]).get())
    }

    #[tokio::test]
    async fn every_operation_is_timed_under_its_name_and_counted_when_it_fails() {
        let given = Given {
            store: Measured::new(Switch::default()),
            session: conformance::session("s", 1),
            node: conformance::node("a"),
        };
        let names: BTreeSet<_> = given.each().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, operations());
        for away in [false, true] {
            given.store.inner.switch(!away);
            for (operation, work) in given.each() {
                let before: Vec<_> = names.iter().map(|name| observed(name)).collect();

                assert_eq!(work.await.is_err(), away, "{operation}");

                for (name, (times, errors)) in names.iter().zip(before) {
                    let moved = u64::from(*name == operation);
                    let expected = (times + moved, errors + moved * u64::from(away));
                    assert_eq!(observed(name), expected, "{name} after {operation}");
                }
            }
        }
    }
}
