//! More offers than one heartbeat reports, to two signaling services at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use session_store::{NodeRecord, RedisStore, Store};
use voxray_testkit::metrics::Metrics;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::{load, scale};

const LIMIT: Duration = Duration::from_secs(90);
/// Slots of the nodes: by the last reports alone, every offer that meets the largest would go there.
const SLOTS: [u32; 4] = [40, 110, 160, 290];
/// Calls and clients announced at the same moment.
const BURST: usize = 500;
const BUSY: &str = "All our agents are busy.";

/// The webhook of one phone call, and what it is answered.
async fn announce(http: &reqwest::Client, url: &str, n: usize) -> (u16, String) {
    let form = [
        ("CallSid", format!("CA{n:032x}")),
        ("From", "+15550001111".to_owned()),
        ("To", "+15550002222".to_owned()),
    ];
    let answer = http
        .post(format!("{url}/telephony/twilio"))
        .form(&form)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A client's `/start`.
async fn start(http: &reqwest::Client, url: &str) -> reqwest::Response {
    let asked = http.post(format!("{url}/start"));
    asked.json(&json!({"transport": "websocket"})).send().await.unwrap()
}

/// All of these offers at once, every second one a phone call, over both instances; how many got a slot.
async fn offer(http: &reqwest::Client, stack: &Stack, offers: std::ops::Range<usize>) -> usize {
    let offers = offers.map(|n| async move {
        // Kinds change half as often as instances: each gets both.
        let url = stack.signaling[n % 2].url();
        if n / 2 % 2 == 0 {
            let (status, document) = announce(http, &url, n).await;
            status == 200 && document.contains("<Stream")
        } else {
            start(http, &url).await.status() == 201
        }
    });
    join_all(offers).await.into_iter().filter(|placed| *placed).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_over_two_instances_goes_where_there_is_room_fills_every_node_and_who_comes_after_it_is_told_so() {
    let _turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut builder = load::builder(&agent)
        .signaling(2)
        .media(SLOTS.len())
        .env("VOXRAY_TELEPHONY_BUSY_MESSAGE", BUSY);
    for (slots, number) in SLOTS.into_iter().zip(1..) {
        builder = builder.env_of(
            format!("media-{number}"),
            "VOXRAY_MEDIA_MAX_SESSIONS",
            slots.to_string(),
        );
    }
    let stack = load::start(builder).await;
    let http = load::client();
    let room = SLOTS.iter().sum::<u32>() as usize;

    let began = Instant::now();
    assert_eq!(
        offer(&http, &stack, 0..BURST).await,
        BURST,
        "there was room for all of them"
    );
    let took = began.elapsed();
    let nodes = reported(&stack, BURST).await;
    println!(
        "{BURST} offers at once over two instances, answered in {took:.1?}: {:?}; {} were led on to another node",
        sessions(&nodes),
        refused(&stack).await
    );
    let is_over = |node: &NodeRecord| node.sessions > node.capacity;
    assert!(!nodes.iter().any(is_over), "{:?}", sessions(&nodes));

    assert_eq!(
        offer(&http, &stack, BURST..room).await,
        room - BURST,
        "there was room for them too"
    );
    let nodes = reported(&stack, room).await;
    assert!(
        nodes.iter().all(|node| node.sessions == node.capacity),
        "{:?}",
        sessions(&nodes)
    );
    assert_eq!(sessions(&nodes).into_values().collect::<Vec<_>>(), SLOTS);

    // A caller hears why; a client is told when to come again.
    let (status, document) = announce(&http, &stack.signaling[0].url(), room).await;
    assert!(
        status == 200 && document.contains(BUSY) && !document.contains("<Stream"),
        "{document}"
    );
    let turned_away = start(&http, &stack.signaling[1].url()).await;
    assert_eq!(turned_away.status(), 503);
    let retry: u32 = turned_away.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(retry >= 1);
    let refused = eventually("readiness to say that all nodes are full", LIMIT, || async {
        let answer = http.get(format!("{}/ready", stack.signaling[1].url())).send().await?;
        Ok((answer.status() == 503).then_some(answer))
    });
    assert!(refused.await.unwrap().text().await.unwrap().contains("full"));
    // Stopped, the nodes would wait for every caller who was announced.
    drop(stack);
}

/// What the nodes have reported, by name, when they have reported this many sessions.
async fn reported(stack: &Stack, all: usize) -> Vec<NodeRecord> {
    let url = service_kit::config::Secret::new(stack.redis.url());
    let store = RedisStore::connect(&url, &service_kit::config::RedisTls::default())
        .await
        .unwrap();
    let reported = eventually("all nodes to report their reservations", LIMIT, || async {
        let mut nodes = store.nodes().await?;
        nodes.sort_by(|a, b| a.node_id.cmp(&b.node_id));
        let sum: u32 = nodes.iter().map(|node| node.sessions).sum();
        Ok((sum as usize == all).then_some(nodes))
    });
    reported.await.unwrap()
}

fn sessions(nodes: &[NodeRecord]) -> BTreeMap<&str, u32> {
    nodes
        .iter()
        .map(|node| (node.node_id.as_str(), node.sessions))
        .collect()
}

/// How often a node was asked that had no slot left.
async fn refused(stack: &Stack) -> f64 {
    let mut refused = 0.0;
    for signaling in &stack.signaling {
        let metrics = Metrics::of(&signaling.url()).await.unwrap();
        refused += metrics.get("placements_total{outcome=\"refused\"}");
    }
    refused
}

/// A pool that serves no phones is not asked for one, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_serves_what_it_is_for() {
    let _turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let builder = load::builder(&agent).env_for(
        voxray_testkit::service::Role::Media,
        "VOXRAY_MEDIA_TRANSPORTS",
        "websocket",
    );
    let stack = load::start(builder).await;
    let http = load::client();
    let url = stack.signaling[0].url();

    let (status, document) = announce(&http, &url, 1).await;
    assert!(
        status == 200 && document.contains("<Say") && !document.contains("<Stream"),
        "{document}"
    );
    let started = start(&http, &url).await;
    assert!(started.status().is_success(), "{}", started.status());
    let started: Value = started.json().await.unwrap();
    assert!(started["wsUrl"].is_string(), "{started}");
}
