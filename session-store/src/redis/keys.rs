//! Every key this project writes in Redis. `docs/redis-keys.md` shows the same table to operators.
//!
//! | key | type | value | lives |
//! |---|---|---|---|
//! | `voxray:session:{session id}` | string | session record, JSON | until its time to live ends, renewed while the call runs |
//! | `voxray:sessions` | sorted set | session ids, scored by the Unix millisecond at which they expire | pruned by every write and listing |
//! | `voxray:owner:{session id}` | string | id of the media node that owns the call | with the session |
//! | `voxray:idempotency:{key}` | string | what the first request with this `Idempotency-Key` was answered, JSON | 24 h |
//! | `voxray:token:{SHA-256 of the token}` | string | `1` once the token was used | as long as the token is valid |
//! | `voxray:node:{node id}` | string | a media node's report, JSON | 6 s after its last heartbeat |
//! | `voxray:nodes` | sorted set | node ids, scored like `voxray:sessions` | pruned like it |
//! | `voxray:allowance:{tenant or address}` | string | Unix millisecond at which the allowance of starts is whole again | until then |
//! | `voxray:tenant:{tenant}` | sorted set | ids of its sessions, scored by the Unix millisecond until which they count without a record | a day after the last start |
//! | `voxray:progress:{call or key}` | hash | `rank` and `value` of what is furthest along: a placed call, a request with an `Idempotency-Key` | 24 h |

use sha2::{Digest, Sha256};

/// Prefix of every key.
pub const PREFIX: &str = "voxray:";
/// Index of sessions.
pub const SESSIONS: &str = "voxray:sessions";
/// Prefix of session records.
pub const SESSION_PREFIX: &str = "voxray:session:";
/// Index of nodes.
pub const NODES: &str = "voxray:nodes";
/// Prefix of node reports.
pub const NODE_PREFIX: &str = "voxray:node:";

/// The record of a session.
pub fn session(session_id: &str) -> String {
    format!("{SESSION_PREFIX}{session_id}")
}

/// The claim on a session.
pub fn owner(session_id: &str) -> String {
    format!("{PREFIX}owner:{session_id}")
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
