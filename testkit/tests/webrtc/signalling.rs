//! Offers, answers and candidates through the control plane.

use reqwest::Method;
use serde_json::{Value, json};
use session_store::{Claim, conformance};
use voxray_testkit::scripted::Script;
use voxray_testkit::webrtc_client::{Client, Kind, PLAIN};

use crate::plane::{LIMIT, Plane, SHORT};

/// An offer, and its candidates apart.
pub fn without_candidates(sdp: &str) -> (String, Vec<String>) {
    let (candidates, rest): (Vec<&str>, Vec<&str>) = sdp.lines().partition(|line| line.starts_with("a=candidate:"));
    let rest = rest.into_iter().filter(|line| *line != "a=end-of-candidates");
    let candidates = candidates.into_iter().map(|line| line[2..].to_owned());
    (rest.map(|line| format!("{line}\r\n")).collect(), candidates.collect())
}

fn trickle(pc_id: &str, candidates: &[String]) -> Value {
    let candidates = candidates
        .iter()
        .map(|candidate| json!({ "candidate": candidate, "sdp_mid": "0", "sdp_mline_index": 0 }));
    json!({ "pc_id": pc_id, "candidates": candidates.collect::<Vec<_>>() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_through_one_service_and_candidates_through_another_make_a_connection() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let session_id = plane.begin(Value::Null).await;
    let mut client = Client::new(&session_id, PLAIN).await.unwrap();
    let (sdp, mut candidates) = without_candidates(&client.local_offer(false).await.unwrap());
    assert!(!candidates.is_empty());
    // The end of the list.
    candidates.push(String::new());

    let answer = client.offer_this(&plane.a, sdp, &json!({})).await.unwrap();
    let [unversioned, v1] = [
        format!("{}/sessions/{session_id}/api/offer", plane.b),
        format!("{}/api/v1/sessions/{session_id}/offer", plane.b),
    ];
    let body = trickle(&client.pc_id, &candidates);
    let (status, told) = plane.ask(Method::PATCH, &unversioned, &body).await;

    assert_eq!((status, told), (200, json!({ "status": "success" })));
    assert_eq!(plane.ask(Method::PATCH, &v1, &body).await.0, 204);
    assert_eq!(answer["type"], "answer");
    assert_eq!(answer["answer"], answer["sdp"]);
    assert!(answer["sdp"].as_str().unwrap().contains(" 127.0.0.1 "), "{answer}");
    client.is_connected().await.unwrap();
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sections_of_pipecats_client_are_answered_with_audio_first_and_video_inactive() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let session_id = plane.begin(Value::Null).await;
    let mut client = Client::new(&session_id, Kind { video: true, ..PLAIN }).await.unwrap();

    let answer = client.offer(&plane.a, &json!({ "restart_pc": false })).await.unwrap();
    client.is_connected().await.unwrap();

    let sdp = answer["sdp"].as_str().unwrap();
    let sections: Vec<&str> = sdp.split("m=").skip(1).collect();
    let kinds: Vec<&str> = sections
        .iter()
        .map(|section| section.split(' ').next().unwrap())
        .collect();
    assert_eq!(kinds, ["audio", "video", "video", "application"], "{sdp}");
    assert!(
        sections[0].contains("a=sendrecv") && sections[0].contains("a=mid:0"),
        "{sdp}"
    );
    assert!(
        sections[1].contains("a=inactive") && sections[2].contains("a=inactive"),
        "{sdp}"
    );
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_offer_on_a_live_connection_is_answered_by_the_same_one() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let mut client = plane.connected(PLAIN).await;
    let pc_id = client.pc_id.clone();

    client
        .offer(&plane.a, &json!({ "pc_id": pc_id, "restart_pc": false }))
        .await
        .unwrap();

    assert_eq!(client.pc_id, pc_id);
    assert_eq!(plane.media.sessions(), 1);
    client
        .say(r#"{"label":"rtvi-ai","type":"client-message","id":"9","data":{"t":"ping","d":1}}"#)
        .await
        .unwrap();
    client.message(|message| message["id"] == "9").await.unwrap();
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

/// It was ended while the offer was on its way to the node.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_ended_does_not_begin() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let session_id = plane.begin(Value::Null).await;
    let mut client = Client::new(&session_id, PLAIN).await.unwrap();
    plane.store.void_session(&session_id, LIMIT).await.unwrap();
    let placed = "placements_total{outcome=\"placed\"}";
    let before = plane.metric(placed).await;

    let refused = client.offer(&plane.a, &json!({})).await.unwrap_err();

    assert!(refused.to_string().contains("404"), "{refused}");
    assert_eq!(plane.metric(placed).await, before);
    assert_eq!(plane.session(&session_id).await, Value::Null);
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_node_has_died_goes_on_here_and_one_whose_node_lives_does_not() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let session_id = plane.begin(Value::Null).await;
    let hour = std::time::Duration::from_secs(3_600);
    plane.store.claim_session(&session_id, "another", hour).await.unwrap();
    let mut client = Client::new(&session_id, PLAIN).await.unwrap();
    let url = format!("{}/sessions/{session_id}/api/offer", plane.a);
    let sdp = client.local_offer(false).await.unwrap();

    // Its node is alive: nobody else may have it. The refusal keeps no slot.
    plane.store.heartbeat(&conformance::node("another")).await.unwrap();
    assert_eq!(plane.ask(Method::POST, &url, &json!({ "sdp": sdp })).await.0, 503);
    assert_eq!(plane.media.sessions(), 0);

    plane.store.remove_node("another").await.unwrap();
    client.offer_this(&plane.a, sdp, &json!({})).await.unwrap();
    client.is_connected().await.unwrap();

    let node = plane.session(&session_id).await["node"].as_str().unwrap().to_owned();
    let claim = plane.store.claim_session(&session_id, "third", hour).await.unwrap();
    assert_eq!(claim, Claim::OwnedBy(node));
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_for_somebody_elses_connection_are_not_found() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let (ours, theirs) = (plane.connected(PLAIN).await, plane.connected(PLAIN).await);
    let url = format!("{}/sessions/{}/api/offer", plane.b, ours.session_id);

    for pc_id in [theirs.pc_id.as_str(), "nobody's"] {
        let (status, error) = plane.ask(Method::PATCH, &url, &trickle(pc_id, &[])).await;
        assert_eq!((status, &error["error"]["code"]), (404, &json!("NOT_FOUND")), "{error}");
    }

    ours.close().await.unwrap();
    theirs.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_one_request_is_answered_like_any_other() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let client = Client::new("", PLAIN).await.unwrap();
    let sdp = client.local_offer(false).await.unwrap();

    let url = format!("{}/webrtc/offer", plane.a);
    let (status, answer) = plane.ask(Method::POST, &url, &json!({ "offer": sdp })).await;

    assert_eq!(status, 200, "{answer}");
    let sdp = answer["data"]["answer"].as_str().unwrap().to_owned();
    client.accept(sdp).await.unwrap();
    client.is_connected().await.unwrap();
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}
