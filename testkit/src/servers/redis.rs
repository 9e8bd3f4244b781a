//! A Redis server.

use std::time::Duration;

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
        let spec = Spec::new("redis-server", tools::redis_server()?)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.folder.path());
        let process = Process::spawn(spec, &self.folder.path().join("redis.log"))?;
        process.wait_until_ready(START_LIMIT, || ping(self.port)).await?;
        self.process = Some(process);
        Ok(())
    }
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
