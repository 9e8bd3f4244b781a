//! `POST /start`.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::Request;
use futures_util::future::join_all;
use serde_json::{Value, json};
use service_kit::config::Secret;
use service_kit::token::TokenSigner;
use session_store::{SessionState, Store};
use tonic::Status;
use voxray_proto::control::Transport;

use crate::support::{Node, Plane, SERVICE_TOKEN, Switch};

fn with_key(key: &str, body: Value) -> Request<Body> {
    Request::post("/start")
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn both_audiences_read_the_same_answer() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[("webrtc_ice_servers", "stun:stun.example.com:3478")]).await;

    let answer = plane.post("/start", json!({"body": {"name": "Ann"}})).await;

    assert_eq!(answer.status, 201);
    let json = answer.json();
    let fields = json!({
        "sessionId": json["sessionId"],
        "iceConfig": {"iceServers": [{"urls": ["stun:stun.example.com:3478"]}]},
    });
    assert_eq!(json["data"], fields);
    assert_eq!(json["iceConfig"], fields["iceConfig"]);
    assert!(json["meta"]["requestId"].is_string());
    let record = store
        .session(json["sessionId"].as_str().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.transport, "webrtc");
    assert_eq!(record.state, SessionState::Created);
    assert_eq!(record.node_id, None);
    assert_eq!(record.body_json, r#"{"name":"Ann"}"#);
}

#[tokio::test]
async fn clients_get_the_credentials_of_a_turn_server() {
    let servers = r#"[{"urls": "turn:turn.example.com:3478", "username": "ann", "credential": "s3cret"}]"#;
    let plane = Plane::start(&Switch::new(), &[("webrtc_ice_servers", servers)]).await;

    let answer = plane.post("/start", json!({"enableDefaultIceServers": true})).await;

    let turn = json!({"urls": ["turn:turn.example.com:3478"], "username": "ann", "credential": "s3cret"});
    assert_eq!(answer.json()["iceConfig"], json!({ "iceServers": [turn] }));
    assert_eq!(answer.json()["data"]["iceConfig"], answer.json()["iceConfig"]);
}

#[tokio::test]
async fn every_client_gets_turn_credentials_of_its_own_where_there_is_a_secret() {
    let servers = r#"[{"urls": "turn:turn.example.com:3478", "secret": "north"}]"#;
    let plane = Plane::start(&Switch::new(), &[("webrtc_ice_servers", servers)]).await;

    let answers = [
        plane.post("/start", json!({})).await.json(),
        plane.post("/start", json!({})).await.json(),
    ];

    let [one, other] = answers.map(|answer| {
        assert!(!answer.to_string().contains("north"), "{answer}");
        let server = answer["iceConfig"]["iceServers"][0].clone();
        let user = server["username"].as_str().unwrap();
        assert!(user.ends_with(answer["sessionId"].as_str().unwrap()), "{user}");
        server["credential"].as_str().unwrap().to_owned()
    });
    assert_ne!(one, other);
}

#[tokio::test]
async fn version_one_answers_the_plain_envelope() {
    let plane = Plane::start(&Switch::new(), &[]).await;

    let answer = plane.post("/api/v1/start", json!({})).await;

    assert_eq!(answer.status, 201);
    let json = answer.json();
    assert!(json["data"]["sessionId"].is_string());
    assert_eq!(json.as_object().unwrap().len(), 2, "{json}");
}

#[tokio::test]
async fn what_pipecat_clients_send_is_accepted() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    let request = json!({
        "createDailyRoom": false, "enableDefaultIceServers": true, "transport": "webrtc", "body": null, "another": 1,
    });
    assert_eq!(plane.post("/start", request).await.status, 201);

    let empty = Request::post("/start").body(Body::empty()).unwrap();
    assert_eq!(plane.send(empty).await.status, 201);
}

#[tokio::test]
async fn bad_requests_are_told_apart() {
    let plane = Plane::start(&Switch::new(), &[]).await;

    let broken = Request::post("/start").body(Body::from("{")).unwrap();
    plane.send(broken).await.error(400, "BAD_REQUEST");

    let answer = plane.post("/start", json!({"transport": "pigeon"})).await;
    let message = answer.error(422, "VALIDATION_ERROR");
    assert_eq!(answer.json()["error"]["details"][0]["field"], "transport");
    assert_eq!(answer.json()["detail"], message);

    let key = "k".repeat(256);
    plane
        .send(with_key(&key, json!({})))
        .await
        .error(422, "VALIDATION_ERROR");
    plane.get("/start").await.error(405, "BAD_REQUEST");
}

#[tokio::test]
async fn without_its_store_it_says_when_to_come_back() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    store.switch(false);

    let answer = plane.post("/start", json!({})).await;

    answer.error(503, "SERVICE_UNAVAILABLE");
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn the_same_key_answers_the_same_session_on_any_instance() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);

    let first = a.send(with_key("k1", json!({"body": {"n": 1}}))).await;
    let again = b.send(with_key("k1", json!({"body": {"n": 1}}))).await;
    let other = b.send(with_key("k2", json!({}))).await;

    assert_eq!((first.status, again.status), (first.status, first.status));
    assert_eq!(first.status, 201);
    assert_eq!(first.json()["data"], again.json()["data"]);
    assert_ne!(first.json()["sessionId"], other.json()["sessionId"]);
    assert_eq!(store.sessions().await.unwrap().len(), 2);
}

#[tokio::test]
async fn requests_that_race_with_one_key_make_one_session() {
    let store = Switch::new();
    let (a, b) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let node = Node::start(&store, "n1").await;
    let websocket = || with_key("raced", json!({"transport": "websocket"}));

    let racing = (0..8).map(|n| {
        if n % 2 == 0 {
            a.send(websocket())
        } else {
            b.send(websocket())
        }
    });
    let answers = join_all(racing).await;

    for answer in &answers {
        assert_eq!(answer.status, 201);
        assert_eq!(answer.json(), answers[0].json());
    }
    assert_eq!(store.sessions().await.unwrap().len(), 1);
    assert_eq!(
        node.created().len(),
        node.ended().len() + 1,
        "slots that lost are given back"
    );
}

#[tokio::test]
async fn a_start_whose_key_cannot_be_kept_leaves_nothing_behind() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[("limits.sessions_per_key", "1")]).await;
    let node = Node::start(&store, "n1").await;
    let websocket = || plane.send(with_key("k1", json!({"transport": "websocket"})));
    store.refuse_key(":k1");

    websocket().await.error(503, "SERVICE_UNAVAILABLE");

    assert_eq!(node.created().len(), node.ended().len(), "its slot is given back");
    assert!(store.sessions().await.unwrap().is_empty());
    store.refuse_key("");
    assert_eq!(websocket().await.status, 201, "and it counts for nobody");
}

#[tokio::test]
async fn a_websocket_client_gets_a_url_and_a_token_and_nothing_else() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;

    let answer = plane
        .post("/start", json!({"transport": "websocket", "body": {"name": "Ann"}}))
        .await;

    assert_eq!(answer.status, 201);
    let json = answer.json();
    let keys: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["token", "wsUrl"]);
    assert_eq!(json["wsUrl"], "ws://n1.internal:8080/ws?format=protobuf");

    let now = SystemTime::now();
    let signer = TokenSigner::new(Secret::new(SERVICE_TOKEN));
    let claims = signer.verify(json["token"].as_str().unwrap(), now).unwrap();
    assert_eq!(claims.transport, "websocket");
    assert_eq!(claims.body_json, r#"{"name":"Ann"}"#);
    let unix = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(claims.expires_at <= unix + 300 && claims.expires_at > unix + 200);

    let created = node.created();
    assert_eq!(created.len(), 1);
    assert_eq!(created[0].session_id, claims.session_id);
    assert_eq!(created[0].transport(), Transport::Websocket);
    assert_eq!(created[0].reservation_ttl_secs, 300);
    let record = store.session(&claims.session_id).await.unwrap().unwrap();
    assert_eq!(record.node_id.as_deref(), Some("n1"));
    assert_eq!(record.state, SessionState::Reserved);
}

#[tokio::test]
async fn a_body_too_large_for_a_url_stays_out_of_the_token_and_in_the_session() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;

    let body = json!({"notes": "x".repeat(2000)});
    let answer = plane
        .post("/start", json!({"transport": "websocket", "body": body}))
        .await;

    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert!(token.len() < 500, "{}", token.len());
    assert_eq!(node.created()[0].body_json, body.to_string());
}

#[tokio::test]
async fn without_a_node_a_websocket_client_is_told_so() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;

    let answer = plane.post("/start", json!({"transport": "websocket"})).await;
    let message = answer.error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(message, "no media node accepts websocket sessions");
    assert!(answer.headers.contains_key("retry-after"));

    let node = Node::start(&store, "n1").await;
    node.refuse(Status::resource_exhausted("full"));
    let answer = plane.post("/start", json!({"transport": "websocket"})).await;
    answer.error(503, "SERVICE_UNAVAILABLE");
    assert!(store.sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_call_that_cannot_be_recorded_is_refused_in_the_words_of_the_node() {
    let why = "this call could not be recorded: the disk of the outbox takes nothing more";
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;
    node.refuse(Status::aborted(why));

    let answer = plane.post("/start", json!({"transport": "websocket"})).await;
    assert_eq!(answer.error(503, "SERVICE_UNAVAILABLE"), why);
}
