//! Where sessions, nodes and tokens live.

use std::path::PathBuf;

use super::Secret;
use super::sources::Merged;

/// Session store.
#[derive(Debug, Clone)]
pub struct Store {
    /// Memory (one process) or Redis.
    pub kind: StoreKind,
    /// Life of an idle session in seconds.
    pub session_ttl_secs: u64,
}

/// Kind of the session store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// In this process.
    Memory,
    /// Shared by all instances.
    Redis {
        /// One server, Sentinel or Cluster.
        url: Secret,
        /// What connections with TLS need.
        tls: RedisTls,
    },
}

/// PEM files of connections to Redis with TLS; read at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisTls {
    /// Authority of the servers' certificates; without, the usual public ones.
    pub ca_file: Option<PathBuf>,
    /// Certificate chain that this service shows, and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The store; what does not go together is a problem.
pub(super) fn build(merged: &mut Merged) -> Store {
    let url = merged.values.text("redis_url");
    let is_redis = merged.values.word("session_store") == "redis";
    if is_redis && url.is_none() && !merged.is_broken("redis_url") {
        merged.problem("redis_url", "needed because session_store is redis (redis://host:6379)");
    }
    let tls = redis_tls(merged, url.as_deref());
    Store {
        kind: if is_redis {
            StoreKind::Redis {
                url: Secret::new(url.unwrap_or_default()),
                tls,
            }
        } else {
            StoreKind::Memory
        },
        session_ttl_secs: merged.values.number("session_ttl_secs"),
    }
}

/// Files that a URL without TLS would leave unused are a mistake that nobody would notice.
fn redis_tls(merged: &mut Merged, url: Option<&str>) -> RedisTls {
    const KEYS: [&str; 3] = ["redis_ca_file", "redis_cert_file", "redis_key_file"];
    let [ca_file, cert_file, key_file] = KEYS.map(|key| merged.values.text(key).map(PathBuf::from));
    let given = [&ca_file, &cert_file, &key_file].map(Option::is_some);
    if url.is_some_and(|url| url.starts_with("redis:") || url.starts_with("redis+")) {
        for (key, _) in KEYS.into_iter().zip(given).filter(|(_, given)| *given) {
            merged.problem(key, "redis_url is without TLS: begin it with rediss, or remove this");
        }
    }
    match (&cert_file, &key_file) {
        (Some(_), None) => merged.problem("redis_key_file", "needed with redis_cert_file"),
        (None, Some(_)) => merged.problem("redis_cert_file", "needed with redis_key_file"),
        (Some(_), Some(_)) | (None, None) => {}
    }
    RedisTls {
        ca_file,
        identity: cert_file.zip(key_file),
    }
}
