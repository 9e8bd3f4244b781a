//! Real servers on free loopback ports: Redis, PostgreSQL, PgBouncer, MariaDB, TURN and an S3 server, each in a temporary
//! folder, killed on drop.

mod account;
mod certificate;
mod coturn;
mod mariadb;
mod nginx;
mod pgbouncer;
mod postgres;
mod prometheus;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod rotel;
mod seaweed;
mod tls_front;
pub mod tools;

use std::future::Future;
use std::os::unix::fs::PermissionsExt;

use anyhow::Context;
use tempfile::TempDir;

pub use self::certificate::{Certificate, peer_certificates};
pub use self::coturn::{Coturn, RELAY_IP};
pub use self::mariadb::MariaDb;
pub use self::nginx::Nginx;
pub use self::pgbouncer::PgBouncer;
pub use self::postgres::Postgres;
pub use self::prometheus::{Prometheus, promtool};
pub use self::redis::Redis;
pub use self::redis_cluster::RedisCluster;
pub use self::redis_sentinel::RedisSentinel;
pub use self::rotel::Rotel;
pub use self::seaweed::S3;
pub use self::tls_front::TlsFront;

/// Times a server is started again on other ports because somebody else took one in between.
const START_ATTEMPTS: usize = 5;

/// A temporary folder that other users can enter: PostgreSQL does not run as root.
fn server_folder(name: &str) -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("voxray-{name}-"))
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .context("cannot make a temporary folder")
}

/// Runs `start`, which draws its own ports, again when a port was taken between drawing and binding.
async fn start_with_fresh_ports<T, F, Fut>(mut start: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let mut attempt = 1;
    loop {
        match start().await {
            Err(error) if attempt < START_ATTEMPTS && says_port_taken(&error) => attempt += 1,
            result => return result,
        }
    }
}

/// Whether a failed start was about a port; the error carries the last lines of the server's log.
pub(crate) fn says_port_taken(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["address already in use", "port is not available", "is not available on"]
        .iter()
        .any(|sign| text.contains(sign))
}
