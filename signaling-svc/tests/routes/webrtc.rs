//! `POST /webrtc/offer`.

use serde_json::json;
use session_store::Store;
use tonic::Status;

use crate::support::{Node, Plane, Switch};

#[tokio::test]
async fn an_offer_is_sdp_or_json_in_a_string() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;

    let plain = plane.post("/webrtc/offer", json!({"offer": "v=0\r\n"})).await;
    let wrapped = json!({"type": "offer", "sdp": "v=0\r\n"}).to_string();
    let wrapped = plane.post("/api/v1/webrtc/offer", json!({ "offer": wrapped })).await;

    assert_eq!((plain.status.as_u16(), wrapped.status.as_u16()), (200, 200));
    assert_eq!(plain.json()["answer"], "answer of n1");
    assert_eq!(plain.json()["data"]["answer"], "answer of n1");
    assert_eq!(wrapped.json()["data"]["answer"], "answer of n1");
    let offers = node.offers();
    assert_eq!((offers[0].sdp.as_str(), offers[1].sdp.as_str()), ("v=0\r\n", "v=0\r\n"));
    let sessions = store.sessions().await.unwrap();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[0].node_id.as_deref(), Some("n1"));
}

#[tokio::test]
async fn an_empty_offer_is_invalid() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    for body in [
        json!({}),
        json!({"offer": ""}),
        json!({"offer": "{}"}),
        json!({"offer": "{oops"}),
        json!({"offer": 1}),
    ] {
        let answer = plane.post("/webrtc/offer", body).await;
        answer.error(422, "VALIDATION_ERROR");
        assert_eq!(answer.json()["error"]["details"][0]["field"], "offer");
    }
}

#[tokio::test]
async fn the_next_node_is_asked_when_one_serves_no_webrtc_after_all() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let (first, second) = (Node::start(&store, "n1").await, Node::start(&store, "n2").await);
    first.refuse(Status::failed_precondition("no webrtc"));
    second.report(&store, |record| record.sessions = 9).await;

    let answer = plane.post("/webrtc/offer", json!({"offer": "v=0"})).await;

    assert_eq!(answer.json()["answer"], "answer of n2");
}

#[tokio::test]
async fn without_a_node_for_webrtc_it_is_unavailable() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    node.report(&store, |record| record.transports = vec!["telephony".to_owned()])
        .await;

    let answer = plane.post("/webrtc/offer", json!({"offer": "v=0"})).await;

    assert_eq!(
        answer.error(503, "SERVICE_UNAVAILABLE"),
        "no media node accepts webrtc sessions"
    );
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_slot_is_given_back_when_its_session_cannot_be_written() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    store.refuse_writes(true);

    let answer = plane.post("/webrtc/offer", json!({"offer": "v=0"})).await;

    answer.error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(node.ended(), [node.offers()[0].session_id.clone()]);
}
