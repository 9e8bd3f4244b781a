//! A TURN server.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It listens within 50 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Of its users.
const REALM: &str = "voxray.test";
/// Where it relays. Not where clients and nodes are: whom it lets talk to whom it knows by address.
pub const RELAY_IP: &str = "127.0.0.3";
/// Shared with those who make credentials (`use-auth-secret`).
const SECRET: &str = "a-secret-that-turn-and-voxray-share";

/// coturn on a free loopback port, relaying between loopback addresses. It takes credentials that were made with its
/// secret, and no others.
#[derive(Debug)]
pub struct Coturn {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Coturn {
    /// Starts a server and waits until it listens.
    ///
    /// # Errors
    /// When coturn is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        start_with_fresh_ports(|| async {
            let (port, folder) = (free_port()?, server_folder("coturn")?);
            let file = |name: &str| folder.path().join(name).display().to_string();
            let spec = Spec::new("turnserver", tools::turnserver()?)
                .args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--allow-loopback-peers"])
                .args(["--listening-ip", "127.0.0.1", "--relay-ip", RELAY_IP])
                .args(["--listening-port", &port.to_string(), "--realm", REALM])
                .args(["--use-auth-secret", "--static-auth-secret", SECRET])
                .args(["--log-file", "stdout", "--simple-log"])
                .args(["--pidfile", &file("pid"), "--userdb", &file("users")]);
            let process = Process::spawn(spec, &folder.path().join("coturn.log"))?;
            let listens = || async {
                let connected = TcpStream::connect(("127.0.0.1", port)).await;
                connected.map(drop).context("cannot connect")
            };
            process.wait_until_ready(START_LIMIT, listens).await?;
            Ok(Self {
                port,
                _process: process,
                _folder: folder,
            })
        })
        .await
    }

    /// `webrtc_ice_servers` with this server.
    pub fn ice_servers(&self) -> Value {
        json!([{ "urls": format!("turn:127.0.0.1:{}?transport=udp", self.port), "secret": SECRET }])
    }
}
