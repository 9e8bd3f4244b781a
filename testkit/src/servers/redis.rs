//! A Redis server.

use std::path::Path;
use std::time::Duration;

use ::redis::{AsyncConnectionConfig, Client, FromRedisValue, cmd};
use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It answers within 50 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// `redis-server` on a free loopback port. It keeps nothing on disk: a restart is a Redis that forgot everything.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Redis {
    /// Starts a server and waits until it answers PING.
    ///
    /// # Errors
    /// When redis-server is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        start_with_fresh_ports(|| async {
            let mut redis = Self {
                port: free_port()?,
                process: None,
                folder: server_folder("redis")?,
            };
            redis.restart_on_same_port().await?;
            Ok(redis)
        })
        .await
    }

    /// `redis://127.0.0.1:PORT/`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it: connections break, later ones are refused.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills it if it runs and starts an empty one on the same port.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart_on_same_port(&mut self) -> anyhow::Result<()> {
        self.stop();
        let spec = spec(self.folder.path())?.args(["--port", &self.port.to_string()]);
        let process = Process::spawn(spec, &self.folder.path().join("redis.log"))?;
        process.wait_until_ready(START_LIMIT, || ping(self.port)).await?;
        self.process = Some(process);
        Ok(())
    }
}

/// A server that keeps nothing and has this folder to itself; it lacks a port.
pub(super) fn spec(folder: &Path) -> anyhow::Result<Spec> {
    let spec = Spec::new("redis-server", tools::redis_server()?)
        .args(["--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(folder);
    Ok(spec)
}

/// The user that services are, who may do what docs/redis-keys.md lists.
pub(super) const USER: [&str; 10] = [
    "--user",
    "voxray",
    "on",
    ">p@ss",
    "~voxray:*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "+role",
];
/// The same in a URL.
pub(super) const LOGIN: &str = "voxray:p%40ss";

/// Whether it has said this, which no client need be let in for.
pub(super) async fn says(log: &Path, words: &str) -> anyhow::Result<()> {
    let said = tokio::fs::read_to_string(log).await.unwrap_or_default();
    ensure!(said.contains(words), "it has not said {words:?}");
    Ok(())
}

/// Asks a server, with more patience than a service has.
pub(super) async fn ask<T: FromRedisValue>(client: &Client, command: &[&str]) -> anyhow::Result<T> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(START_LIMIT))
        .set_response_timeout(Some(START_LIMIT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let (name, arguments) = command.split_first().context("an empty command")?;
    Ok(cmd(name).arg(arguments).query_async(&mut connection).await?)
}

/// A server that still loads answers with an error instead of PONG.
async fn ping(port: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .context("cannot connect")?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    ensure!(
        &answer == b"+PONG\r\n",
        "it answered PING with {:?}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}
