//! What the session store knows of a live call, kept there for as long as it lives.

use std::sync::Arc;
use std::time::Duration;

use session_store::{Claim, SessionRecord, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

/// A live call's entries in the session store.
pub struct KeptSession {
    /// Where.
    pub store: Arc<dyn Store>,
    /// This node.
    pub node_id: Arc<str>,
    /// Time to live of the entries.
    pub ttl: Duration,
    /// Whom the session counts for.
    pub tenant: Option<String>,
    /// What the store knows of it.
    pub record: SessionRecord,
}

impl KeptSession {
    /// Renews them, and writes them again when the store has lost them, until it is dropped.
    pub async fn keep(self, mut restores: watch::Receiver<Option<Instant>>) {
        let mut interval = tokio::time::interval(self.ttl / 3);
        let mut node_reports = true;
        loop {
            let lost = tokio::select! {
                _ = interval.tick() => match self.store.touch_session(&self.record.session_id, self.ttl).await {
                    Ok(known) => !known,
                    Err(error) => {
                        tracing::warn!(session_id = %self.record.session_id, %error, "session not renewed; the call goes on");
                        false
                    }
                },
                changed = restores.changed(), if node_reports => {
                    node_reports = changed.is_ok();
                    node_reports
                }
            };
            if lost && let Err(error) = self.restore().await {
                tracing::warn!(session_id = %self.record.session_id, %error, "session not listed again; the call goes on");
            }
        }
    }

    /// The claim first: a node that got the stream of this session meanwhile must not be overwritten.
    async fn restore(&self) -> Result<(), StoreError> {
        let session_id = &self.record.session_id;
        if let Claim::OwnedBy(node) = self.store.claim_session(session_id, &self.node_id, self.ttl).await? {
            tracing::error!(%session_id, node, "another node claims a session whose call runs here");
            return Ok(());
        }
        self.store.put_session(&self.record, self.ttl).await?;
        if let Some(tenant) = &self.tenant {
            self.store.hold_session(tenant, session_id, u32::MAX).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use service_kit::tasks::TaskScope;
    use session_store::{MemoryStore, SessionState};

    use super::*;

    const TTL: Duration = Duration::from_secs(3_600);

    fn record() -> SessionRecord {
        SessionRecord {
            session_id: "one".to_owned(),
            created_at_unix_ms: 0,
            transport: "websocket".to_owned(),
            provider: String::new(),
            call_id: String::new(),
            node_id: Some("node".to_owned()),
            state: SessionState::Connected,
            body_json: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_the_store_has_lost_is_listed_and_counted_again() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (_node, restores) = watch::channel(None);
        let scope = TaskScope::root("test");
        let kept = KeptSession {
            store: Arc::clone(&store),
            node_id: "node".into(),
            ttl: TTL,
            tenant: Some("tenant".to_owned()),
            record: record(),
        };
        let _renewal = scope.spawn_owned("session renewal", kept.keep(restores));

        let back = async {
            while store.held_by("one").await.unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Long before it would be renewed again.
        tokio::time::timeout(Duration::from_secs(1), back).await.unwrap();
        assert_eq!(store.session("one").await.unwrap(), Some(record()));
        assert_eq!(store.held_by("one").await.unwrap().as_deref(), Some("tenant"));
        assert_eq!(
            store.claim_session("one", "another", TTL).await.unwrap(),
            Claim::OwnedBy("node".to_owned())
        );
    }
}
