//! Every key this project writes in Redis. `docs/redis-keys.md` shows the same table to operators.
//!
//! What stands in braces is Redis Cluster's hash tag: keys with the same tag live in one slot, so that a script may use
//! them together. Sessions are spread over [`SHARDS`] tags, `{s0}` to `{s15}`, by their ids; everything about nodes is
//! under one tag, because placement reads it together.
//!
//! | key | type | value | lives |
//! |---|---|---|---|
//! | `voxray:{sN}:session:ID` | string | session record, JSON | until its time to live ends, renewed while the call runs |
//! | `voxray:{sN}:sessions` | sorted set | ids of the sessions of this tag, scored by the Unix millisecond at which they expire | pruned by every write and listing |
//! | `voxray:{sN}:owner:ID` | string | id of the media node that owns the call | with the session |
//! | `voxray:{sN}:holder:ID` | string | tenant that the session counts for | a day, or with the session |
//! | `voxray:{nodes}:node:NODE` | string | a media node's report, JSON | 6 s after its last heartbeat |
//! | `voxray:{nodes}:nodes` | sorted set | node ids, scored like the sessions | pruned like them |
//! | `voxray:{nodes}:placed:NODE` | sorted set | a ticket for every session placed on the node since its last report, scored by the Unix millisecond of placing | until the node has reported it; 6 s at most |
//! | `voxray:idempotency:KEY` | string | what this client's first request with this `Idempotency-Key` was answered, JSON; under `KEY:request` the SHA-256 of the request | 24 h |
//! | `voxray:token:SHA-256` | string | who has used the token with this SHA-256: a number of the request's own | as long as the token is valid |
//! | `voxray:allowance:NAME` | string | Unix millisecond at which a tenant's or address's allowance of starts is whole again | until then |
//! | `voxray:tenant:TENANT` | sorted set | ids of its sessions, scored by the Unix millisecond until which they count without a record | a day after the last start |
//! | `voxray:progress:NAME` | hash | `rank` and `value` of what is furthest along: a placed call, a request with an `Idempotency-Key`, a session that was ended before its token was used | 24 h; 10 min for the last |

use sha2::{Digest, Sha256};

/// Prefix of every key.
pub const PREFIX: &str = "voxray:";
/// Hash tags that sessions are spread over: a fleet's session keys use this many slots of a cluster, and a listing asks
/// this many times.
pub const SHARDS: u8 = 16;
/// Index of nodes.
pub const NODES: &str = "voxray:{nodes}:nodes";
/// Prefix of node reports.
pub const NODE_PREFIX: &str = "voxray:{nodes}:node:";
/// Prefix of what was placed on nodes.
pub const PLACED_PREFIX: &str = "voxray:{nodes}:placed:";

/// Number of the hash tag that a session's keys carry.
pub fn shard(session_id: &str) -> u8 {
    Sha256::digest(session_id.as_bytes())
        .first()
        .map_or(0, |byte| byte % SHARDS)
}

/// Index of the sessions of one tag.
pub fn sessions(shard: u8) -> String {
    format!("{PREFIX}{{s{shard}}}:sessions")
}

/// Prefix of the records of one tag.
pub fn session_prefix(shard: u8) -> String {
    format!("{PREFIX}{{s{shard}}}:session:")
}

/// The record of a session.
pub fn session(session_id: &str) -> String {
    format!("{}{session_id}", session_prefix(shard(session_id)))
}

/// The claim on a session.
pub fn owner(session_id: &str) -> String {
    format!("{PREFIX}{{s{}}}:owner:{session_id}", shard(session_id))
}

/// The tenant that a session counts for.
pub fn holder(session_id: &str) -> String {
    format!("{PREFIX}{{s{}}}:holder:{session_id}", shard(session_id))
}

/// The answer kept under an idempotency key.
pub fn idempotency(key: &str) -> String {
    format!("{PREFIX}idempotency:{key}")
}

/// The mark of a used token. Hashed: tokens are long, and none of them belongs in a key listing.
pub fn token(token: &str) -> String {
    format!("{PREFIX}token:{}", hex::encode(Sha256::digest(token.as_bytes())))
}

/// A node's report.
pub fn node(node_id: &str) -> String {
    format!("{NODE_PREFIX}{node_id}")
}

/// What was placed on a node since it last reported.
pub fn placed(node_id: &str) -> String {
    format!("{PLACED_PREFIX}{node_id}")
}

/// When an allowance is whole again.
pub fn allowance(allowance: &str) -> String {
    format!("{PREFIX}allowance:{allowance}")
}

/// The sessions of a tenant.
pub fn tenant(tenant: &str) -> String {
    format!("{PREFIX}tenant:{tenant}")
}

/// What is furthest along.
pub fn progress(what: &str) -> String {
    format!("{PREFIX}progress:{what}")
}
