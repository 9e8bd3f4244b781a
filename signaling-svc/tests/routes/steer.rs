//! `POST /sessions/{id}/transfer`, `POST /sessions/{id}/dtmf`.

use serde_json::json;
use tonic::Status;

use crate::support::{Node, Plane, Switch, form};

const UNKNOWN: &str = "7f0e9c1e-8d1c-4d53-9f0e-2f8f6f1f0a11";

/// A phone call placed through `plane`; answers its session id.
async fn call(store: &Switch, plane: &Plane) -> String {
    use session_store::Store;
    let answer = plane.send(form("/telephony/twilio", &[("CallSid", "CA1")])).await;
    assert_eq!(answer.status, 200);
    store.sessions().await.unwrap().last().unwrap().session_id.clone()
}

#[tokio::test]
async fn any_instance_transfers_a_call_on_the_node_that_has_it() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &a).await;

    let path = format!("/sessions/{id}/transfer");
    let answer = b.post(&path, json!({"to": "+14155550100"})).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["data"], json!({"sessionId": id, "transferred": true}));
    let asked = node.transfers();
    assert_eq!(
        (asked[0].session_id.as_str(), asked[0].to.as_str()),
        (id.as_str(), "+14155550100")
    );
}

#[tokio::test]
async fn digits_reach_the_node_that_has_the_call() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &plane).await;

    let path = format!("/api/v1/sessions/{id}/dtmf");
    let answer = plane.post(&path, json!({"digits": "12*#"})).await;

    assert_eq!(answer.json()["data"], json!({"sessionId": id, "sent": true}));
    assert_eq!(node.digits()[0].digits, "12*#");
}

#[tokio::test]
async fn what_is_no_number_and_no_key_is_refused_before_anybody_is_asked() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &plane).await;
    for (what, body) in [
        ("transfer", json!({"to": "call me"})),
        ("transfer", json!({"to": ""})),
        ("transfer", json!({"number": "+14155550100"})),
        ("dtmf", json!({"digits": "1w2"})),
        ("dtmf", json!({"digits": ""})),
        ("dtmf", json!({})),
    ] {
        let answer = plane.post(&format!("/sessions/{id}/{what}"), body).await;
        answer.error(422, "VALIDATION_ERROR");
    }
    assert!(node.transfers().is_empty() && node.digits().is_empty());
    let unknown = plane
        .post(&format!("/sessions/{UNKNOWN}/transfer"), json!({"to": "+14155550100"}))
        .await;
    unknown.error(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_refusal_of_the_node_or_the_provider_says_which_it_is() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    let id = call(&store, &plane).await;
    for (status, expected, code) in [
        (Status::not_found("over"), 404, "NOT_FOUND"),
        (Status::unimplemented("exotel cannot transfer"), 409, "CONFLICT"),
        (Status::failed_precondition("set api_keys.twilio"), 409, "CONFLICT"),
        (Status::invalid_argument("no"), 422, "VALIDATION_ERROR"),
        (Status::resource_exhausted("busy"), 429, "RATE_LIMIT_EXCEEDED"),
        (Status::unavailable("no answer"), 503, "SERVICE_UNAVAILABLE"),
    ] {
        node.refuse(status);
        let path = format!("/sessions/{id}/transfer");
        let answer = plane.post(&path, json!({"to": "+14155550100"})).await;
        answer.error(expected, code);
    }
}
