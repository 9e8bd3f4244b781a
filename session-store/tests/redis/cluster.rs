//! The same promises in a cluster, before and after one of its shards has failed over.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use service_kit::config::{RedisTls, Secret};
use session_store::redis::keys;
use session_store::{RedisStore, Store, StoreError, conformance};

use crate::server::{LOGIN, Server, USER, free_port, until};

const MINUTE: Duration = Duration::from_secs(60);
/// Of the servers among themselves and of these tests.
const PASSWORD: &str = "data";
/// Slots of the three primaries.
const SLOTS: [RangeInclusive<u16>; 3] = [0..=5_460, 5_461..=10_922, 10_923..=16_383];

/// One that is of no cluster yet, and the port on which it talks to the others.
fn member() -> (Server, String) {
    let bus = free_port().to_string();
    let settings = [
        "--requirepass",
        PASSWORD,
        "--masterauth",
        PASSWORD,
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "2000",
        "--repl-diskless-sync-delay",
        "0",
    ];
    let server = Server::start(&[settings.as_slice(), &USER].concat());
    (server, bus)
}

async fn ask<T: redis::FromRedisValue>(server: &Server, command: &str, arguments: &[&str]) -> T {
    server.ask_with(PASSWORD, command, arguments).await
}

/// Three primaries that share the slots, and where others meet the first one.
async fn cluster() -> ([Server; 3], [String; 3]) {
    let members = [member(), member(), member()];
    let [(first, bus), ..] = &members;
    let meeting = ["127.0.0.1".to_owned(), first.port.to_string(), bus.clone()];
    let [host, port, bus] = meeting.each_ref().map(String::as_str);
    for (((server, _), slots), epoch) in members.iter().zip(SLOTS).zip(["1", "2", "3"]) {
        let (from, to) = (slots.start().to_string(), slots.end().to_string());
        let _: String = ask(server, "CLUSTER", &["ADDSLOTSRANGE", &from, &to]).await;
        let _: String = ask(server, "CLUSTER", &["SET-CONFIG-EPOCH", epoch]).await;
        let _: String = ask(server, "CLUSTER", &["MEET", host, port, bus]).await;
    }
    let servers = members.map(|(server, _)| server);
    for server in &servers {
        until("the cluster to stand", async || {
            let info: String = ask(server, "CLUSTER", &["INFO"]).await;
            (info.contains("cluster_state:ok") && info.contains("cluster_size:3")).then_some(())
        })
        .await;
    }
    (servers, meeting)
}

/// One more server, which follows this primary and is known by the others to do so.
async fn replica_of(primary: &Server, servers: &[Server], meeting: &[String; 3]) -> Server {
    let (replica, _) = member();
    let [host, port, bus] = meeting.each_ref().map(String::as_str);
    let _: String = ask(&replica, "CLUSTER", &["MEET", host, port, bus]).await;
    let id: String = ask(primary, "CLUSTER", &["MYID"]).await;
    until("the newcomer to know whom to follow", async || {
        let known: String = ask(&replica, "CLUSTER", &["NODES"]).await;
        known.contains(&id).then_some(())
    })
    .await;
    let _: String = ask(&replica, "CLUSTER", &["REPLICATE", &id]).await;
    let own: String = ask(&replica, "CLUSTER", &["MYID"]).await;
    until("the newcomer to follow", async || {
        let info: String = ask(&replica, "INFO", &["replication"]).await;
        info.contains("master_link_status:up").then_some(())
    })
    .await;
    for server in servers {
        until("the others to know", async || {
            let nodes: String = ask(server, "CLUSTER", &["NODES"]).await;
            let line = nodes.lines().find(|line| line.starts_with(&own))?;
            (line.contains("slave") && line.contains(&id)).then_some(())
        })
        .await;
    }
    replica
}

async fn slot(server: &Server, key: &str) -> u16 {
    ask(server, "CLUSTER", &["KEYSLOT", key]).await
}

fn url(servers: &[&Server]) -> Secret {
    let hosts: Vec<_> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    Secret::new(format!("redis+cluster://{LOGIN}@{}", hosts.join(",")))
}

async fn connect(servers: &[&Server]) -> RedisStore {
    RedisStore::connect(&url(servers), &RedisTls::default()).await.unwrap()
}

#[tokio::test]
async fn the_store_keeps_its_promises_in_a_cluster_with_a_password_and_uses_all_of_it() {
    let (servers, _) = cluster().await;
    let [first, _, last] = &servers;
    let store = connect(&[first]).await;

    conformance::all(&store, tokio::time::sleep).await;

    for n in 0..60 {
        let session = conformance::session(&format!("s{n}"), n);
        store.put_session(&session, MINUTE).await.unwrap();
    }
    assert_eq!(connect(&[last]).await.sessions().await.unwrap().len(), 60);
    for server in &servers {
        let keys: u64 = ask(server, "DBSIZE", &[]).await;
        assert!(keys > 5, "{keys} keys on one of three servers");
    }

    let wrong = Secret::new(format!("redis+cluster://voxray:hunter2@127.0.0.1:{}", first.port));
    let fatal = RedisStore::connect(&wrong, &RedisTls::default()).await.err().unwrap();
    assert!(fatal.what.contains("password"), "{fatal}");
    assert!(!fatal.to_string().contains("hunter2"), "{fatal}");
}

/// The nodes' reports are in another part of the cluster, where nothing happens: a node hears of the failover all the
/// same, since the replica may lack the last of its sessions.
#[tokio::test]
async fn a_part_of_a_cluster_that_fails_over_keeps_its_promises_and_nodes_hear_of_it() {
    let (servers, meeting) = cluster().await;
    let [first, ..] = &servers;
    let reports = slot(first, keys::NODES).await;
    let lost = SLOTS.iter().position(|slots| !slots.contains(&reports)).unwrap();
    let replica = replica_of(servers.get(lost).unwrap(), &servers, &meeting).await;
    let mut there = None;
    for n in 0..100 {
        let id = format!("s{n}");
        let slot = slot(first, &keys::session(&id)).await;
        if SLOTS.get(lost).is_some_and(|slots| slots.contains(&slot)) {
            there = Some(id);
            break;
        }
    }
    let session = conformance::session(&there.unwrap(), 1);
    // It was told of no server but the one that will be lost.
    let other = connect(&[servers.get(lost).unwrap()]).await;
    let store = connect(&servers.iter().collect::<Vec<_>>()).await;
    conformance::all(&store, tokio::time::sleep).await;
    store.put_session(&session, MINUTE).await.unwrap();
    let node = conformance::node("n");
    assert!(!store.heartbeat(&node).await.unwrap(), "nobody knew it");
    assert!(store.heartbeat(&node).await.unwrap());
    let key = keys::session(&session.session_id);
    until("the replica to have the session", async || {
        let found: Vec<String> = ask(&replica, "KEYS", &[&key]).await;
        (!found.is_empty()).then_some(())
    })
    .await;

    let began = Instant::now();
    let alive: Vec<Server> = servers
        .into_iter()
        .enumerate()
        .filter_map(|(n, server)| (n != lost).then_some(server))
        .collect();

    until("the promoted replica to take writes", async || {
        other.put_session(&session, MINUTE).await.ok()
    })
    .await;
    println!(
        "failover in a cluster: writes are taken again after {:?}",
        began.elapsed()
    );
    until("everybody to find it", async || {
        store.put_session(&session, MINUTE).await.ok()
    })
    .await;
    until("the node to hear of it", async || {
        matches!(store.heartbeat(&node).await, Ok(false)).then_some(())
    })
    .await;
    assert!(store.heartbeat(&node).await.unwrap(), "it is told once");
    assert_eq!(store.sessions().await.unwrap(), [session]);

    let servers: Vec<&Server> = alive.iter().chain([&replica]).collect();
    for server in &servers {
        let _: String = ask(server, "FLUSHALL", &[]).await;
    }
    conformance::all(&store, tokio::time::sleep).await;
    let _: RedisStore = connect(&servers).await;
}

#[tokio::test]
async fn a_cluster_that_has_lost_a_part_is_not_used() {
    let ([_first, second, third], _) = cluster().await;
    let store = connect(&[&second, &third]).await;
    store.ping().await.unwrap();

    drop(third);

    let began = Instant::now();
    let StoreError(why) = until("the loss to be noticed", async || store.ping().await.err()).await;
    println!("a lost part of a cluster is noticed after {:?}: {why}", began.elapsed());
}
