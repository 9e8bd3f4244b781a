//! A MariaDB server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{Connection, MySqlConnection};
use tempfile::TempDir;

use super::account::{hand_over, server_user};
use super::{Certificate, server_folder, start_with_fresh_ports, tools};
use crate::ports::free_port;
use crate::process::{Process, Spec};

/// It answers 0.3 s after its folder is there on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The user it runs as when this process is root.
const SERVER_USER: &str = "mysql";

/// MariaDB on a free loopback port: root without a password, nothing synced to disk.
#[derive(Debug)]
pub struct MariaDb {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
    tls: bool,
}

impl MariaDb {
    /// Starts a server with a copy of an empty data folder and waits until it answers.
    ///
    /// # Errors
    /// When MariaDB is missing or does not start; the message holds the last lines of its log.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// [`start`](Self::start), with TLS for those who want it.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with_tls(certificate: &Certificate) -> anyhow::Result<Self> {
        Self::start_with(Some(certificate)).await
    }

    async fn start_with(certificate: Option<&Certificate>) -> anyhow::Result<Self> {
        let template = template().await?;
        start_with_fresh_ports(|| async {
            let mut server = Self {
                port: free_port()?,
                process: None,
                folder: server_folder("mariadb")?,
                tls: certificate.is_some(),
            };
            copy(&template, &server.data(), server.folder.path()).await?;
            if let Some(certificate) = certificate {
                for (name, text) in [("server.crt", certificate.pem()), ("server.key", certificate.key_pem())] {
                    let file = server.data().join(name);
                    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
                    hand_over(&file, SERVER_USER)?;
                }
            }
            server.restart_on_same_port().await?;
            Ok(server)
        })
        .await
    }

    /// `mysql://root@127.0.0.1:PORT/DATABASE`. The database `voxray` is always there.
    pub fn dsn(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it: connections break, what was committed is kept.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills it if it runs and starts it again on the same port with the same data.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart_on_same_port(&mut self) -> anyhow::Result<()> {
        self.stop();
        let (data, folder) = (self.data(), self.folder.path());
        let mut spec = Spec::new("mariadbd", tools::mariadbd()?)
            .user(server_user(SERVER_USER))
            .folder("/")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", data.join("socket").display()))
            .arg(format!("--pid-file={}", data.join("pid").display()))
            .args(["--bind-address=127.0.0.1", &format!("--port={}", self.port)])
            .args([
                "--skip-name-resolve",
                "--innodb-log-file-size=8M",
                "--innodb-buffer-pool-size=16M",
            ])
            // Commits reach the kernel before they are acknowledged: they outlive the server, not the machine.
            .args(["--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync"]);
        if self.tls {
            spec = spec
                .arg(format!("--ssl-cert={}", data.join("server.crt").display()))
                .arg(format!("--ssl-key={}", data.join("server.key").display()));
        }
        let process = Process::spawn(spec, &folder.join("mariadb.log"))?;
        process.wait_until_ready(START_LIMIT, || ping(self.dsn(""))).await?;
        self.process = Some(process);
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

async fn ping(dsn: String) -> anyhow::Result<()> {
    let mut connection = MySqlConnection::connect(&dsn).await?;
    sqlx::raw_sql("CREATE DATABASE IF NOT EXISTS voxray")
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// Two `mariadb-install-db` at a time have been seen to get into each other's way.
static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An empty data folder, made once a machine: that takes seconds, a copy of it does not.
async fn template() -> anyhow::Result<PathBuf> {
    let _alone = MAKING.lock().await;
    let template = tools::tools_folder().join("mariadb-template");
    if template.is_dir() {
        return Ok(template);
    }
    let making = server_folder("mariadb-template")?;
    let data = making.path().join("data");
    std::fs::create_dir(&data).context("cannot make the data folder")?;
    hand_over(&data, SERVER_USER)?;
    Spec::new("mariadb-install-db", tools::mariadb_install_db()?)
        .user(server_user(SERVER_USER))
        .folder("/")
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(["--skip-name-resolve", "--innodb-log-file-size=8M"])
        .run(&making.path().join("install.log"))
        .await?;
    // Beside its place first: whoever finds it there finds all of it.
    let parent = tools::tools_folder();
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let beside = parent.join(format!("mariadb-template.{:016x}", rand::random::<u64>()));
    copy(&data, &beside, making.path()).await?;
    if std::fs::rename(&beside, &template).is_err() {
        // Another test was faster.
        std::fs::remove_dir_all(&beside).context("cannot remove a second template")?;
    }
    ensure!(template.is_dir(), "cannot make {}", template.display());
    Ok(template)
}

/// With owners and permissions.
async fn copy(from: &Path, to: &Path, log_folder: &Path) -> anyhow::Result<()> {
    let log = log_folder.join("copy.log");
    Spec::new("cp", "cp")
        .arg("-a")
        .arg("--")
        .arg(from)
        .arg(to)
        .run(&log)
        .await
}
