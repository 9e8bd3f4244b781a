//! The same promises behind sentinels, before and after a failover.

use std::time::{Duration, Instant};

use service_kit::config::{RedisTls, Secret};
use session_store::{RedisStore, Store, conformance};

use crate::server::{LOGIN, Server, USER, free_port, until};

const MINUTE: Duration = Duration::from_secs(60);

/// A primary, its replica and a sentinel, all with passwords.
struct Watched {
    primary: Server,
    replica: Server,
    sentinel: Server,
}

impl Watched {
    async fn start() -> Self {
        let data = [
            "--requirepass",
            "data",
            "--masterauth",
            "data",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let primary = Server::start(&[data.as_slice(), &USER].concat());
        let of = format!("127.0.0.1 {}", primary.port);
        let replica = Server::start(&[data.as_slice(), &["--replicaof", &of], &USER].concat());
        until("the replica to follow", async || {
            let role: String = primary.ask_with("data", "INFO", &["replication"]).await;
            role.contains("state=online").then_some(())
        })
        .await;
        let sentinel = Server::start_sentinel(&format!(
            "requirepass watch\n\
             sentinel monitor main 127.0.0.1 {} 1\n\
             sentinel auth-pass main data\n\
             sentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 4000\n",
            primary.port
        ));
        until("the sentinel to know the replica", async || {
            let replicas: Vec<redis::Value> = sentinel.ask_with("watch", "SENTINEL", &["REPLICAS", "main"]).await;
            (!replicas.is_empty()).then_some(())
        })
        .await;
        Self {
            primary,
            replica,
            sentinel,
        }
    }

    /// The first sentinel of the two in it does not run.
    fn url(&self) -> Secret {
        let (dead, alive) = (free_port(), self.sentinel.port);
        let hosts = format!("127.0.0.1:{dead},127.0.0.1:{alive}");
        Secret::new(format!("redis+sentinel://{LOGIN}@{hosts}/main?sentinel_password=watch"))
    }
}

#[tokio::test]
async fn the_store_keeps_its_promises_behind_sentinels_and_follows_a_failover_without_a_restart() {
    let watched = Watched::start().await;
    let store = RedisStore::connect(&watched.url(), &RedisTls::default()).await.unwrap();
    conformance::all(&store, tokio::time::sleep).await;
    let Watched {
        primary,
        replica,
        sentinel,
    } = watched;
    let url = |name: &str| {
        Secret::new(format!(
            "redis+sentinel://{LOGIN}@127.0.0.1:{}/{name}?sentinel_password=watch",
            sentinel.port
        ))
    };
    let store = RedisStore::connect(&url("main"), &RedisTls::default()).await.unwrap();
    let (session, node) = (conformance::session("survives", 1), conformance::node("n"));
    assert!(!store.heartbeat(&node).await.unwrap(), "nobody knew it");
    assert!(store.heartbeat(&node).await.unwrap());
    store.put_session(&session, MINUTE).await.unwrap();
    until("the replica to have it", async || {
        let keys: Vec<String> = replica.ask_with("data", "KEYS", &["*:session:survives"]).await;
        (!keys.is_empty()).then_some(())
    })
    .await;

    let began = Instant::now();
    drop(primary);
    assert!(store.ping().await.is_err());

    until("the promoted replica to take writes", async || {
        store.put_session(&conformance::session("new", 2), MINUTE).await.ok()
    })
    .await;
    println!("failover: writes are taken again after {:?}", began.elapsed());
    assert_eq!(store.session("survives").await.unwrap(), Some(session));
    assert_eq!(store.sessions().await.unwrap().len(), 2);
    // No report of the node fell into the failover: it hears of it all the same.
    until("the node to hear of it", async || {
        matches!(store.heartbeat(&node).await, Ok(false)).then_some(())
    })
    .await;
    assert!(store.heartbeat(&node).await.unwrap(), "it is told once");

    let _: String = replica.ask_with("data", "FLUSHALL", &[]).await;
    conformance::all(&store, tokio::time::sleep).await;
    let fatal = RedisStore::connect(&url("other"), &RedisTls::default())
        .await
        .err()
        .unwrap();
    assert!(fatal.what.contains("watch no primary of the name"), "{fatal}");
}
