//! One service as a real process of the `voxray` command.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Process, Spec};

/// A media node that has to fetch its speech models first takes a while; everything else is up within a second.
const READY_LIMIT: Duration = Duration::from_secs(240);

/// What a process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `voxray signaling`
    Signaling,
    /// `voxray media`
    Media,
    /// `voxray archiver`
    Archiver,
}

impl Role {
    /// The subcommand, which is the stem of the process's name too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signaling => "signaling",
            Self::Media => "media",
            Self::Archiver => "archiver",
        }
    }
}

/// A service that can be started, killed, asked to end, and started again with the same settings and disk.
#[derive(Debug)]
pub struct Service {
    role: Role,
    name: String,
    port: u16,
    operators_port: Option<u16>,
    spec: Spec,
    log: PathBuf,
    process: Option<Process>,
}

impl Service {
    pub(crate) fn new(role: Role, name: String, port: u16, spec: Spec, log: PathBuf) -> Self {
        Self {
            role,
            name,
            port,
            operators_port: None,
            spec,
            log,
            process: None,
        }
    }

    /// Gives it a listener for operators.
    pub(crate) fn with_operators_port(mut self, port: u16) -> Self {
        self.operators_port = Some(port);
        self.spec = self.spec.env("VOXRAY_ADMIN_PORT", port.to_string());
        self
    }

    /// What it serves.
    pub fn role(&self) -> Role {
        self.role
    }

    /// `media-1`, …; a media node registers under it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `http://127.0.0.1:PORT`: public HTTP of signaling and media, health and metrics of the archiver.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Metrics and what else is for operators: a listener of its own, or the public one.
    pub fn operators_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.operators_port.unwrap_or(self.port))
    }

    /// `ws://127.0.0.1:PORT`
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Where its output goes, over all its lives.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How many sockets a media node has passed on for want of room, by what it says itself.
    ///
    /// # Errors
    /// Its output cannot be read.
    pub fn led_to_their_slots(&self) -> std::io::Result<usize> {
        let log = std::fs::read_to_string(&self.log)?;
        Ok(log.matches("passed on to the node that keeps its slot").count())
    }

    /// Its process.
    ///
    /// # Errors
    /// When it was not started or was killed.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        self.process = None;
        self.process = Some(Process::spawn(self.spec.clone(), &self.log)?);
        Ok(())
    }

    /// Waits until `/ready` answers 200.
    ///
    /// # Errors
    /// When it ends or is not ready in time; the message holds the last lines of its log.
    pub async fn wait_until_ready(&self) -> anyhow::Result<()> {
        self.process()?
            .wait_until_ready(READY_LIMIT, || expect_ok(self.port, "/ready"))
            .await
    }

    /// Starts it, again if it runs, and waits until it is ready.
    ///
    /// # Errors
    /// As for [`spawn`](Self::spawn) and [`wait_until_ready`](Self::wait_until_ready).
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_until_ready().await
    }

    /// SIGKILL; gone when this returns. Its disk is kept for the next [`start`](Self::start).
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// SIGTERM: asks it to drain and end, without waiting.
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.process()?.terminate()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn wait(&self) -> anyhow::Result<ExitStatus> {
        self.process()?.wait().await
    }

    /// SIGTERM, then waits for a clean end; kills it when `limit` is over. One that does not run is fine.
    ///
    /// # Errors
    /// When it had to be killed or ended with a failure.
    pub async fn stop(&mut self, limit: Duration) -> anyhow::Result<()> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        process.terminate()?;
        match tokio::time::timeout(limit, process.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure!(
                    status.success(),
                    "{} ended with {status}; it said:\n{}",
                    self.name,
                    process.log_tail()
                );
                Ok(())
            }
            Err(_) => bail!("{} was killed: it did not end within {limit:?} of SIGTERM", self.name),
        }
    }
}

/// One request by hand: this must work before any HTTP client is set up.
async fn expect_ok(port: u16, path: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .context("cannot connect")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "{path} answered {status:?}");
    Ok(())
}
