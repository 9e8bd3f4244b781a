//! `POST` and `PATCH /sessions/{id}/api/offer`.

use std::time::Duration;

use serde_json::json;
use session_store::{SessionState, Store};
use tonic::Status;

use crate::support::{Node, Plane, Switch};

const UNKNOWN: &str = "7f0e9c1e-8d1c-4d53-9f0e-2f8f6f1f0a11";

async fn started(plane: &Plane, body: serde_json::Value) -> String {
    let answer = plane.post("/start", json!({ "body": body })).await;
    answer.json()["sessionId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_offer_is_answered_by_a_media_node_for_both_audiences() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let node = Node::start(&store, "n1").await;
    let id = started(&a, json!({"name": "Ann", "plan": "basic"})).await;

    let offer = json!({"sdp": "v=0", "type": "offer", "requestData": {"plan": "gold"}});
    let answer = b.post(&format!("/sessions/{id}/api/offer"), offer).await;

    assert_eq!(answer.status, 200);
    let json = answer.json();
    let fields = json!({"answer": "answer of n1", "sdp": "answer of n1", "type": "answer", "pc_id": "pc-n1"});
    assert_eq!(json["data"], fields);
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(json[field], *value);
    }
    let asked = node.offers();
    assert_eq!(
        (asked[0].session_id.as_str(), asked[0].sdp.as_str()),
        (id.as_str(), "v=0")
    );
    assert_eq!(asked[0].body_json, r#"{"name":"Ann","plan":"gold"}"#);
    assert_eq!(
        store.session(&id).await.unwrap().unwrap().node_id.as_deref(),
        Some("n1")
    );
}

#[tokio::test]
async fn version_one_has_its_own_path_and_the_plain_envelope() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;

    let answer = plane
        .post(&format!("/api/v1/sessions/{id}/offer"), json!({"sdp": "v=0"}))
        .await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["data"]["pc_id"], "pc-n1");
    assert!(answer.json()["answer"].is_null());
    let old = format!("/api/v1/sessions/{id}/api/offer");
    plane.post(&old, json!({"sdp": "v=0"})).await.error(404, "NOT_FOUND");
}

#[tokio::test]
async fn offers_that_cannot_be_answered_say_why() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let id = started(&plane, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");

    let no_uuid = plane.post("/sessions/nonsense/api/offer", json!({"sdp": "v=0"})).await;
    no_uuid.error(400, "BAD_REQUEST");
    let unknown = plane
        .post(&format!("/sessions/{UNKNOWN}/api/offer"), json!({"sdp": "v=0"}))
        .await;
    let message = unknown.error(404, "NOT_FOUND");
    assert_eq!(unknown.json()["detail"], message);
    for body in [
        json!({}),
        json!({"sdp": ""}),
        json!({"sdp": "  "}),
        json!({"sdp": 7}),
        json!({"sdp": "v=0", "type": "answer"}),
    ] {
        plane.post(&path, body).await.error(422, "VALIDATION_ERROR");
    }
    let message = plane
        .post(&path, json!({"sdp": "v=0"}))
        .await
        .error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(message, "no media node accepts webrtc sessions");
    let unavailable = plane.post(&path, json!({"sdp": "v=0"})).await;
    assert!(unavailable.headers.contains_key("retry-after"));
    assert_eq!(unavailable.json()["detail"], message);
    let huge = plane.post(&path, json!({"sdp": "a".repeat(1_000_000)})).await;
    huge.error(413, "BAD_REQUEST");

    let node = Node::start(&store, "n1").await;
    node.refuse(Status::invalid_argument("no audio m-line"));
    let rejected = plane.post(&path, json!({"sdp": "v=0"})).await;
    assert!(rejected.error(422, "VALIDATION_ERROR").contains("no audio m-line"));
    assert_eq!(rejected.json()["error"]["details"][0]["field"], "sdp");
}

#[tokio::test]
async fn a_phone_call_is_no_webrtc_session() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    plane
        .send(crate::support::form("/telephony/twilio", &[("CallSid", "CA1")]))
        .await;
    let id = store.sessions().await.unwrap()[0].session_id.clone();

    let answer = plane
        .post(&format!("/sessions/{id}/api/offer"), json!({"sdp": "v=0"}))
        .await;
    answer.error(404, "NOT_FOUND");
}

#[tokio::test]
async fn later_offers_and_candidates_go_to_the_node_that_has_the_session() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let owner = Node::start(&store, "n1").await;
    let id = started(&a, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");
    a.post(&path, json!({"sdp": "v=0"})).await;
    // A fuller node that drains still serves what it has; an empty one appears.
    owner
        .report(&store, |record| (record.sessions, record.draining) = (9, true))
        .await;
    let other = Node::start(&store, "n2").await;

    let again = json!({"sdp": "v=1", "pc_id": "pc-n1", "restart_pc": true});
    assert_eq!(b.post(&path, again).await.json()["pc_id"], "pc-n1");
    let trickle = json!({"pc_id": "pc-n1", "candidates": [
        {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdp_mid": "0", "sdp_mline_index": 0},
        {"candidate": "", "sdp_mid": null, "sdp_mline_index": null},
    ]});
    let unversioned = b.patch(&path, trickle.clone()).await;
    let v1 = a.patch(&format!("/api/v1/sessions/{id}/offer"), trickle).await;

    assert_eq!(
        (unversioned.status.as_u16(), unversioned.json()),
        (200, json!({"status": "success"}))
    );
    assert_eq!((v1.status.as_u16(), v1.text.as_str()), (204, ""));
    let offers = owner.offers();
    assert_eq!((offers[1].pc_id.as_str(), offers[1].restart), ("pc-n1", true));
    let trickled = owner.candidates();
    assert_eq!(trickled.len(), 2);
    assert_eq!(
        (trickled[0].session_id.as_str(), trickled[0].pc_id.as_str()),
        (id.as_str(), "pc-n1")
    );
    assert_eq!(trickled[0].candidates[0].sdp_mid, "0");
    assert_eq!(trickled[0].candidates[1].candidate, "");
    assert!(other.offers().is_empty());
}

#[tokio::test]
async fn a_session_whose_node_is_gone_starts_again_on_another() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let gone = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");
    plane.post(&path, json!({"sdp": "v=0"})).await;
    drop(gone);
    store.remove_node("n1").await.unwrap();
    let next = Node::start(&store, "n2").await;

    let answer = plane
        .post(&path, json!({"sdp": "v=0", "pc_id": "pc-n1", "restart_pc": true}))
        .await;

    assert_eq!(answer.json()["pc_id"], "pc-n2");
    let asked = next.offers();
    assert_eq!((asked[0].pc_id.as_str(), asked[0].restart), ("", false));
}

/// Nobody else has what was said, and clients are not left asking for it.
#[tokio::test]
async fn a_call_ends_with_its_node_and_whoever_comes_back_to_it_is_told_to_start_another() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let gone = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");
    plane.post(&path, json!({"sdp": "v=0"})).await;
    let mut session = store.session(&id).await.unwrap().unwrap();
    session.state = SessionState::Connected;
    store.put_session(&session, Duration::from_secs(60)).await.unwrap();
    let next = Node::start(&store, "n2").await;
    let again = json!({"sdp": "v=0", "pc_id": "pc-n1"});

    // For all that is known it is there, and does not answer at the moment.
    gone.refuse(Status::unavailable("connection refused"));
    let away = plane.post(&path, again.clone()).await;
    away.error(503, "SERVICE_UNAVAILABLE");
    assert!(away.headers.contains_key("retry-after"));
    let listed = async || {
        plane.get("/sessions").await.json()["data"]["sessions"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(listed().await, 1);
    store.remove_node("n1").await.unwrap();
    let message = plane.post(&path, again).await.error(404, "NOT_FOUND");

    assert!(message.contains("call /start for another"), "{message}");
    assert!(next.offers().is_empty());
    assert_eq!(listed().await, 0, "nobody takes it for live");
}

#[tokio::test]
async fn candidates_for_nothing_are_not_found() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");
    let trickle = json!({"pc_id": "pc-x", "candidates": []});

    plane
        .patch("/sessions/nonsense/api/offer", trickle.clone())
        .await
        .error(400, "BAD_REQUEST");
    plane
        .patch(&format!("/sessions/{UNKNOWN}/api/offer"), trickle.clone())
        .await
        .error(404, "NOT_FOUND");
    plane
        .patch(&path, json!({"candidates": []}))
        .await
        .error(422, "VALIDATION_ERROR");
    plane.patch(&path, trickle.clone()).await.error(404, "NOT_FOUND");
    plane.post(&path, json!({"sdp": "v=0"})).await;
    node.refuse(Status::not_found("no such peer connection"));
    plane.patch(&path, trickle.clone()).await.error(404, "NOT_FOUND");
    node.refuse(Status::unavailable("restarting"));
    plane.patch(&path, trickle).await.error(503, "SERVICE_UNAVAILABLE");
}

/// As pipecat's client sends it: `null` where it has nothing to say yet.
#[tokio::test]
async fn the_first_offer_of_a_pipecat_client_is_taken() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = started(&plane, json!({"name": "Ann"})).await;
    let offer = json!({
        "sdp": "v=0", "type": "offer", "pc_id": null, "restart_pc": false, "requestData": {"name": "Bea"},
    });

    let answer = plane.post(&format!("/sessions/{id}/api/offer"), offer).await;

    assert_eq!(answer.status, 200);
    let asked = node.offers();
    assert_eq!((asked[0].pc_id.as_str(), asked[0].restart), ("", false));
    assert_eq!(asked[0].body_json, r#"{"name":"Bea"}"#);
}

#[tokio::test]
async fn a_session_stays_on_its_node_while_that_may_have_it() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let owner = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");
    plane.post(&path, json!({"sdp": "v=0"})).await;
    let other = Node::start(&store, "n2").await;

    owner.refuse(Status::already_exists("connected"));
    let taken = plane.post(&path, json!({"sdp": "v=1"})).await;
    let message = taken.error(409, "CONFLICT");
    assert_eq!(taken.json()["detail"], message);

    owner.refuse(Status::deadline_exceeded("busy"));
    let slow = plane.post(&path, json!({"sdp": "v=1", "pc_id": "pc-n1"})).await;
    slow.error(503, "SERVICE_UNAVAILABLE");
    assert!(slow.headers.contains_key("retry-after"));
    assert!(other.offers().is_empty());
}

#[tokio::test]
async fn the_end_of_the_candidates_may_be_null_and_too_many_are_refused() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;
    let path = format!("/sessions/{id}/api/offer");
    plane.post(&path, json!({"sdp": "v=0"})).await;

    let end = json!({"pc_id": "pc-n1", "candidates": [{"candidate": null, "sdpMid": "0", "sdpMLineIndex": 0}]});
    assert_eq!(plane.patch(&path, end).await.status, 200);
    let many = vec![json!({"candidate": "c"}); 10_000];
    let refused = plane.patch(&path, json!({"pc_id": "pc-n1", "candidates": many})).await;

    refused.error(422, "VALIDATION_ERROR");
    assert_eq!(refused.json()["error"]["details"][0]["field"], "candidates");
    let trickled = node.candidates();
    assert_eq!(trickled.len(), 1);
    assert_eq!(trickled[0].candidates[0].candidate, "");
    assert_eq!(trickled[0].candidates[0].sdp_mid, "0");
}

#[tokio::test]
async fn a_slot_is_given_back_when_its_session_cannot_be_written() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = started(&plane, json!(null)).await;
    store.refuse_writes(true);

    let answer = plane
        .post(&format!("/sessions/{id}/api/offer"), json!({"sdp": "v=0"}))
        .await;

    answer.error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(node.ended(), [id]);
}
