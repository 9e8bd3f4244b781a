//! A PostgreSQL server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::{server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It answers 0.2 s after `initdb` on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The user PostgreSQL runs as when this process is root, which it refuses.
const SERVER_USER: &str = "postgres";

/// PostgreSQL on a free loopback port: everybody is trusted, nothing is synced to disk.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Postgres {
    /// Makes a new cluster, starts it and waits until it answers a query.
    ///
    /// # Errors
    /// When PostgreSQL is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        start_with_fresh_ports(|| async {
            let mut postgres = Self {
                port: free_port()?,
                process: None,
                folder: server_folder("postgres")?,
            };
            postgres.initialise().await?;
            postgres.restart_on_same_port().await?;
            Ok(postgres)
        })
        .await
    }

    /// `postgres://postgres@127.0.0.1:PORT/DATABASE?sslmode=disable`. The database `postgres` is always there.
    pub fn dsn(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
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
            .user(server_user())
            .folder("/")
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""])
            // Commits still reach the log before they are acknowledged: they outlive the server, not the machine.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
            .args(["-c", "shared_buffers=16MB", "-c", "max_connections=200"]);
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
        if let Some(user) = server_user() {
            let (uid, gid) = ids_of(user)?;
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).context("cannot hand over the data folder")?;
        }
        Spec::new("initdb", tools::postgres_bin()?.join("initdb"))
            .user(server_user())
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
            .await
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

fn server_user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some(SERVER_USER)
}

/// User and group id from /etc/passwd (passwd(5): name:password:uid:gid:…).
fn ids_of(user: &str) -> anyhow::Result<(u32, u32)> {
    let passwd = std::fs::read_to_string(Path::new("/etc/passwd")).context("cannot read /etc/passwd")?;
    let find = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == user).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    passwd
        .lines()
        .find_map(find)
        .with_context(|| format!("there is no user {user}: run `make tools`"))
}
