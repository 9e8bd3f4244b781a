//! A cluster of Redis servers.

use std::path::Path;
use std::time::Duration;

use ::redis::{Client, FromRedisValue};
use anyhow::Context;
use tempfile::TempDir;

use super::redis::{self, LOGIN, USER, says, spec};
use super::{server_folder, start_with_fresh_ports};
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_secs(30);
const PASSWORD: &str = "data";
/// First and last slot of each server.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// Three primaries with passwords that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    ports: Vec<u16>,
    _processes: Vec<Process>,
    _folder: TempDir,
}

impl RedisCluster {
    /// Starts the servers, and waits until each of them knows the others.
    ///
    /// # Errors
    /// When redis-server is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        start_with_fresh_ports(Self::try_start).await
    }

    async fn try_start() -> anyhow::Result<Self> {
        let folder = server_folder("redis-cluster")?;
        let (mut ports, mut processes) = (Vec::new(), Vec::new());
        let mut meet: Option<[String; 4]> = None;
        for (number, (from, to)) in (1..).zip(SLOTS) {
            let (port, bus) = (free_port()?, free_port()?);
            processes.push(server(folder.path(), number, port, bus).await?);
            ports.push(port);
            let _: String = ask(port, &["CLUSTER", "ADDSLOTSRANGE", from, to]).await?;
            let _: String = ask(port, &["CLUSTER", "SET-CONFIG-EPOCH", &number.to_string()]).await?;
            match &meet {
                None => {
                    meet = Some([
                        "MEET".to_owned(),
                        "127.0.0.1".to_owned(),
                        port.to_string(),
                        bus.to_string(),
                    ])
                }
                Some(meet) => {
                    let meet = meet.each_ref().map(String::as_str);
                    let _: String = ask(port, &[&["CLUSTER"], meet.as_slice()].concat()).await?;
                }
            }
        }
        for port in &ports {
            eventually("the cluster to stand", START_LIMIT, || async {
                let info: String = ask(*port, &["CLUSTER", "INFO"]).await?;
                Ok((info.contains("cluster_state:ok") && info.contains("cluster_size:3")).then_some(()))
            })
            .await?;
        }
        Ok(Self {
            ports,
            _processes: processes,
            _folder: folder,
        })
    }

    /// `redis+cluster://USER:PASSWORD@127.0.0.1:PORT,…`
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{LOGIN}@{}", hosts.join(","))
    }
}

async fn server(folder: &Path, number: u16, port: u16, bus: u16) -> anyhow::Result<Process> {
    let own = folder.join(number.to_string());
    std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    let spec = spec(&own)?
        .args(["--port", &port.to_string(), "--requirepass", PASSWORD])
        .args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()])
        .args(USER);
    let log = folder.join(format!("{number}.log"));
    let process = Process::spawn(spec, &log)?;
    process
        .wait_until_ready(START_LIMIT, || says(&log, "eady to accept connections"))
        .await?;
    Ok(process)
}

async fn ask<T: FromRedisValue>(port: u16, command: &[&str]) -> anyhow::Result<T> {
    let client = Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{port}"))?;
    redis::ask(&client, command).await
}
