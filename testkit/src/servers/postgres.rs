//! A PostgreSQL server.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::account::{hand_over, server_user};
use super::{Certificate, server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It answers 0.2 s after `initdb` on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The user PostgreSQL runs as when this process is root, which it refuses.
pub(super) const SERVER_USER: &str = "postgres";

/// PostgreSQL on a free loopback port: everybody is trusted, nothing is synced to disk.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
    certificate: Option<Certificate>,
}

impl Postgres {
    /// Makes a new cluster, starts it and waits until it answers a query.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// [`start`](Self::start), with TLS and nothing else: connections without it are refused.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with_tls(certificate: &Certificate) -> anyhow::Result<Self> {
        Self::start_with(Some(certificate)).await
    }

    async fn start_with(certificate: Option<&Certificate>) -> anyhow::Result<Self> {
        start_with_fresh_ports(|| async {
            let mut postgres = Self {
                port: free_port()?,
                process: None,
                folder: server_folder("postgres")?,
                certificate: certificate.cloned(),
            };
            postgres.initialise().await?;
            postgres.restart_on_same_port().await?;
            Ok(postgres)
        })
        .await
    }

    /// `postgres://postgres@127.0.0.1:PORT/DATABASE?sslmode=disable`, with TLS `sslmode=require`. The database
    /// `postgres` is always there.
    pub fn dsn(&self, database: &str) -> String {
        let mode = if self.certificate.is_some() {
            "require"
        } else {
            "disable"
        };
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode={mode}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database and returns its DSN.
    ///
    /// # Errors
    /// When the name is not an identifier, is taken, or the server is stopped.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        ensure!(
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{name:?} is no database name: use a-z, 0-9 and _"
        );
        let mut connection = PgConnection::connect(&self.dsn("postgres")).await?;
        // Identifiers cannot be bound; the name was checked above.
        let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE \"{name}\""));
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .with_context(|| format!("cannot create {name}"))?;
        connection.close().await?;
        Ok(self.dsn(name))
    }

    /// Stops it as a crash would: connections break, what was committed is kept.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            // An immediate shutdown takes the server's children along; SIGKILL would leave them behind for a moment,
            // holding the cluster. Should it not end, dropping the process kills it.
            let _ = process.signal(Signal::QUIT);
            wait_briefly(&process);
        }
    }

    /// Stops it if it runs and starts it again on the same port with the same data.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart_on_same_port(&mut self) -> anyhow::Result<()> {
        self.stop();
        let spec = Spec::new("postgres", tools::postgres_bin()?.join("postgres"))
            .user(server_user(SERVER_USER))
            .folder("/")
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""])
            // Commits still reach the log before they are acknowledged: they outlive the server, not the machine.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "shared_buffers=16MB", "-c", "max_connections=200"]);
        let spec = match &self.certificate {
            Some(_) => spec.args(["-c", "ssl=on"]),
            None => spec,
        };
        let process = Process::spawn(spec, &self.folder.path().join("postgres.log"))?;
        process
            .wait_until_ready(START_LIMIT, || ping(self.dsn("postgres")))
            .await?;
        self.process = Some(process);
        Ok(())
    }

    async fn initialise(&self) -> anyhow::Result<()> {
        let data = self.folder.path().join("data");
        std::fs::create_dir(&data).context("cannot make the data folder")?;
        hand_over(&data, SERVER_USER)?;
        Spec::new("initdb", tools::postgres_bin()?.join("initdb"))
            .user(server_user(SERVER_USER))
            .folder("/")
            .arg("-D")
            .arg(&data)
            .args([
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .run(&self.folder.path().join("initdb.log"))
            .await?;
        if let Some(certificate) = &self.certificate {
            // server.crt and server.key are the names it looks for.
            for (name, text) in [("server.crt", certificate.pem()), ("server.key", certificate.key_pem())] {
                let file = data.join(name);
                std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
                hand_over(&file, SERVER_USER)?;
            }
            std::fs::write(data.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n")?;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn ping(dsn: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&dsn).await?;
    connection.ping().await?;
    Ok(connection.close().await?)
}

/// An immediate shutdown takes milliseconds. Blocking, because `drop` cannot await.
fn wait_briefly(process: &Process) {
    const STEP: Duration = Duration::from_millis(5);
    const STEPS: usize = 400;
    for _ in 0..STEPS {
        if !matches!(process.exited(), Ok(None)) {
            return;
        }
        std::thread::sleep(STEP);
    }
}
