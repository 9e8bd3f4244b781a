//! Calls that a node which goes cannot wait for: a polite end, and nothing of them is lost.

use std::time::Duration;

use serde_json::{Value, json};
use voxray::caller::{Call, CallReport, Step, rms};
use voxray_testkit::api::data;
use voxray_testkit::openai::{Answer, Endpoint, tone};
use voxray_testkit::service::{Role, Service};
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::{gauges, load};

const LIMIT: Duration = Duration::from_secs(90);
const GOODBYE: &str = "We have to end this call. Please call again.";
/// All that the agent says otherwise, its greeting, is shorter.
const GOODBYE_MS: u32 = 1_200;
const GREETING_MS: u32 = 300;
/// Longer than a node takes that is hurried, on a busy machine too.
const DRAIN_SECS: u64 = 15;
/// 20 ms of a phone call.
const PACKET: usize = 160;
const PACKET_MS: usize = 20;

/// A caller who stays until the other side hangs up, with the session's id and its node.
async fn caller(stack: &Stack) -> (tokio::task::JoinHandle<CallReport>, String, String) {
    let url = stack.signaling[0].url();
    let steps = vec![Step::WaitForHangUp { timeout: LIMIT }];
    let mut call = Call::new(&url, steps);
    let call_id = format!("CA{}", uuid::Uuid::new_v4().simple());
    call.call_id = Some(call_id.clone());
    let placed = tokio::spawn(async move { call.place().await.unwrap() });
    let found = eventually("the call is connected", LIMIT, || async {
        let body: Value = gauges::get(&format!("{url}/sessions")).await?;
        let sessions = body["data"]["sessions"].as_array().cloned().unwrap_or_default();
        let found = sessions
            .into_iter()
            .find(|session| session["callId"] == *call_id && session["state"] == "connected");
        Ok(found)
    });
    let found = found.await.unwrap();
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    let transcript = format!("{url}/sessions/{}/transcript", text("sessionId"));
    eventually("the greeting is over", LIMIT, || async {
        let kept = data(&transcript).await?;
        let turns = kept.as_ref().and_then(|kept| kept["turns"].as_array());
        Ok(turns.is_some_and(|turns| !turns.is_empty()).then_some(()))
    })
    .await
    .unwrap();
    (placed, text("sessionId"), text("node"))
}

/// The caller heard the sentence, and the archive had it when the process was gone.
async fn assert_polite(stack: &Stack, report: &CallReport, session_id: &str) {
    assert!(report.ended_by_agent);
    let loud = report.heard.chunks(PACKET).filter(|packet| rms(packet) > 300.0);
    let heard_ms = loud.count() * PACKET_MS;
    assert!(heard_ms >= GOODBYE_MS as usize, "{heard_ms} ms");
    let url = format!("{}/sessions/{session_id}/transcript", stack.signaling[0].url());
    let kept = data(&url).await.unwrap().unwrap();
    let last = kept["turns"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["role"], &last["text"]), (&"assistant".into(), &GOODBYE.into()));
}

/// What operators do to have a node leave, without a signal.
async fn ask_to_drain(node: &Service) {
    let drain = load::client().post(format!("{}/drain", node.operators_url()));
    let answer = drain.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["data"]["status"], "draining");
}

/// It says so to balancers and to placement.
async fn drains(stack: &Stack, node: &Service) {
    let told = eventually("the node says that it drains", LIMIT, || async {
        let body: Value = gauges::get(&format!("{}/nodes", stack.signaling[0].url())).await?;
        let listed = body["data"]["nodes"].as_array().into_iter().flatten();
        let is_out = listed
            .into_iter()
            .any(|listed| listed["node"] == node.name() && listed["draining"] == true);
        Ok((is_out && gauges::ready(node).await?.0 == 503).then_some(()))
    });
    told.await.unwrap();
}

async fn gone(node: &Service) {
    let status = tokio::time::timeout(LIMIT, node.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{}: {status}", node.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_outlasts_the_drain_ends_with_a_sentence_and_a_second_signal_brings_that_forward() {
    let agent = load::agent().await;
    agent.otherwise_by(Endpoint::Speech, |request| {
        // Spoken in pieces, each of them this long.
        let milliseconds = if request.json["input"] == load::GREETING {
            GREETING_MS
        } else {
            GOODBYE_MS
        };
        Answer::speech(&tone(440.0, milliseconds))
    });
    let builder = load::builder(&agent)
        .media(2)
        .operators()
        .env_for(Role::Media, "VOXRAY_MEDIA_DRAIN_TIMEOUT_SECS", DRAIN_SECS.to_string())
        .env_for(Role::Media, "VOXRAY_MEDIA_DRAIN_MESSAGE", GOODBYE);
    let stack = load::start(builder).await;
    let (patient_call, patient_id, patient_node) = caller(&stack).await;
    let (hurried_call, hurried_id, hurried_node) = caller(&stack).await;
    assert_ne!(patient_node, hurried_node, "the emptier node takes the second call");
    let node = |name: &str| stack.media.iter().find(|node| node.name() == name).unwrap();
    let (patient, hurried) = (node(&patient_node), node(&hurried_node));

    // Asking is enough, and asking twice changes nothing.
    ask_to_drain(patient).await;
    ask_to_drain(patient).await;
    drains(&stack, patient).await;
    // The signal that follows is the first one; the second hurries.
    ask_to_drain(hurried).await;
    hurried.terminate().unwrap();
    drains(&stack, hurried).await;
    let start = load::client().post(format!("{}/start", stack.signaling[0].url()));
    let turned_away = start.json(&json!({"transport": "websocket"})).send().await.unwrap();
    assert_eq!(turned_away.status(), 503, "neither node is in placement");
    hurried.terminate().unwrap();

    gone(hurried).await;
    assert_polite(&stack, &hurried_call.await.unwrap(), &hurried_id).await;
    assert!(!patient_call.is_finished(), "the other node waits for its call");
    gone(patient).await;
    assert_polite(&stack, &patient_call.await.unwrap(), &patient_id).await;
}
