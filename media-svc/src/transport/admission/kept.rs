//! What the session store has to know of a call as long as it lives.

use std::sync::Arc;
use std::time::Duration;

use session_store::{Claim, SessionRecord, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::node::STORE_RETRY;

/// A live call's entries in the session store.
pub struct KeptSession {
    /// Where they are.
    pub store: Arc<dyn Store>,
    /// This node.
    pub node_id: Arc<str>,
    /// How long they live without being renewed.
    pub ttl: Duration,
    /// Whom the session counts for.
    pub tenant: Option<String>,
    /// The session.
    pub record: SessionRecord,
}

impl KeptSession {
    /// Renews them until it is dropped, and writes them again when the store has lost them, or may have: as often as it
    /// takes.
    pub async fn keep(self, mut restores: watch::Receiver<Option<Instant>>) {
        let session_id = &self.record.session_id;
        let mut interval = tokio::time::interval(self.ttl / 3);
        let mut node_reports = true;
        let mut lost = false;
        loop {
            let tried = lost;
            tokio::select! {
                _ = interval.tick() => match self.store.touch_session(session_id, self.ttl).await {
                    Ok(known) => lost |= !known,
                    Err(error) => tracing::warn!(%session_id, %error, "session not renewed; the call goes on"),
                },
                changed = restores.changed(), if node_reports => {
                    node_reports = changed.is_ok();
                    lost |= node_reports;
                }
                () = tokio::time::sleep(STORE_RETRY), if lost => {}
            }
            if !lost {
                continue;
            }
            match self.restore().await {
                Ok(()) => lost = false,
                Err(error) if tried => tracing::debug!(%session_id, %error, "session still not listed again"),
                Err(error) => tracing::warn!(%session_id, %error, "session not listed again yet; the call goes on"),
            }
        }
    }

    /// The claim first: a node that got the stream of this session meanwhile must not be overwritten.
    async fn restore(&self) -> Result<(), StoreError> {
        let session_id = &self.record.session_id;
        if let Claim::OwnedBy(media_node) = self.store.claim_session(session_id, &self.node_id, self.ttl).await? {
            tracing::error!(%session_id, media_node, "another node claims a session whose call runs here");
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
    use service_kit::config::MediaTransport;
    use service_kit::tasks::{AbortOnDrop, TaskScope};
    use session_store::SessionState;
    use session_store::switch::{RIGHT_AGAIN_WITHIN, Switch};

    use super::*;
    use crate::call::registry::{Calls, Reservation};
    use crate::node::{Node, Registration};

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

    /// The call `one`, of the tenant `tenant`.
    fn keep(scope: &TaskScope, store: &Arc<Switch>, restores: watch::Receiver<Option<Instant>>) -> AbortOnDrop {
        let kept = KeptSession {
            store: store.clone(),
            node_id: "node".into(),
            ttl: TTL,
            tenant: Some("tenant".to_owned()),
            record: record(),
        };
        scope.spawn_owned("session renewal", kept.keep(restores))
    }

    /// A node with a slot for the session `expected`.
    fn start_node(scope: &TaskScope, store: &Arc<Switch>) -> Node {
        let calls = Calls::new(scope, 5, &[MediaTransport::WebSocket]);
        let reservation = Reservation {
            session_id: "expected".into(),
            transport: MediaTransport::WebSocket,
            provider: String::new(),
            call_id: String::new(),
            body_json: String::new(),
            ttl: TTL,
        };
        calls.reserve(reservation).unwrap();
        let registration = Registration {
            node_id: "node".into(),
            control_url: "http://10.0.0.7:9090".to_owned(),
            public_url: "ws://10.0.0.7:8080".to_owned(),
            zone: None,
            drain_timeout: TTL,
            flush_timeout: TTL,
            drain_message: None,
            measured: None,
        };
        Node::start(registration, store.clone(), calls, scope)
    }

    /// Whether the store knows the node, its reservation, and its call with whom it counts for.
    async fn is_right(store: &Switch) -> bool {
        let nodes = store.nodes().await.is_ok_and(|nodes| nodes.len() == 1);
        let expected = matches!(store.session("expected").await, Ok(Some(_)));
        let listed = matches!(store.session("one").await, Ok(Some(_)));
        let held = matches!(store.held_by("one").await, Ok(Some(_)));
        nodes && expected && listed && held
    }

    async fn until_right(store: &Switch) -> Duration {
        let began = Instant::now();
        while !is_right(store).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_the_store_has_lost_is_listed_and_counted_again() {
        let store = Switch::new();
        let (_node, restores) = watch::channel(None);
        let scope = TaskScope::root("test");
        let _renewal = keep(&scope, &store, restores);

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

    /// However the store was away, and whatever was asked of it at the moment of its return.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_empty_knows_the_node_and_its_calls_again_in_half_of_the_promised_time() {
        let mut longest = Duration::ZERO;
        for hangs in [false, true] {
            for phase in 0..50 {
                let (scope, store) = (TaskScope::root("test"), Switch::new());
                let node = start_node(&scope, &store);
                let renewal = keep(&scope, &store, node.restores());
                tokio::time::sleep(Duration::from_secs(3)).await;

                store.hang(hangs);
                store.switch(false);
                store.lose();
                tokio::time::sleep(Duration::from_secs(7) + Duration::from_millis(100) * phase).await;
                store.switch(true);

                longest = longest.max(until_right(&store).await);
                renewal.stop().await;
                scope.cancel();
                scope.join().await;
            }
        }
        println!("longest: {longest:?}");
        assert!(longest <= RIGHT_AGAIN_WITHIN / 2, "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_again_at_once_is_tried_until_it_is() {
        let (scope, store) = (TaskScope::root("test"), Switch::new());
        let node = start_node(&scope, &store);
        let _renewal = keep(&scope, &store, node.restores());
        tokio::time::sleep(Duration::from_secs(3)).await;

        // It answers the node's report, and takes no sessions for a while.
        store.refuse_writes(true);
        store.lose();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!is_right(&store).await);
        store.refuse_writes(false);

        assert!(until_right(&store).await <= RIGHT_AGAIN_WITHIN / 2);
    }
}
