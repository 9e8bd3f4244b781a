//! The store against real servers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and tells how long a failover took"
)]

mod cluster;
mod sentinel;
mod server;
mod tls;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use server::Server;
use service_kit::config::{RedisTls, Secret, StoreKind};
use session_store::redis::keys;
use session_store::{NODE_TTL, Rate, RedisStore, Store, conformance};

#[tokio::test]
async fn the_redis_store_keeps_every_promise_of_the_trait() {
    let server = Server::start(&[]);
    let store = server.store().await;
    // Redis has no virtual clock: what must be gone after a while is looked for after a while.
    conformance::all(&store, tokio::time::sleep).await;
}

/// How often each operation was timed so far, by the metrics that a service exports.
fn timed() -> BTreeMap<String, u64> {
    let text = service_kit::metrics::render();
    let lines = text.lines();
    let counts = lines.filter_map(|line| line.strip_prefix("session_store_duration_seconds_count{operation=\""));
    let counts = counts.map(|count| {
        let (operation, times) = count.split_once("\"} ").unwrap();
        (operation.to_owned(), times.parse().unwrap())
    });
    counts.collect()
}

/// How often each operation is timed while the store that a service opens is asked everything.
async fn timed_by(kind: StoreKind) -> BTreeMap<String, u64> {
    let before = timed();
    let store = session_store::open(&kind).await.unwrap();
    conformance::all(&*store, tokio::time::sleep).await;
    let since = timed().into_iter().map(|(operation, times)| {
        let before = before.get(&operation).copied().unwrap_or_default();
        (operation, times - before)
    });
    since.collect()
}

#[tokio::test]
async fn the_same_operations_are_timed_in_memory_and_in_redis() {
    let server = Server::start(&[]);
    let redis = StoreKind::Redis {
        url: server.url(),
        tls: RedisTls::default(),
    };

    let memory = timed_by(StoreKind::Memory).await;
    assert_eq!(timed_by(redis).await, memory);
    assert!(memory.len() > 20, "{memory:?}");
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

/// The table of keys for operators, and the same in the source.
const TABLES: [&str; 2] = [
    include_str!("../../../docs/redis-keys.md"),
    include_str!("../../src/redis/keys.rs"),
];

/// First column of a table's rows: `voxray:{sN}:session:ID`, …
fn documented(table: &str) -> Vec<&str> {
    let rows = table.lines().map(|line| line.trim_start_matches("//! "));
    rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next())
        .filter(|key| key.starts_with(keys::PREFIX))
        .collect()
}

/// Whether a key is one of this row.
fn is_of(key: &str, row: &str) -> bool {
    let (key, row): (Vec<_>, Vec<_>) = (key.split(':').collect(), row.split(':').collect());
    key.len() == row.len()
        && key.iter().zip(row).all(|(part, pattern)| match pattern {
            "ID" | "NODE" | "KEY" | "NAME" | "TENANT" | "SHA-256" => true,
            "{sN}" => part.starts_with("{s"),
            same => *part == same,
        })
}

#[tokio::test]
async fn every_key_is_documented_has_the_prefix_and_a_time_to_live_unless_it_is_an_index() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let ttl = Duration::from_secs(60);
    store.put_session(&conformance::session("s", 1), ttl).await.unwrap();
    store.claim_session("s", "n", ttl).await.unwrap();
    store.put_if_absent("k", "v", ttl).await.unwrap();
    store.use_token("secret-token", "socket", ttl).await.unwrap();
    store.heartbeat(&conformance::node("n")).await.unwrap();
    store.place("n", "ticket").await.unwrap();
    store.hold_session("t", "s", 1).await.unwrap();
    store.advance("call", 1, "ringing", ttl).await.unwrap();
    let rate = Rate { burst: 1, window: ttl };
    store.take("t", rate).await.unwrap();

    let keys: Vec<String> = server.ask("KEYS", &["*"]).await;

    for table in TABLES {
        let rows = documented(table);
        for row in &rows {
            assert!(keys.iter().any(|key| is_of(key, row)), "nothing is {row} of {keys:?}");
        }
        for key in &keys {
            assert_eq!(
                rows.iter().filter(|row| is_of(key, row)).count(),
                1,
                "{key} in {rows:?}"
            );
        }
        assert_eq!(keys.len(), rows.len());
    }
    for key in keys {
        assert!(key.starts_with("voxray:") && !key.contains("secret-token"), "{key}");
        let left: i64 = server.ask("PTTL", &[&key]).await;
        let index = key.ends_with("}:sessions") || key == "voxray:{nodes}:nodes";
        assert_eq!(left == -1, index, "{key} lives {left} ms");
    }
}

#[tokio::test]
async fn sessions_of_a_node_that_is_gone_count_no_longer() {
    let server = Server::start(&[]);
    let store = server.store().await;
    // As if it had been held for longer than a session counts without a record.
    let grace_is_over = async |tenant: &str, session: &str| {
        let _: u64 = server.ask("ZADD", &[&keys::tenant(tenant), "1", session]).await;
    };
    conformance::a_session_whose_node_is_gone_counts_no_longer(&store, grace_is_over).await;
}

#[tokio::test]
async fn touching_a_session_renews_it_its_claim_and_its_place_in_the_index() {
    let server = Server::start(&[]);
    let store = server.store().await;
    let minute = Duration::from_secs(60);
    store.put_session(&conformance::session("s", 1), minute).await.unwrap();
    store.claim_session("s", "n", minute).await.unwrap();
    let index = keys::sessions(keys::shard("s"));
    let before: f64 = server.ask("ZSCORE", &[&index, "s"]).await;

    assert!(store.touch_session("s", minute * 10).await.unwrap());

    let after: f64 = server.ask("ZSCORE", &[&index, "s"]).await;
    assert!(after - before >= 540_000.0, "{before} {after}");
    for key in [keys::session("s"), keys::owner("s")] {
        let left: u64 = server.ask("PTTL", &[&key]).await;
        assert!((540_000..=600_000).contains(&left), "{key} lives {left} ms");
    }
}

#[tokio::test]
async fn a_node_report_lives_for_the_node_ttl() {
    let server = Server::start(&[]);
    server.store().await.heartbeat(&conformance::node("n")).await.unwrap();

    let left: u128 = server.ask("PTTL", &["voxray:{nodes}:node:n"]).await;

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
    for id in ["s7", "s1100"] {
        let _: u64 = server.ask("DEL", &[&keys::session(id)]).await;
    }

    assert_eq!(store.sessions().await.unwrap().len(), 1198);
    let mut indexed = 0;
    for shard in 0..keys::SHARDS {
        indexed += server.ask::<u64>("ZCARD", &[&keys::sessions(shard)]).await;
    }
    assert_eq!(indexed, 1198);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_hides_no_other() {
    let server = Server::start(&[]);
    let store = server.store().await;
    store.heartbeat(&conformance::node("good")).await.unwrap();
    store.heartbeat(&conformance::node("odd")).await.unwrap();
    let _: String = server.ask("SET", &["voxray:{nodes}:node:odd", "{}"]).await;

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

    let fatal = RedisStore::connect(&url, &RedisTls::default()).await.err().unwrap();

    assert_eq!(fatal.status, service_kit::exit::UNAVAILABLE);
    assert!(fatal.what.contains(&format!("127.0.0.1:{port}")), "{fatal}");
    assert!(fatal.remedy.contains("VOXRAY_REDIS_URL"), "{fatal}");
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_repeating_it() {
    let server = Server::start(&["--requirepass", "right"]);
    let url = Secret::new(format!("redis://:hunter2@127.0.0.1:{}", server.port));

    let fatal = RedisStore::connect(&url, &RedisTls::default()).await.err().unwrap();

    assert_eq!(fatal.status, service_kit::exit::UNAVAILABLE);
    assert!(
        fatal.what.contains("password") && fatal.remedy.contains("VOXRAY_REDIS_URL"),
        "{fatal}"
    );
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}

#[tokio::test]
async fn a_url_that_is_none_is_a_configuration_error() {
    let url = Secret::new("postgres://u:hunter2@db");
    let fatal = RedisStore::connect(&url, &RedisTls::default()).await.err().unwrap();

    assert_eq!(fatal.status, service_kit::exit::CONFIG);
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}
