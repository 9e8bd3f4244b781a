//! A real OpenTelemetry collector that prints the spans it receives.

use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

const START_LIMIT: Duration = Duration::from_secs(30);

/// `rotel` on a free loopback port.
#[derive(Debug)]
pub struct Rotel {
    port: u16,
    process: Process,
    _folder: TempDir,
}

impl Rotel {
    /// Starts it.
    ///
    /// # Errors
    /// When it is missing or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        start_with_fresh_ports(Self::try_start).await
    }

    async fn try_start() -> anyhow::Result<Self> {
        let (port, http_port) = (free_port()?, free_port()?);
        let folder = server_folder("rotel")?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let spec = Spec::new("rotel", tools::rotel()?)
            .arg("start")
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http_port}")])
            .args(["--pid-file", &file("rotel.pid"), "--log-file", &file("agent.log")])
            .args(["--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log-verbosity", "detailed"])
            .env("ROTEL_ENABLE_TELEMETRY", "false")
            .folder(folder.path());
        let process = Process::spawn(spec, &folder.path().join("rotel.log"))?;
        let listens = || async {
            TcpStream::connect(("127.0.0.1", port))
                .await
                .map(drop)
                .context("cannot connect")
        };
        process.wait_until_ready(START_LIMIT, listens).await?;
        Ok(Self {
            port,
            process,
            _folder: folder,
        })
    }

    /// For `otlp.endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything it has printed so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(self.process.log()).context("rotel has no log")
    }
}
