//! The same promises over TLS, behind sentinels, and in a cluster.

use std::time::{Duration, Instant};

use service_kit::config::Secret;
use session_store::{RedisStore, Store, StoreError, conformance};

use crate::server::{Server, free_port};

const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for anything on a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(40);

/// Asks until it is so.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_store_keeps_its_promises_over_tls_with_a_password_and_its_own_authority() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let shown = port.to_string();
    let _server = Server::start_on(
        port,
        &[
            "--port",
            "0",
            "--tls-port",
            &shown,
            "--tls-cert-file",
            cert.to_str().unwrap(),
            "--tls-key-file",
            key.to_str().unwrap(),
            "--tls-ca-cert-file",
            cert.to_str().unwrap(),
            "--tls-auth-clients",
            "no",
            "--user",
            "voxray",
            "on",
            ">p@ss",
            "~voxray:*",
            "+@all",
        ],
    );
    let url = Secret::new(format!("rediss://voxray:p%40ss@127.0.0.1:{port}"));

    let store = RedisStore::connect(&url, Some(&cert)).await.unwrap();
    conformance::all(&store, tokio::time::sleep).await;

    let unknown_authority = RedisStore::connect(&url, None).await.err().unwrap();
    assert!(unknown_authority.what.contains("certificate"), "{unknown_authority}");
    let wrong = Secret::new(format!("rediss://voxray:hunter2@127.0.0.1:{port}"));
    let refused = RedisStore::connect(&wrong, Some(&cert)).await.err().unwrap();
    assert!(
        refused.what.contains("password") && !refused.to_string().contains("hunter2"),
        "{refused}"
    );
    let nowhere = RedisStore::connect(&url, Some(&files.path().join("none")))
        .await
        .err()
        .unwrap();
    assert_eq!(nowhere.status, service_kit::exit::NO_INPUT);
}

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
        let primary = Server::start(&data);
        let of = format!("127.0.0.1 {}", primary.port);
        let replica = Server::start(&[data.as_slice(), &["--replicaof", &of]].concat());
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
        Secret::new(format!("redis+sentinel://:data@{hosts}/main?sentinel_password=watch"))
    }
}

#[tokio::test]
async fn the_store_keeps_its_promises_behind_sentinels_and_follows_a_failover_without_a_restart() {
    let Watched {
        primary,
        replica,
        sentinel,
    } = {
        let watched = Watched::start().await;
        let store = RedisStore::connect(&watched.url(), None).await.unwrap();
        conformance::all(&store, tokio::time::sleep).await;
        watched
    };
    let url = Secret::new(format!(
        "redis+sentinel://:data@127.0.0.1:{}/main?sentinel_password=watch",
        sentinel.port
    ));
    let store = RedisStore::connect(&url, None).await.unwrap();
    let session = conformance::session("survives", 1);
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

    let unknown = Secret::new(format!(
        "redis+sentinel://:data@127.0.0.1:{}/other?sentinel_password=watch",
        sentinel.port
    ));
    let fatal = RedisStore::connect(&unknown, None).await.err().unwrap();
    assert!(fatal.what.contains("watch no primary of the name"), "{fatal}");
}

/// Three servers that share the slots.
async fn cluster() -> [Server; 3] {
    let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
    let buses = [free_port(), free_port(), free_port()].map(|port| port.to_string());
    let servers = buses.each_ref().map(|bus| {
        Server::start(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            bus,
            "--cluster-node-timeout",
            "2000",
        ])
    });
    let [first, ..] = &servers;
    let port = first.port.to_string();
    let [first_bus, ..] = &buses;
    for ((server, (from, to)), epoch) in servers.iter().zip(slots).zip(["1", "2", "3"]) {
        let _: String = server.ask("CLUSTER", &["ADDSLOTSRANGE", from, to]).await;
        let _: String = server.ask("CLUSTER", &["SET-CONFIG-EPOCH", epoch]).await;
        let _: String = server.ask("CLUSTER", &["MEET", "127.0.0.1", &port, first_bus]).await;
    }
    for server in &servers {
        until("the cluster to stand", async || {
            let info: String = server.ask("CLUSTER", &["INFO"]).await;
            (info.contains("cluster_state:ok") && info.contains("cluster_size:3")).then_some(())
        })
        .await;
    }
    servers
}

#[tokio::test]
async fn the_store_keeps_its_promises_in_a_cluster_and_uses_all_of_it() {
    let servers = cluster().await;
    let url = |server: &Server| Secret::new(format!("redis+cluster://127.0.0.1:{}", server.port));
    let [first, _, last] = &servers;
    let store = RedisStore::connect(&url(first), None).await.unwrap();

    conformance::all(&store, tokio::time::sleep).await;

    for n in 0..60 {
        let session = conformance::session(&format!("s{n}"), n);
        store.put_session(&session, MINUTE).await.unwrap();
    }
    let other = RedisStore::connect(&url(last), None).await.unwrap();
    assert_eq!(other.sessions().await.unwrap().len(), 60);
    for server in &servers {
        let keys: u64 = server.ask("DBSIZE", &[]).await;
        assert!(keys > 5, "{keys} keys on one of three servers");
    }
}

#[tokio::test]
async fn a_cluster_that_has_lost_a_part_is_not_used() {
    let [_first, second, third] = cluster().await;
    let url = Secret::new(format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        second.port, third.port
    ));
    let store = RedisStore::connect(&url, None).await.unwrap();
    store.ping().await.unwrap();

    drop(third);

    let began = Instant::now();
    let StoreError(why) = until("the loss to be noticed", async || store.ping().await.err()).await;
    println!("a lost part of a cluster is noticed after {:?}: {why}", began.elapsed());
}
