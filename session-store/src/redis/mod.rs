//! The store of a deployment. Every operation is one command or one script; [`keys`] lists every key.
//!
//! Scripts that list records read keys they find in an index, so this needs one Redis (or a Sentinel group behind one
//! address), not a cluster that shards keys.

pub mod keys;
mod scripts;

use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, ConnectionAddr, ErrorKind, RedisError, cmd};
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::config::Secret;
use service_kit::exit::{self, Fatal};

use crate::{Claim, HOLD_GRACE, NODE_TTL, NodeRecord, Rate, SessionRecord, Store, StoreError};

/// Longest wait for an answer: beyond it the caller is better served by an error.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// No retry inside an operation: it fails fast, and the next one connects anew.
const RECONNECT_RETRIES: usize = 0;

/// Sessions, nodes, keys and claims in Redis, over one multiplexed connection that comes back by itself.
pub struct RedisStore {
    connection: ConnectionManager,
}

impl RedisStore {
    /// Connects and checks that Redis answers.
    ///
    /// Errors: the URL is not one (exit status 64), or nobody answers there, or the password is refused (69).
    pub async fn connect(url: &Secret) -> Result<Self, Fatal> {
        let client = Client::open(url.expose()).map_err(|error| {
            Fatal::new(
                exit::CONFIG,
                format!("redis_url is not a Redis URL: {}", kind_of(&error)),
                "set redis_url (VOXRAY_REDIS_URL) to redis://[user:password@]host:6379[/db], or rediss:// for TLS",
            )
        })?;
        let address = shown_address(client.get_connection_info().addr());
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(RECONNECT_RETRIES);
        let unavailable = |why: String| {
            Fatal::new(
                exit::UNAVAILABLE,
                format!("Redis at {address} cannot be used: {why}"),
                "start Redis there or correct redis_url (VOXRAY_REDIS_URL); a single process needs none: session_store=memory",
            )
        };
        let connection = ConnectionManager::new_with_config(client, config)
            .await
            .map_err(|error| unavailable(kind_of(&error)))?;
        let store = Self { connection };
        store.ping().await.map_err(|StoreError(why)| unavailable(why))?;
        Ok(store)
    }

    async fn list<T: DeserializeOwned>(&self, index: &str, prefix: &str) -> Result<Vec<T>, StoreError> {
        let values: Vec<String> = scripts::LIST
            .key(index)
            .arg(prefix)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        // A record of another release that cannot be read must not hide the others.
        let readable = values.iter().filter_map(|json| match serde_json::from_str(json) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(index, %error, "a record in Redis cannot be read; is an older release still running?");
                None
            }
        });
        Ok(readable.collect())
    }

    async fn put(&self, key: String, index: &str, id: &str, value: String, ttl: Duration) -> Result<(), StoreError> {
        scripts::PUT
            .key(key)
            .key(index)
            .arg(value)
            .arg(millis(ttl))
            .arg(id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn get(&self, key: String) -> Result<Option<String>, StoreError> {
        cmd("GET")
            .arg(key)
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn put_session(&self, session: &SessionRecord, ttl: Duration) -> Result<(), StoreError> {
        let id = &session.session_id;
        self.put(keys::session(id), keys::SESSIONS, id, to_json(session)?, ttl)
            .await
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        let json = self.get(keys::session(session_id)).await?;
        json.map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| StoreError(format!("the record of a session cannot be read: {error}")))
    }

    async fn touch_session(&self, session_id: &str, ttl: Duration) -> Result<bool, StoreError> {
        scripts::TOUCH
            .key(keys::session(session_id))
            .key(keys::SESSIONS)
            .key(keys::owner(session_id))
            .arg(millis(ttl))
            .arg(session_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn remove_session(&self, session_id: &str) -> Result<(), StoreError> {
        scripts::REMOVE
            .key(keys::SESSIONS)
            .key(keys::session(session_id))
            .key(keys::owner(session_id))
            .arg(session_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        let mut sessions = self.list(keys::SESSIONS, keys::SESSION_PREFIX).await?;
        crate::oldest_first(&mut sessions);
        Ok(sessions)
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        scripts::PUT_IF_ABSENT
            .key(keys::idempotency(key))
            .arg(value)
            .arg(millis(ttl))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn kept(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.get(keys::idempotency(key)).await
    }

    async fn use_token(&self, token: &str, ttl: Duration) -> Result<bool, StoreError> {
        let set: Option<String> = cmd("SET")
            .arg(keys::token(token))
            .arg(1)
            .arg("NX")
            .arg("PX")
            .arg(millis(ttl))
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        Ok(set.is_some())
    }

    async fn claim_session(&self, session_id: &str, node_id: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let owner: String = scripts::CLAIM
            .key(keys::owner(session_id))
            .arg(node_id)
            .arg(millis(ttl))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        Ok(if owner == node_id {
            Claim::Owned
        } else {
            Claim::OwnedBy(owner)
        })
    }

    async fn heartbeat(&self, node: &NodeRecord) -> Result<(), StoreError> {
        let id = &node.node_id;
        self.put(keys::node(id), keys::NODES, id, to_json(node)?, NODE_TTL)
            .await
    }

    async fn remove_node(&self, node_id: &str) -> Result<(), StoreError> {
        scripts::REMOVE
            .key(keys::NODES)
            .key(keys::node(node_id))
            .arg(node_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let mut nodes: Vec<NodeRecord> = self.list(keys::NODES, keys::NODE_PREFIX).await?;
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Ok(nodes)
    }

    async fn take(&self, allowance: &str, rate: Rate) -> Result<Option<Duration>, StoreError> {
        let wait_ms: u64 = scripts::TAKE
            .key(keys::allowance(allowance))
            .arg(millis(rate.interval()))
            .arg(millis(rate.interval()) * u64::from(rate.burst.max(1) - 1))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        Ok((wait_ms > 0).then(|| Duration::from_millis(wait_ms)))
    }

    async fn hold_session(&self, tenant: &str, session_id: &str, most: u32) -> Result<bool, StoreError> {
        scripts::HOLD
            .key(keys::tenant(tenant))
            .arg(keys::SESSION_PREFIX)
            .arg(session_id)
            .arg(most)
            .arg(millis(HOLD_GRACE))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn drop_session(&self, tenant: &str, session_id: &str) -> Result<(), StoreError> {
        cmd("ZREM")
            .arg(keys::tenant(tenant))
            .arg(session_id)
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn advance(&self, what: &str, rank: u32, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        scripts::ADVANCE
            .key(keys::progress(what))
            .arg(rank)
            .arg(value)
            .arg(millis(ttl))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn progress(&self, what: &str) -> Result<Option<String>, StoreError> {
        cmd("HGET")
            .arg(keys::progress(what))
            .arg("value")
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn forget_progress(&self, what: &str) -> Result<(), StoreError> {
        cmd("DEL")
            .arg(keys::progress(what))
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        cmd("PING")
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }
}

/// Redis refuses a time to live of 0.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn to_json(record: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError(error.to_string()))
}

fn unanswered(error: RedisError) -> StoreError {
    StoreError(kind_of(&error))
}

/// The error as text, told so that it never repeats the URL and its password.
fn kind_of(error: &RedisError) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return "it wants another user or password".to_owned();
    }
    match error.code() {
        Some("NOAUTH" | "WRONGPASS") => "it wants another user or password".to_owned(),
        Some("READONLY") => "it is a read-only replica".to_owned(),
        _ => error.to_string(),
    }
}

/// `host:port` without user and password.
fn shown_address(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        other => other.to_string(),
    }
}
