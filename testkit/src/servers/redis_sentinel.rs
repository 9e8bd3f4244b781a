//! Redis with a replica and a sentinel, which speak TLS alone and want to see certificates and passwords.

use std::path::Path;
use std::time::Duration;

use ::redis::{Client, ClientTlsConfig, FromRedisValue, TlsCertificates, Value};
use anyhow::Context;
use service_kit::config::PeerTlsFiles;
use tempfile::TempDir;

use super::redis::{self, LOGIN, USER, says, spec};
use super::{peer_certificates, server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_secs(30);
/// Of the data servers, and of the sentinel.
const DATA_PASSWORD: &str = "data";
const SENTINEL_PASSWORD: &str = "watch";
/// The sentinel lets the primary be away for so long until it is told otherwise, and from then on.
const UNNOTICED_MS: &str = "600000";
const NOTICED_MS: &str = "2000";

/// A primary, its replica, and a sentinel whose word is enough.
#[derive(Debug)]
pub struct RedisSentinel {
    primary: Option<Process>,
    _replica: Process,
    _sentinel: Process,
    replica_port: u16,
    sentinel_port: u16,
    tls: PeerTlsFiles,
    _folder: TempDir,
}

impl RedisSentinel {
    /// Starts all three, and waits until the sentinel could promote the replica.
    ///
    /// # Errors
    /// When redis-server is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        start_with_fresh_ports(Self::try_start).await
    }

    async fn try_start() -> anyhow::Result<Self> {
        let folder = server_folder("redis-sentinel")?;
        let tls = peer_certificates(&folder.path().join("tls"))?;
        let (port, replica_port, sentinel_port) = (free_port()?, free_port()?, free_port()?);
        let primary = data_server(folder.path(), "primary", port, &tls, None).await?;
        let replica = data_server(folder.path(), "replica", replica_port, &tls, Some(port)).await?;
        let sentinel = sentinel(folder.path(), sentinel_port, &tls, port).await?;
        let started = Self {
            primary: Some(primary),
            _replica: replica,
            _sentinel: sentinel,
            replica_port,
            sentinel_port,
            tls,
            _folder: folder,
        };
        eventually("the replica to follow", START_LIMIT, || async {
            let info: String = started
                .ask(replica_port, DATA_PASSWORD, &["INFO", "replication"])
                .await?;
            Ok(info.contains("master_link_status:up").then_some(()))
        })
        .await?;
        eventually("the sentinel to know the replica", START_LIMIT, || async {
            let known: Vec<Value> = started.ask_sentinel(&["REPLICAS", "main"]).await?;
            Ok((!known.is_empty()).then_some(()))
        })
        .await?;
        Ok(started)
    }

    /// Variables of services that use it.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        let url = format!(
            "rediss+sentinel://{LOGIN}@127.0.0.1:{}/main?sentinel_password={SENTINEL_PASSWORD}",
            self.sentinel_port
        );
        let shown = |path: &Path| path.display().to_string();
        [
            ("VOXRAY_REDIS_URL", url),
            ("VOXRAY_REDIS_CA_FILE", shown(&self.tls.ca_file)),
            ("VOXRAY_REDIS_CERT_FILE", shown(&self.tls.cert_file)),
            ("VOXRAY_REDIS_KEY_FILE", shown(&self.tls.key_file)),
        ]
    }

    /// Kills the primary. The sentinel does not mind until [`notice`](Self::notice).
    pub fn kill_primary(&mut self) {
        self.primary = None;
    }

    /// Has the sentinel notice what is away, and do something about it.
    ///
    /// # Errors
    /// When the sentinel does not answer.
    pub async fn notice(&self) -> anyhow::Result<()> {
        self.ask_sentinel(&["SET", "main", "down-after-milliseconds", NOTICED_MS])
            .await
    }

    /// Whether the sentinel names the former replica as the primary.
    ///
    /// # Errors
    /// When the sentinel does not answer.
    pub async fn is_promoted(&self) -> anyhow::Result<bool> {
        let (_, port): (String, u16) = self.ask_sentinel(&["GET-MASTER-ADDR-BY-NAME", "main"]).await?;
        Ok(port == self.replica_port)
    }

    async fn ask_sentinel<T: FromRedisValue>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let command = [&["SENTINEL"], arguments].concat();
        self.ask(self.sentinel_port, SENTINEL_PASSWORD, &command).await
    }

    async fn ask<T: FromRedisValue>(&self, port: u16, password: &str, command: &[&str]) -> anyhow::Result<T> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let certificates = TlsCertificates {
            client_tls: Some(ClientTlsConfig {
                client_cert: read(&self.tls.cert_file)?,
                client_key: read(&self.tls.key_file)?,
            }),
            root_cert: Some(read(&self.tls.ca_file)?),
        };
        let client = Client::build_with_tls(format!("rediss://:{password}@127.0.0.1:{port}"), certificates)?;
        redis::ask(&client, command).await
    }
}

async fn data_server(
    folder: &Path,
    name: &str,
    port: u16,
    tls: &PeerTlsFiles,
    primary: Option<u16>,
) -> anyhow::Result<Process> {
    let own = folder.join(name);
    std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    let mut spec = spec(&own)?
        .args(["--requirepass", DATA_PASSWORD, "--masterauth", DATA_PASSWORD])
        .args(["--repl-diskless-sync-delay", "0"])
        .args(USER);
    for (key, value) in tls_settings(port, tls) {
        spec = spec.args([format!("--{key}"), value]);
    }
    if let Some(primary) = primary {
        spec = spec.args(["--replicaof", &format!("127.0.0.1 {primary}")]);
    }
    start(spec, &folder.join(format!("{name}.log")), "eady to accept connections").await
}

/// Its settings are a file because it writes there itself.
async fn sentinel(folder: &Path, port: u16, tls: &PeerTlsFiles, primary: u16) -> anyhow::Result<Process> {
    let file = folder.join("sentinel.conf");
    let mut settings: String = tls_settings(port, tls)
        .iter()
        .map(|(key, value)| format!("{key} {value}\n"))
        .collect();
    settings += &format!(
        "bind 127.0.0.1\n\
         requirepass {SENTINEL_PASSWORD}\n\
         sentinel monitor main 127.0.0.1 {primary} 1\n\
         sentinel auth-pass main {DATA_PASSWORD}\n\
         sentinel down-after-milliseconds main {UNNOTICED_MS}\n\
         sentinel failover-timeout main 3000\n"
    );
    std::fs::write(&file, settings).context("cannot write the settings of the sentinel")?;
    let spec = Spec::new("redis-sentinel", tools::redis_server()?)
        .folder(folder)
        .arg(&file)
        .arg("--sentinel");
    start(spec, &folder.join("sentinel.log"), "+monitor").await
}

fn tls_settings(port: u16, tls: &PeerTlsFiles) -> [(&'static str, String); 7] {
    let shown = |path: &Path| path.display().to_string();
    [
        ("port", "0".to_owned()),
        ("tls-port", port.to_string()),
        ("tls-cert-file", shown(&tls.cert_file)),
        ("tls-key-file", shown(&tls.key_file)),
        ("tls-ca-cert-file", shown(&tls.ca_file)),
        ("tls-auth-clients", "yes".to_owned()),
        ("tls-replication", "yes".to_owned()),
    ]
}

async fn start(spec: Spec, log: &Path, ready: &str) -> anyhow::Result<Process> {
    let process = Process::spawn(spec, log)?;
    process.wait_until_ready(START_LIMIT, || says(log, ready)).await?;
    Ok(process)
}
