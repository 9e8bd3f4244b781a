//! Redis is killed under running calls and comes back empty.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use voxray_testkit::wait::eventually;

use crate::load::{self, Load};
use crate::{gauges, scale, truth};

const CALLERS: usize = 6;
/// The promise is 5 s, which tests in virtual time hold the services to (`session_store::switch::RIGHT_AGAIN_WITHIN`); a
/// machine that is busy with something else may take longer, and what it took is printed.
const BACK: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_outlive_redis_and_everything_is_there_again_when_it_comes_back_empty() {
    let _turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let builder = load::builder(&agent)
        .media(2)
        .env("VOXRAY_LIMITS_SESSIONS_PER_KEY", "100");
    let mut stack = load::start(builder).await;
    let calls = Load::of(&stack, CALLERS).await;
    let http = load::client();
    let signaling = stack.signaling[0].url();
    // A client that holds one of its key's sessions and says nothing.
    let started: Value = http
        .post(format!("{signaling}/start"))
        .json(&json!({"transport": "websocket"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let (url, token) = (started["wsUrl"].as_str().unwrap(), started["token"].as_str().unwrap());
    // The dialect in which a client need not introduce itself.
    let url = url.replace("format=protobuf", "format=json");
    let (client, _) = tokio_tungstenite::connect_async(format!("{url}&token={token}"))
        .await
        .unwrap();
    let (mut speaking, mut hearing) = client.split();
    // Pings are answered while somebody reads.
    let hearing = tokio::spawn(async move { while let Some(Ok(_)) = hearing.next().await {} });
    let before = load::connected(&stack).await;

    stack.redis.stop();

    let said = eventually("readiness to say so", LIMIT, || async {
        let (status, body) = gauges::ready(&stack.signaling[0]).await?;
        Ok((status == 503).then_some(body))
    });
    let said = said.await.unwrap();
    assert!(said.contains("session store"), "{said}");
    let refused = http
        .post(format!("{signaling}/start"))
        .json(&json!({"transport": "websocket"}))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    let retry: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(retry >= 1);

    stack.redis.restart_on_same_port().await.unwrap();
    let back = Instant::now();

    eventually("readiness", BACK, || async {
        Ok((gauges::ready(&stack.signaling[0]).await?.0 == 200).then_some(()))
    })
    .await
    .unwrap();
    let ready = back.elapsed();
    let listed = eventually(
        "every live call to be listed, and counted for its key",
        BACK,
        || async {
            let live = gauges::open_calls(&stack).await?;
            let listed = load::connected(&stack).await;
            let held: Vec<String> = keys(stack.redis.port(), "voxray:{s*}:holder:*").await?;
            Ok((listed.len() as f64 >= live && live >= 1.0 && !held.is_empty()).then_some(listed))
        },
    );
    let listed = listed.await.unwrap();
    let took = back.elapsed();
    let same = before.keys().filter(|id| listed.contains_key(*id)).count();
    println!(
        "Redis came back empty: new calls are taken after {ready:?}, {} calls listed again after {took:?}, {same} of them \
         from before",
        listed.len()
    );
    assert!(same > 0, "none of {} calls went on", before.len());

    let started = http
        .post(format!("{signaling}/start"))
        .json(&json!({"transport": "websocket"}))
        .send()
        .await
        .unwrap();
    assert!(started.status().is_success(), "{}", started.status());
    speaking.close().await.unwrap();
    hearing.await.unwrap();
    let placed = calls.stop().await;
    let disturbed: Vec<_> = placed
        .iter()
        .filter_map(|call| call.outcome.as_ref().err())
        .filter(|error| {
            use voxray::caller::CallError;
            !matches!(
                error,
                CallError::Unreachable { .. }
                    | CallError::Webhook(_)
                    | CallError::Refused(_)
                    | CallError::Connect { .. }
            )
        })
        .collect();
    assert!(disturbed.is_empty(), "calls that had begun: {disturbed:?}");
    truth::assert_archived(&stack, scale::catch_up()).await;
    eventually("no session to be left", LIMIT, || async {
        Ok(load::connected(&stack).await.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

async fn keys(port: u16, pattern: &str) -> anyhow::Result<Vec<String>> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    Ok(redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await?)
}
