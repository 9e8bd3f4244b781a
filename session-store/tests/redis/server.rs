//! A redis-server on free ports of this machine.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, IntoConnectionInfo, RedisConnectionInfo, cmd};
use service_kit::config::{RedisTls, Secret};
use session_store::RedisStore;

/// Long enough for anything on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(40);

/// A user who may do what docs/redis-keys.md says that Voxray needs, and no more.
pub const USER: [&str; 10] = [
    "--user",
    "voxray",
    "on",
    ">p@ss",
    "~voxray:*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "+role",
];
/// The same in a URL.
pub const LOGIN: &str = "voxray:p%40ss";

/// Asks until it is so.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Gone with this value.
pub struct Server {
    child: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub fn start(extra: &[&str]) -> Self {
        Self::start_on(free_port(), extra)
    }

    pub fn start_on(port: u16, extra: &[&str]) -> Self {
        let fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let port_text = port.to_string();
        // The last one counts: what is extra may turn the plain port off.
        let arguments: Vec<&str> = ["--port", &port_text]
            .iter()
            .chain(&fixed)
            .chain(extra)
            .copied()
            .collect();
        Self::run(
            port,
            tempfile::tempdir().unwrap(),
            &arguments,
            "eady to accept connections",
        )
    }

    /// One that watches a primary. Its configuration is a file because it writes there itself.
    pub fn start_sentinel(settings: &str) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, format!("port {port}\nbind 127.0.0.1\n{settings}")).unwrap();
        let arguments = [file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        Self::run(port, folder, &arguments.each_ref().map(String::as_str), "+monitor")
    }

    fn run(port: u16, folder: tempfile::TempDir, arguments: &[&str], ready: &str) -> Self {
        let mut child = Command::new("redis-server")
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server does not start ({error}): run `make tools`"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.any(|line| line.unwrap().contains(ready));
        assert!(is_ready, "redis-server ended before it was ready");
        // Redis keeps writing its log: somebody must keep reading it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    pub fn url(&self) -> Secret {
        Secret::new(format!("redis://127.0.0.1:{}", self.port))
    }

    pub async fn store(&self) -> RedisStore {
        RedisStore::connect(&self.url(), &RedisTls::default()).await.unwrap()
    }

    pub async fn ask<T: redis::FromRedisValue>(&self, command: &str, arguments: &[&str]) -> T {
        self.ask_with("", command, arguments).await
    }

    pub async fn ask_with<T: redis::FromRedisValue>(&self, password: &str, command: &str, arguments: &[&str]) -> T {
        let mut settings = RedisConnectionInfo::default();
        if !password.is_empty() {
            settings = settings.set_password(password);
        }
        let to = ("127.0.0.1", self.port).into_connection_info().unwrap();
        let client = Client::open(to.set_redis_settings(settings)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        cmd(command).arg(arguments).query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
