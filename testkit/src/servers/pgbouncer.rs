//! PgBouncer, the connection pooler in front of PostgreSQL.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::account::server_user;
use super::postgres::SERVER_USER;
use super::{Postgres, server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It answers within 50 ms on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// PgBouncer in transaction mode: each transaction gets whichever of two server connections is free.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    _process: Process,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one in front of a PostgreSQL without TLS.
    ///
    /// # Errors
    /// When PgBouncer is missing or does not start; the message holds the last lines of its log.
    pub async fn start(postgres: &Postgres) -> anyhow::Result<Self> {
        start_with_fresh_ports(|| async {
            let port = free_port()?;
            let folder = server_folder("pgbouncer")?;
            let users = folder.path().join("users.txt");
            let config = folder.path().join("pgbouncer.ini");
            std::fs::write(&users, "\"postgres\" \"\"\n").context("cannot write the users of PgBouncer")?;
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
                 default_pool_size = 2\nmax_client_conn = 200\n",
                postgres.port(),
                users.display(),
            );
            std::fs::write(&config, settings).context("cannot write the settings of PgBouncer")?;
            let spec = Spec::new("pgbouncer", tools::pgbouncer()?)
                .user(server_user(SERVER_USER))
                .folder("/")
                .arg(&config);
            let process = Process::spawn(spec, &folder.path().join("pgbouncer.log"))?;
            process.wait_until_ready(START_LIMIT, || ping(port)).await?;
            Ok(Self {
                port,
                _process: process,
                _folder: folder,
            })
        })
        .await
    }

    /// `postgres://postgres@127.0.0.1:PORT/DATABASE?sslmode=disable`, through it.
    pub fn dsn(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

async fn ping(port: u16) -> anyhow::Result<()> {
    let dsn = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
    // It refuses start-up parameters that it does not know, this one among them.
    let options: PgConnectOptions = dsn.parse()?;
    Ok(options.extra_float_digits(None).connect().await?.close().await?)
}
