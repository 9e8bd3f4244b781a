//! The store of a deployment: one Redis, a Sentinel group, or a Cluster. Every operation is one command or one script on
//! keys of one hash tag; [`keys`] lists every key.

mod address;
mod connection;
mod error;
pub mod keys;
mod lineage;
mod pem;
mod scripts;

use std::collections::BTreeMap;
use std::time::Duration;

use ::redis::{RedisError, cmd};
use async_trait::async_trait;
use futures_util::future::{join, try_join_all};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::config::{RedisTls, Secret};
use service_kit::exit::{self, Fatal};

use crate::{Claim, HOLD_GRACE, NODE_TTL, NodeRecord, PLACING, Rate, SessionRecord, Store, StoreError};
use address::Address;
use connection::Connection;
pub(crate) use connection::LONGEST_OPERATION;
use error::unanswered;
use lineage::Lineage;
use pem::Pem;

/// How long it is remembered for whom a session counts; as long as the tenant's own list.
const HOLDER_TTL: Duration = Duration::from_secs(86_400);

/// Sessions, nodes, keys and claims in Redis, over a connection that comes back by itself.
pub struct RedisStore {
    connection: Connection,
    lineage: Lineage,
}

impl RedisStore {
    /// Connects and checks that Redis answers.
    ///
    /// Errors: the URL is not one (exit status 64), a file cannot be read (66), or nobody answers there, or the password or
    /// a certificate is refused (69).
    pub async fn connect(url: &Secret, tls: &RedisTls) -> Result<Self, Fatal> {
        let address = Address::parse(url.expose()).map_err(|error| {
            Fatal::new(
                exit::CONFIG,
                format!("redis_url is not a Redis URL: {error}"),
                "set redis_url (VOXRAY_REDIS_URL) to redis://[user:password@]host:6379[/db], redis+sentinel://host,host/name or redis+cluster://host,host; rediss for TLS",
            )
        })?;
        let files = Pem::read(tls)?;
        let (hosts, with_tls) = (address.shown(), address.tls);
        let unavailable = |error: RedisError| {
            let why = error::why(&error);
            let what = format!("Redis at {hosts} cannot be used: {why}");
            Fatal::new(exit::UNAVAILABLE, what, error::remedy(&error, with_tls))
        };
        let store = Self {
            connection: Connection::open(address, files).await.map_err(unavailable)?,
            lineage: Lineage::default(),
        };
        store.answers().await.map_err(unavailable)?;
        if let Err(StoreError(why)) = store.replication_ids().await {
            tracing::warn!(
                why,
                "Redis does not tell its replication id, so a failover that no report of a node falls into goes unnoticed; let this user of Redis do what docs/redis-keys.md lists"
            );
        }
        Ok(store)
    }

    async fn answers(&self) -> Result<(), RedisError> {
        // Not PING: of a cluster that has lost a part any server answers that.
        cmd("EXISTS")
            .arg(keys::NODES)
            .query_async::<u8>(&mut self.connection.clone())
            .await
            .map(drop)
    }

    /// Of the servers that keep the sessions, in the order of the shards.
    async fn replication_ids(&self) -> Result<Vec<String>, StoreError> {
        // Outside of a cluster all of them are on one server.
        let shards = if self.connection.is_cluster() { keys::SHARDS } else { 1 };
        let ids = (0..shards).map(|shard| async move {
            scripts::REPLICATION_ID
                .key(keys::sessions(shard))
                .invoke_async(&mut self.connection.clone())
                .await
                .map_err(unanswered)
        });
        try_join_all(ids).await
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

    /// Keeps a value unless one is kept already; answers the kept one if so.
    async fn keep(&self, key: String, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        scripts::PUT_IF_ABSENT
            .key(key)
            .arg(value)
            .arg(millis(ttl))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn delete(&self, key: String) -> Result<(), StoreError> {
        cmd("DEL")
            .arg(key)
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn sessions_of(&self, shard: u8) -> Result<Vec<SessionRecord>, StoreError> {
        let values: Vec<String> = scripts::LIST
            .key(keys::sessions(shard))
            .arg(keys::session_prefix(shard))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        Ok(values.iter().filter_map(|json| readable(json)).collect())
    }

    async fn hold(&self, tenant: &str, session_id: &str, most: u32, over: &[String]) -> Result<Hold, StoreError> {
        let answer: ::redis::Value = scripts::HOLD
            .key(keys::tenant(tenant))
            .arg(session_id)
            .arg(most)
            .arg(millis(HOLD_GRACE))
            .arg(over)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        match answer {
            ::redis::Value::Int(_) => Ok(Hold::Held),
            sessions => Ok(Hold::FullWith(
                ::redis::from_redis_value(sessions).map_err(|error| StoreError(error.to_string()))?,
            )),
        }
    }

    /// Those of the sessions that have no record, or whose node is gone.
    async fn gone(&self, sessions: Vec<String>) -> Result<Vec<String>, StoreError> {
        let mut shards: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for session_id in sessions {
            shards.entry(keys::shard(&session_id)).or_default().push(session_id);
        }
        let nodes = &self.nodes().await?;
        let lives = |json: &String| {
            let record: Result<SessionRecord, _> = serde_json::from_str(json);
            // One that another release has written counts.
            !record.is_ok_and(|record| record.is_orphaned(nodes))
        };
        let gone = shards.into_values().map(|sessions| async move {
            let mut script = scripts::RECORDS.prepare_invoke();
            for session_id in &sessions {
                script.key(keys::session(session_id));
            }
            let records: Vec<Option<String>> = script
                .invoke_async(&mut self.connection.clone())
                .await
                .map_err(unanswered)?;
            let gone = sessions
                .into_iter()
                .zip(records)
                .filter(|(_, record)| !record.as_ref().is_some_and(lives));
            Ok(gone.map(|(session_id, _)| session_id).collect::<Vec<_>>())
        });
        Ok(try_join_all(gone).await?.concat())
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn put_session(&self, session: &SessionRecord, ttl: Duration) -> Result<(), StoreError> {
        let id = &session.session_id;
        let index = keys::sessions(keys::shard(id));
        self.put(keys::session(id), &index, id, to_json(session)?, ttl).await
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
            .key(keys::sessions(keys::shard(session_id)))
            .key(keys::owner(session_id))
            .arg(millis(ttl))
            .arg(session_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn remove_session(&self, session_id: &str) -> Result<(), StoreError> {
        scripts::REMOVE
            .key(keys::sessions(keys::shard(session_id)))
            .key(keys::session(session_id))
            .key(keys::owner(session_id))
            .key(keys::holder(session_id))
            .arg(session_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        let shards = (0..keys::SHARDS).map(|shard| self.sessions_of(shard));
        let mut sessions = try_join_all(shards).await?.concat();
        crate::oldest_first(&mut sessions);
        Ok(sessions)
    }

    async fn put_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<Option<String>, StoreError> {
        self.keep(keys::idempotency(key), value, ttl).await
    }

    async fn kept(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.get(keys::idempotency(key)).await
    }

    async fn use_token(&self, token: &str, user: &str, ttl: Duration) -> Result<bool, StoreError> {
        let first = self.keep(keys::token(token), user, ttl).await?;
        Ok(first.is_none_or(|first| first == user))
    }

    async fn claim_session(&self, session_id: &str, node_id: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let owner: String = scripts::CLAIM
            .key(keys::owner(session_id))
            .arg(node_id)
            .arg(millis(ttl))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        Ok(claim(owner, node_id))
    }

    async fn take_over_session(
        &self,
        session_id: &str,
        gone: &str,
        node_id: &str,
        ttl: Duration,
    ) -> Result<Claim, StoreError> {
        let owner: String = scripts::TAKE_OVER
            .key(keys::owner(session_id))
            .arg(gone)
            .arg(node_id)
            .arg(millis(ttl))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        Ok(claim(owner, node_id))
    }

    async fn release_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        scripts::RELEASE
            .key(keys::owner(session_id))
            .arg(node_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn leave_session(&self, session_id: &str, node_id: &str) -> Result<(), StoreError> {
        scripts::LEAVE
            .key(keys::sessions(keys::shard(session_id)))
            .key(keys::owner(session_id))
            .key(keys::session(session_id))
            .key(keys::holder(session_id))
            .arg(session_id)
            .arg(node_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn heartbeat(&self, node: &NodeRecord) -> Result<bool, StoreError> {
        let json = to_json(node)?;
        let report = async {
            scripts::HEARTBEAT
                .key(keys::node(&node.node_id))
                .key(keys::NODES)
                .key(keys::placed(&node.node_id))
                .arg(json)
                .arg(millis(NODE_TTL))
                .arg(&node.node_id)
                .arg(millis(PLACING))
                .invoke_async(&mut self.connection.clone())
                .await
                .map_err(unanswered)
        };
        // Side by side: a report may not take twice the longest operation.
        let (known, ids) = join(report, self.replication_ids()).await;
        let known: bool = known?;
        let same = match ids {
            Ok(ids) => self.lineage.is_still(ids),
            Err(error) => {
                tracing::debug!(%error, "a part of Redis does not tell its replication id; the next report asks again");
                true
            }
        };
        Ok(known && same)
    }

    async fn remove_node(&self, node_id: &str) -> Result<(), StoreError> {
        scripts::REMOVE
            .key(keys::NODES)
            .key(keys::node(node_id))
            .key(keys::placed(node_id))
            .arg(node_id)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let reports: Vec<(String, u32)> = scripts::NODES
            .key(keys::NODES)
            .arg(keys::NODE_PREFIX)
            .arg(keys::PLACED_PREFIX)
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        let reports = reports.iter().filter_map(|(json, placed)| {
            let report: NodeRecord = readable(json)?;
            Some(NodeRecord {
                placed: *placed,
                ..report
            })
        });
        let mut nodes: Vec<_> = reports.collect();
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        Ok(nodes)
    }

    async fn place(&self, node_id: &str, ticket: &str) -> Result<bool, StoreError> {
        scripts::PLACE
            .key(keys::placed(node_id))
            .key(keys::node(node_id))
            .arg(ticket)
            .arg(millis(NODE_TTL))
            .invoke_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
    }

    async fn unplace(&self, node_id: &str, ticket: &str) -> Result<(), StoreError> {
        cmd("ZREM")
            .arg(keys::placed(node_id))
            .arg(ticket)
            .query_async(&mut self.connection.clone())
            .await
            .map_err(unanswered)
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
        // First for whom it counts: a session that is counted and has no holder would be lost with the store.
        cmd("SET")
            .arg(keys::holder(session_id))
            .arg(tenant)
            .arg("PX")
            .arg(millis(HOLDER_TTL))
            .query_async::<()>(&mut self.connection.clone())
            .await
            .map_err(unanswered)?;
        let full_with = match self.hold(tenant, session_id, most, &[]).await? {
            Hold::Held => return Ok(true),
            Hold::FullWith(sessions) => sessions,
        };
        // Only now it matters which of them are over.
        let over = self.gone(full_with).await?;
        if !over.is_empty() && matches!(self.hold(tenant, session_id, most, &over).await?, Hold::Held) {
            return Ok(true);
        }
        self.delete(keys::holder(session_id)).await?;
        Ok(false)
    }

    async fn held_by(&self, session_id: &str) -> Result<Option<String>, StoreError> {
        self.get(keys::holder(session_id)).await
    }

    async fn drop_session(&self, tenant: &str, session_id: &str) -> Result<(), StoreError> {
        self.delete(keys::holder(session_id)).await?;
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
        self.delete(keys::progress(what)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.answers().await.map_err(unanswered)
    }
}

/// What the owner after a claim means for the node that has claimed.
fn claim(owner: String, node_id: &str) -> Claim {
    if owner == node_id {
        Claim::Owned
    } else {
        Claim::OwnedBy(owner)
    }
}

/// Whether a session counts for its tenant now.
enum Hold {
    Held,
    /// These count only as long as they have records.
    FullWith(Vec<String>),
}

/// A record of another release that cannot be read must not hide the others.
fn readable<T: DeserializeOwned>(json: &str) -> Option<T> {
    serde_json::from_str(json)
        .inspect_err(|error| {
            tracing::warn!(%error, "a record in Redis cannot be read; is an older release still running?");
        })
        .ok()
}

/// Redis refuses a time to live of 0.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn to_json(record: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(|error| StoreError(error.to_string()))
}
