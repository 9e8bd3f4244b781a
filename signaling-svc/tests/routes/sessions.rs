//! `GET /sessions`, `GET /sessions/{id}`, `DELETE /sessions/{id}`.

use std::time::Duration;

use serde_json::json;
use session_store::{SessionState, Store};
use tonic::Status;

use crate::support::{Node, Plane, Switch, form};

const UNKNOWN: &str = "7f0e9c1e-8d1c-4d53-9f0e-2f8f6f1f0a11";

/// A phone call placed through `plane`; answers its session id.
async fn call(store: &Switch, plane: &Plane) -> String {
    let answer = plane
        .send(form(
            "/telephony/twilio",
            &[("CallSid", "CA1"), ("From", "+15550001111")],
        ))
        .await;
    assert_eq!(answer.status, 200);
    store.sessions().await.unwrap().last().unwrap().session_id.clone()
}

#[tokio::test]
async fn a_call_placed_by_one_instance_is_seen_by_another() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let _node = Node::start(&store, "n1").await;
    let id = call(&store, &a).await;

    let list = b.get("/sessions").await;

    assert_eq!(list.status, 200);
    let session = &list.json()["data"]["sessions"][0];
    assert_eq!(session["sessionId"], id.as_str());
    assert_eq!(session["node"], "n1");
    assert_eq!(session["transport"], "telephony");
    assert_eq!(session["provider"], "twilio");
    assert_eq!(session["callId"], "CA1");
    assert_eq!(session["state"], "reserved");
    assert!(session["createdAt"].as_str().unwrap().ends_with('Z'));
    assert!(session["ageSeconds"].as_f64().unwrap() >= 0.0);
    assert!(!list.text.contains("5550001111"), "numbers of callers are not listed");

    let one = b.get(&format!("/api/v1/sessions/{id}")).await;
    assert_eq!(one.json()["data"]["sessionId"], id.as_str());
}

#[tokio::test]
async fn an_unknown_session_is_not_found() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    for path in [format!("/sessions/{UNKNOWN}"), "/sessions/nonsense".to_owned()] {
        let answer = plane.get(&path).await;
        let message = answer.error(404, "NOT_FOUND");
        assert_eq!(answer.json()["detail"], message);
        plane.delete(&path).await.error(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn without_sessions_the_list_is_empty() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    assert_eq!(plane.get("/sessions").await.json()["data"], json!({"sessions": []}));
}

#[tokio::test]
async fn ending_a_session_reaches_the_node_that_owns_it() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &a).await;

    let answer = b.delete(&format!("/sessions/{id}")).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["data"], json!({"sessionId": id, "ended": true}));
    assert_eq!(node.ended(), [id]);
}

#[tokio::test]
async fn a_session_that_its_node_does_not_know_any_more_is_removed() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &plane).await;
    node.refuse(Status::not_found("gone"));

    assert_eq!(plane.delete(&format!("/sessions/{id}")).await.status, 200);
    plane.get(&format!("/sessions/{id}")).await.error(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_session_of_a_node_that_is_gone_is_removed() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    let id = call(&store, &plane).await;
    store.remove_node("n1").await.unwrap();

    assert_eq!(plane.delete(&format!("/sessions/{id}")).await.status, 200);
    assert!(store.sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_call_whose_node_is_gone_is_over_and_one_whose_node_reports_again_is_not() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let _other = Node::start(&store, "n2").await;
    node.refuse(Status::unavailable("full"));
    let waiting = call(&store, &plane).await;
    let mut connected = store.session(&waiting).await.unwrap().unwrap();
    connected.session_id = UNKNOWN.to_owned();
    connected.node_id = Some("n1".to_owned());
    connected.state = SessionState::Connected;
    store.put_session(&connected, Duration::from_secs(600)).await.unwrap();
    let listed = async || {
        plane.get("/sessions").await.json()["data"]["sessions"]
            .as_array()
            .unwrap()
            .len()
    };
    let shown = async || plane.get(&format!("/sessions/{UNKNOWN}")).await.status.as_u16();
    assert_eq!((listed().await, shown().await), (2, 200));

    store.remove_node("n1").await.unwrap();
    assert_eq!((listed().await, shown().await), (1, 404));

    node.report(&store, |_| {}).await;
    assert_eq!((listed().await, shown().await), (2, 200), "it was only late");

    // A store that has just come back knows no nodes yet.
    store.remove_node("n1").await.unwrap();
    store.remove_node("n2").await.unwrap();
    assert_eq!((listed().await, shown().await), (2, 200));
}

#[tokio::test]
async fn a_session_that_is_ended_while_a_node_is_found_for_it_does_not_begin() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = plane.post("/start", json!({})).await.json()["sessionId"].clone();
    let id = id.as_str().unwrap().to_owned();
    let (path, offer) = (format!("/sessions/{id}/api/offer"), json!({"sdp": "v=0"}));

    node.asked.paused.send_replace(true);
    let ending = async {
        while node.offers().is_empty() {
            tokio::task::yield_now().await;
        }
        let ended = plane.delete(&format!("/sessions/{id}")).await;
        node.asked.paused.send_replace(false);
        ended
    };
    let (answer, ended) = tokio::join!(plane.post(&path, offer.clone()), ending);

    assert_eq!(ended.status, 200);
    let message = answer.error(404, "NOT_FOUND");
    assert!(message.contains("ended"), "{message}");
    assert_eq!(node.ended(), [id]);
    assert!(store.sessions().await.unwrap().is_empty());
    plane.post(&path, offer).await.error(404, "NOT_FOUND");
}

/// Its end came before the node looked.
#[tokio::test]
async fn a_session_that_nobody_takes_because_it_was_ended_is_not_found() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = plane.post("/start", json!({})).await.json()["sessionId"].clone();
    let id = id.as_str().unwrap().to_owned();
    store
        .void_session(&id, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    node.refuse(Status::not_found("no such session"));

    let path = format!("/sessions/{id}/api/offer");
    let answer = plane.post(&path, json!({"sdp": "v=0"})).await;

    answer.error(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_node_that_fails_to_end_a_session_is_reported() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &plane).await;
    node.refuse(Status::unavailable("busy"));

    let answer = plane.delete(&format!("/sessions/{id}")).await;
    answer.error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(store.sessions().await.unwrap().len(), 1);
}
