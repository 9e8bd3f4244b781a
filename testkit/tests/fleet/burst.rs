//! More offers than one heartbeat reports, to two signaling services at once.

use std::time::Duration;

use serde_json::Value;
use session_store::{RedisStore, Store};
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::{load, scale};

const LIMIT: Duration = Duration::from_secs(60);
/// Phone calls announced at the same moment; the nodes have room for this many.
const CALLS: usize = 150;
const SLOTS: &str = "50";

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_over_two_instances_fills_every_node_and_who_comes_after_it_is_told_so() {
    let _turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let message = "All our agents are busy.";
    let builder = load::builder(&agent)
        .signaling(2)
        .media(3)
        .env("VOXRAY_MEDIA_MAX_SESSIONS", SLOTS)
        .env("VOXRAY_TELEPHONY_BUSY_MESSAGE", message);
    let stack = load::start(builder).await;
    let http = load::client();

    let calls = (0..CALLS).map(|n| {
        let (http, url) = (http.clone(), stack.signaling[n % 2].url());
        async move { announce(&http, &url, n).await }
    });
    let answers = futures_util::future::join_all(calls).await;

    let placed = answers
        .iter()
        .filter(|(status, body)| *status == 200 && body.contains("<Stream"));
    assert_eq!(placed.count(), CALLS, "there was room for all of them");
    let sessions = loads(&stack).await;
    println!("{CALLS} calls at once over two instances: {sessions:?}");
    assert_eq!(sessions, [50, 50, 50]);

    // A caller hears why; a client is told when to come again.
    let (status, document) = announce(&http, &stack.signaling[0].url(), CALLS).await;
    assert!(
        status == 200 && document.contains(message) && !document.contains("<Stream"),
        "{document}"
    );
    let refused = eventually("readiness to say that all nodes are full", LIMIT, || async {
        let answer = http.get(format!("{}/ready", stack.signaling[1].url())).send().await?;
        Ok((answer.status() == 503).then_some(answer))
    });
    assert!(refused.await.unwrap().text().await.unwrap().contains("full"));
    // Stopped, the nodes would wait for every caller who was announced.
    drop(stack);
}

/// What each node has reported, when it has reported all.
async fn loads(stack: &Stack) -> Vec<u32> {
    let url = service_kit::config::Secret::new(stack.redis.url());
    let store = RedisStore::connect(&url, &service_kit::config::RedisTls::default())
        .await
        .unwrap();
    let reported = eventually("all nodes to report their reservations", LIMIT, || async {
        let nodes = store.nodes().await?;
        let loads: Vec<u32> = nodes.iter().map(|node| node.sessions).collect();
        Ok((loads.iter().sum::<u32>() as usize == CALLS).then_some(loads))
    });
    reported.await.unwrap()
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
    let started = http
        .post(format!("{url}/start"))
        .json(&serde_json::json!({"transport": "websocket"}))
        .send()
        .await
        .unwrap();
    assert!(started.status().is_success(), "{}", started.status());
    let started: Value = started.json().await.unwrap();
    assert!(started["wsUrl"].is_string(), "{started}");
}
