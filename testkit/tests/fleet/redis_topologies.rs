//! Deployments whose Redis is more than one server.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};
use voxray::caller::{Call, Step};
use voxray_testkit::servers::{RedisCluster, RedisSentinel};
use voxray_testkit::wait::eventually;
use voxray_testkit::webrtc_client::{Client, PLAIN};

use crate::gauges;
use crate::load::{self, Load};
use crate::store::{self, LIMIT, Silent};

const CALLERS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_outlive_a_failover_behind_sentinels_over_tls_and_the_new_primary_lists_them_all() {
    let mut redis = RedisSentinel::start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let agent = load::agent().await;
    let mut builder = load::builder(&agent).media(2);
    for (key, value) in redis.settings() {
        builder = builder.env(key, value);
    }
    let stack = load::start(builder).await;
    let calls = Load::of(&stack, CALLERS).await;
    let client = Silent::connect(&stack.signaling[0].url()).await;

    redis.kill_primary();

    store::assert_refuses(&stack).await;
    redis.notice().await.unwrap();
    let promoted = eventually("the sentinel to promote the replica", LIMIT, || async {
        Ok(redis.is_promoted().await?.then(Instant::now))
    });
    let promoted = promoted.await.unwrap();

    store::assert_right_again(&stack, promoted, &client, async || Ok(true)).await;
    client.close().await;
    store::assert_nobody_noticed(&stack, calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_calls_of_every_transport() {
    let redis = RedisCluster::start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let agent = load::agent().await;
    let builder = load::builder(&agent)
        .media(2)
        .env("VOXRAY_WEBRTC_ICE_SERVERS", "[]")
        .env("VOXRAY_REDIS_URL", redis.url());
    let stack = load::start(builder).await;
    let signaling = stack.signaling[0].url();

    let call = Call::new(&signaling, vec![Step::WaitForHangUp { timeout: LIMIT }]);
    let phone = tokio::spawn(async move { call.place().await.unwrap() });
    let client = Silent::connect(&signaling).await;
    let started: Value = store::start(&signaling, "webrtc").await.json().await.unwrap();
    let mut browser = Client::new(started["sessionId"].as_str().unwrap(), PLAIN)
        .await
        .unwrap();
    browser.offer(&signaling, &json!({})).await.unwrap();
    browser.is_connected().await.unwrap();

    let sessions = async || {
        let body = gauges::get(&format!("{signaling}/sessions")).await?;
        let sessions = body["data"]["sessions"].as_array().cloned();
        anyhow::Ok(sessions.unwrap_or_default())
    };
    let listed = eventually("a call of every transport", LIMIT, || async {
        let sessions = sessions().await?;
        let connected = sessions.iter().filter(|session| session["state"] == "connected");
        let transports: BTreeSet<_> = connected.filter_map(|session| session["transport"].as_str()).collect();
        let all = transports == BTreeSet::from(["telephony", "webrtc", "websocket"]);
        Ok(all.then(|| sessions.clone()))
    });
    for session in listed.await.unwrap() {
        let url = format!("{signaling}/sessions/{}", session["sessionId"].as_str().unwrap());
        let ended = load::client().delete(url).send().await.unwrap();
        assert!(ended.status().is_success(), "{session}: {}", ended.status());
    }

    assert!(phone.await.unwrap().ended_by_agent);
    eventually("no session to be left", LIMIT, || async {
        Ok(sessions().await?.is_empty().then_some(()))
    })
    .await
    .unwrap();
    browser.close().await.unwrap();
    client.hung_up().await;
}
