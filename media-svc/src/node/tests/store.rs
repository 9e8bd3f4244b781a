//! A session store that keeps what a node does to it.

use std::sync::Mutex;
use std::time::Duration;

use session_store::{Claim, NodeRecord, Rate, SessionRecord, SessionState, Store, StoreError};
use tokio::sync::mpsc;

/// What a node did to the store, as it happened.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Heartbeat { sessions: u32, draining: bool },
    Refused,
    Removed,
    Written(String),
    Left(String),
}

/// A store that keeps what it saw; away while told to be.
pub struct FakeStore {
    pub seen: mpsc::Sender<Seen>,
    pub away: Mutex<bool>,
    /// It has lost everything, and does not know the node.
    pub empty: Mutex<bool>,
    /// Sessions and the nodes that own them.
    pub connected: Mutex<Vec<(&'static str, &'static str)>>,
    /// What it last heard of the node.
    pub reported: Mutex<Option<NodeRecord>>,
}

#[async_trait::async_trait]
impl Store for FakeStore {
    async fn heartbeat(&self, node: &NodeRecord) -> Result<bool, StoreError> {
        let away = *self.away.lock().unwrap();
        let seen = if away {
            Seen::Refused
        } else {
            Seen::Heartbeat {
                sessions: node.sessions,
                draining: node.draining,
            }
        };
        self.seen.send(seen).await.unwrap();
        if away {
            Err(StoreError("refused".to_owned()))
        } else {
            *self.reported.lock().unwrap() = Some(node.clone());
            Ok(!std::mem::take(&mut *self.empty.lock().unwrap()))
        }
    }

    async fn kept(&self, _key: &str) -> Result<Option<String>, StoreError> {
        Err(StoreError("a node keeps no keys".to_owned()))
    }

    async fn remove_node(&self, _node_id: &str) -> Result<(), StoreError> {
        self.seen.send(Seen::Removed).await.unwrap();
        Ok(())
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        Ok(Vec::new())
    }

    async fn put_session(&self, session: &SessionRecord, _ttl: Duration) -> Result<(), StoreError> {
        assert_eq!(session.node_id.as_deref(), Some("node-1"));
        self.seen.send(Seen::Written(session.session_id.clone())).await.unwrap();
        Ok(())
    }

    async fn place(&self, _node_id: &str, _ticket: &str) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn unplace(&self, _node_id: &str, _ticket: &str) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn held_by(&self, _session_id: &str) -> Result<Option<String>, StoreError> {
        unreachable!()
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        let sessions = self.sessions().await?;
        Ok(sessions.into_iter().find(|session| session.session_id == session_id))
    }

    async fn touch_session(&self, _session_id: &str, _ttl: Duration) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn remove_session(&self, _session_id: &str) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        let connected = self.connected.lock().unwrap();
        let sessions = connected.iter().map(|(session_id, node)| SessionRecord {
            session_id: (*session_id).to_owned(),
            created_at_unix_ms: 0,
            transport: "telephony".to_owned(),
            provider: String::new(),
            call_id: String::new(),
            node_id: Some((*node).to_owned()),
            state: match *node {
                "" => SessionState::Reserved,
                _ => SessionState::Connected,
            },
            body_json: String::new(),
        });
        Ok(sessions.collect())
    }

    async fn put_if_absent(&self, _key: &str, _value: &str, _ttl: Duration) -> Result<Option<String>, StoreError> {
        unreachable!()
    }

    async fn use_token(&self, _token: &str, _user: &str, _ttl: Duration) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn claim_session(&self, _session_id: &str, _node_id: &str, _ttl: Duration) -> Result<Claim, StoreError> {
        unreachable!()
    }

    async fn take_over_session(
        &self,
        _session_id: &str,
        _gone: &str,
        _node_id: &str,
        _ttl: Duration,
    ) -> Result<Claim, StoreError> {
        unreachable!()
    }

    async fn release_session(&self, _session_id: &str, _node_id: &str) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn leave_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        assert_eq!(node_id, "node-1");
        self.seen.send(Seen::Left(session_id.to_owned())).await.unwrap();
        Ok(())
    }

    async fn take(&self, _allowance: &str, _rate: Rate) -> Result<Option<Duration>, StoreError> {
        unreachable!()
    }

    async fn hold_session(&self, _tenant: &str, _session_id: &str, _most: u32) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn drop_session(&self, _tenant: &str, _session_id: &str) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn advance(&self, _what: &str, _rank: u32, _value: &str, _ttl: Duration) -> Result<bool, StoreError> {
        unreachable!()
    }

    async fn progress(&self, _what: &str) -> Result<Option<String>, StoreError> {
        unreachable!()
    }

    async fn forget_progress(&self, _what: &str) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        unreachable!()
    }
}
