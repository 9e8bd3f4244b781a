//! A node whose host takes its processors away: it says that it carries fewer calls, and gets no more until it can.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use voxray::caller::{Call, Step};
use voxray_testkit::metrics::Metrics;
use voxray_testkit::openai::{Answer, Endpoint, tone};
use voxray_testkit::service::{Role, Service};
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::{gauges, load};

const LIMIT: Duration = Duration::from_secs(90);
/// What the node may carry at most, and would without strain: far more than the other one, so that placement prefers it.
const MOST: u64 = 200;
/// Slots of the other node, which does not measure.
const OTHERS: u64 = 3;
/// Calls of the node that is strained.
const CALLS: usize = 4;
/// The agent speaks for longer than everything here takes: frames leave all the time. A sentence of more than 131 s is
/// refused.
const GREETING_MS: u32 = 125_000;
const OTHER_WORDS_MS: u32 = 300;
/// The processors are away for so long, and there for as long: most frames leave later than a jitter buffer hides.
const AWAY: Duration = Duration::from_millis(120);

/// Takes the processors away from a node again and again, until it is dropped; the node goes on then.
struct Starved(CancellationToken);

impl Starved {
    fn begin(node: &Service) -> Self {
        let stop = CancellationToken::new();
        let pid = rustix::process::Pid::from_raw(node.process().unwrap().pid().cast_signed()).unwrap();
        let until = stop.clone();
        tokio::spawn(async move {
            while !until.is_cancelled() {
                rustix::process::kill_process(pid, Signal::STOP).unwrap();
                tokio::time::sleep(AWAY).await;
                rustix::process::kill_process(pid, Signal::CONT).unwrap();
                tokio::time::sleep(AWAY).await;
            }
        });
        Self(stop)
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// `GET /nodes`: capacity and sessions of this node.
async fn listed(stack: &Stack, node: &Service) -> anyhow::Result<(u64, u64)> {
    let body: Value = gauges::get(&format!("{}/nodes", stack.signaling[0].url())).await?;
    let nodes = body["data"]["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|found| found["node"] == node.name()).unwrap();
    let number = |key: &str| found[key].as_u64().unwrap();
    Ok((number("capacity"), number("sessions")))
}

/// What the node says at `/metrics`, of every transport.
async fn measured(node: &Service) -> u64 {
    let metrics = Metrics::of(&node.url()).await.unwrap();
    let of = |transport| metrics.get(&format!("voxray_sessions_capacity{{transport=\"{transport}\"}}"));
    let capacities = ["telephony", "websocket", "webrtc"].map(of);
    assert!(
        capacities.iter().all(|capacity| *capacity == capacities[0]),
        "{capacities:?}"
    );
    capacities[0] as u64
}

/// Where a client of a new session is sent, or how it is refused.
async fn start(stack: &Stack) -> Result<String, reqwest::Response> {
    let asked = load::client().post(format!("{}/start", stack.signaling[0].url()));
    let answer = asked.json(&json!({"transport": "websocket"})).send().await.unwrap();
    if answer.status() != 201 {
        return Err(answer);
    }
    let body: Value = answer.json().await.unwrap();
    Ok(body["wsUrl"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_send_in_time_is_out_of_placement_until_it_can_and_ends_no_call_for_it() {
    let agent = load::agent().await;
    let (greeting, other_words) = (tone(440.0, GREETING_MS), tone(440.0, OTHER_WORDS_MS));
    let (greeting, other_words) = (Answer::speech(&greeting), Answer::speech(&other_words));
    agent.otherwise_by(Endpoint::Speech, move |request| {
        let is_greeting = request.json["input"] == load::GREETING;
        if is_greeting {
            greeting.clone()
        } else {
            other_words.clone()
        }
    });
    let builder = load::builder(&agent)
        .media(2)
        .env_for(Role::Media, "VOXRAY_MEDIA_MAX_SESSIONS", MOST.to_string())
        .env_of("media-1", "VOXRAY_MEDIA_MEASURE_CAPACITY", "true")
        .env_of("media-2", "VOXRAY_MEDIA_MAX_SESSIONS", OTHERS.to_string());
    let stack = load::start(builder).await;
    let (node, other) = (&stack.media[0], &stack.media[1]);
    let url = stack.signaling[0].url();
    assert_eq!(listed(&stack, node).await.unwrap(), (MOST, 0));
    let stays = Step::WaitForHangUp { timeout: 2 * LIMIT };
    let calls: Vec<_> = (0..CALLS)
        .map(|_| tokio::spawn(Call::new(&url, vec![stays.clone()]).place()))
        .collect();
    eventually(
        "the node to have the calls, which it has far more room for",
        LIMIT,
        || async { Ok((listed(&stack, node).await?.1 == CALLS as u64).then_some(())) },
    )
    .await
    .unwrap();

    let starved = Starved::begin(node);

    eventually("placement to know that the node has no room", LIMIT, || async {
        Ok((listed(&stack, node).await? == (CALLS as u64, CALLS as u64)).then_some(()))
    })
    .await
    .unwrap();
    let carries = measured(node).await;
    println!("{CALLS} calls, and {MOST} allowed: strained, the node says that it carries {carries}");
    assert!(carries < CALLS as u64, "a tenth less than it has");
    assert_eq!(measured(other).await, OTHERS);
    for n in 0..OTHERS {
        let sent = start(&stack).await.unwrap_or_else(|refused| panic!("{n}: {refused:?}"));
        assert!(sent.starts_with(&other.ws_url()), "{sent}");
    }
    let refused = start(&stack).await.unwrap_err();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(calls.iter().all(|call| !call.is_finished()), "no call ends for it");

    // It can again, and its calls end.
    drop(starved);
    let sessions: Value = gauges::get(&format!("{url}/sessions")).await.unwrap();
    for session in sessions["data"]["sessions"].as_array().unwrap() {
        if session["node"] == node.name() {
            let id = session["sessionId"].as_str().unwrap();
            let ended = load::client()
                .delete(format!("{url}/sessions/{id}"))
                .send()
                .await
                .unwrap();
            assert!(ended.status().is_success(), "{}", ended.status());
        }
    }
    for call in calls {
        assert!(call.await.unwrap().unwrap().ended_by_agent);
    }
    eventually("the node to have room again", LIMIT, || async {
        let (capacity, sessions) = listed(&stack, node).await?;
        Ok((sessions == 0 && capacity > CALLS as u64).then_some(()))
    })
    .await
    .unwrap();
    let sent = start(&stack).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert!(sent.starts_with(&node.ws_url()), "{sent}");
    assert!(measured(node).await > carries);
    // Stopped, the nodes would wait for the clients who were announced.
    drop(stack);
}
