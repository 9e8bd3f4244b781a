//! The store against a real redis-server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Client, cmd};
use service_kit::config::Secret;
use session_store::{NODE_TTL, RedisStore, Store, conformance};

/// A redis-server on a free port of this machine, gone with this value.
struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(extra: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(port, extra)
    }

    fn start_on(port: u16, extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(extra)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server does not start ({error}): run `make tools`"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("eady to accept connections"));
        assert!(ready, "redis-server ended before it was ready");
        // Redis keeps writing its log: somebody must keep reading it.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            port,
            _folder: folder,
        }
    }

    fn url(&self) -> Secret {
        Secret::new(format!("redis://127.0.0.1:{}", self.port))
    }

    async fn store(&self) -> RedisStore {
        RedisStore::connect(&self.url()).await.unwrap()
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &str, arguments: &[&str]) -> T {
        let client = Client::open(self.url().expose()).unwrap();
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

#[tokio::test]
async fn the_redis_store_keeps_every_promise_of_the_trait() {
    let server = Server::start(&[]);
    let store = server.store().await;
    // Redis has no virtual clock: what must be gone after a while is looked for after a while.
    conformance::all(&store, tokio::time::sleep).await;
}

#[tokio::test]
async fn two_instances_see_the_same_sessions_and_nodes() {
    let server = Server::start(&[]);
    let (a, b) = (server.store().await, server.store().await);
    let session = conformance::session("s", 1);

    a.put_session(&session, Duration::from_secs(60)).await.unwrap();
    a.heartbeat(&conformance::node("n")).await.unwrap();

    assert_eq!(b.session("s").await.unwrap(), Some(session));
    assert_eq!(b.nodes().await.unwrap(), [conformance::node("n")]);
}

#[tokio::test]
async fn every_key_has_the_prefix_and_a_time_to_live_unless_it_is_an_index() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let ttl = Duration::from_secs(60);
    store.put_session(&conformance::session("s", 1), ttl).await.unwrap();
    store.claim_session("s", "n", ttl).await.unwrap();
    store.put_if_absent("k", "v", ttl).await.unwrap();
    store.use_token("secret-token", ttl).await.unwrap();
    store.heartbeat(&conformance::node("n")).await.unwrap();

    let keys: Vec<String> = server.ask("KEYS", &["*"]).await;

    assert_eq!(keys.len(), 7, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("voxray:") && !key.contains("secret-token"), "{key}");
        let left: i64 = server.ask("PTTL", &[&key]).await;
        let index = key == "voxray:sessions" || key == "voxray:nodes";
        assert_eq!(left == -1, index, "{key} lives {left} ms");
    }
}

#[tokio::test]
async fn touching_a_session_renews_it_its_claim_and_its_place_in_the_index() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let minute = Duration::from_secs(60);
    store.put_session(&conformance::session("s", 1), minute).await.unwrap();
    store.claim_session("s", "n", minute).await.unwrap();
    let before: f64 = server.ask("ZSCORE", &["voxray:sessions", "s"]).await;

    assert!(store.touch_session("s", minute * 10).await.unwrap());

    let after: f64 = server.ask("ZSCORE", &["voxray:sessions", "s"]).await;
    assert!(after - before >= 540_000.0, "{before} {after}");
    for key in ["voxray:session:s", "voxray:owner:s"] {
        let left: u64 = server.ask("PTTL", &[key]).await;
        assert!((540_000..=600_000).contains(&left), "{key} lives {left} ms");
    }
}

#[tokio::test]
async fn a_node_report_lives_for_the_node_ttl() {
    let server = Server::start(&[]);
    server.store().await.heartbeat(&conformance::node("n")).await.unwrap();

    let left: u128 = server.ask("PTTL", &["voxray:node:n"]).await;

    assert!(left <= NODE_TTL.as_millis() && left > 0);
}

#[tokio::test]
async fn the_index_forgets_what_was_removed_behind_its_back() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let minute = Duration::from_secs(60);
    for n in 0..1200 {
        let session = conformance::session(&format!("s{n}"), n);
        store.put_session(&session, minute).await.unwrap();
    }
    let _: u64 = server.ask("DEL", &["voxray:session:s7", "voxray:session:s1100"]).await;

    assert_eq!(store.sessions().await.unwrap().len(), 1198);
    let indexed: u64 = server.ask("ZCARD", &["voxray:sessions"]).await;
    assert_eq!(indexed, 1198);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_hides_no_other() {
    let server = Server::start(&[]);
    let store = server.store().await;
    store.heartbeat(&conformance::node("good")).await.unwrap();
    store.heartbeat(&conformance::node("odd")).await.unwrap();
    let _: String = server.ask("SET", &["voxray:node:odd", "{}"]).await;

    assert_eq!(store.nodes().await.unwrap(), [conformance::node("good")]);
}

#[tokio::test]
async fn the_store_comes_back_when_redis_does() {
    let server = Server::start(&[]);
    let port = server.port;
    let store = server.store().await;
    drop(server);
    assert!(store.ping().await.is_err());

    let _server = Server::start_on(port, &[]);

    // The first operation may still meet the broken connection; it starts the next one.
    let _ = store.ping().await;
    store.ping().await.unwrap();
    store.heartbeat(&conformance::node("n")).await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_says_where_and_what_to_do_and_no_password() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = Secret::new(format!("redis://me:hunter2@127.0.0.1:{port}/0"));

    let fatal = RedisStore::connect(&url).await.err().unwrap();

    assert_eq!(fatal.status, service_kit::exit::UNAVAILABLE);
    assert!(fatal.what.contains(&format!("127.0.0.1:{port}")), "{fatal}");
    assert!(fatal.remedy.contains("VOXRAY_REDIS_URL"), "{fatal}");
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_repeating_it() {
    let server = Server::start(&["--requirepass", "right"]);
    let url = Secret::new(format!("redis://:hunter2@127.0.0.1:{}", server.port));

    let fatal = RedisStore::connect(&url).await.err().unwrap();

    assert_eq!(fatal.status, service_kit::exit::UNAVAILABLE);
    assert!(fatal.what.contains("password"), "{fatal}");
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}

#[tokio::test]
async fn a_url_that_is_none_is_a_configuration_error() {
    let fatal = RedisStore::connect(&Secret::new("postgres://u:hunter2@db"))
        .await
        .err()
        .unwrap();

    assert_eq!(fatal.status, service_kit::exit::CONFIG);
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}
