//! `GET /ready` and `media_nodes`, in virtual time.

use std::time::Duration;

use session_store::{NODE_TTL, Store, conformance};

use crate::support::{Plane, Switch};

/// One look at the store later.
async fn soon() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

async fn reason(plane: &Plane) -> String {
    plane.get("/ready").await.error(503, "SERVICE_UNAVAILABLE")
}

#[tokio::test(start_paused = true)]
async fn ready_follows_the_media_nodes() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    assert!(reason(&plane).await.contains("no media node has registered"));

    store.heartbeat(&conformance::node("n1")).await.unwrap();
    soon().await;
    assert_eq!(plane.get("/ready").await.status, 200);

    let mut full = conformance::node("n1");
    full.sessions = full.capacity;
    store.heartbeat(&full).await.unwrap();
    soon().await;
    assert!(reason(&plane).await.contains("full or draining"));

    tokio::time::sleep(NODE_TTL).await;
    assert!(reason(&plane).await.contains("no media node has registered"));
    assert_eq!(plane.get("/health").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn ready_follows_the_session_store() {
    let store = Switch::new();
    store.heartbeat(&conformance::node("n1")).await.unwrap();
    store.switch(false);
    let plane = Plane::start(&store, &[]).await;
    assert!(reason(&plane).await.contains("session store unavailable"));
    assert_eq!(plane.get("/health").await.status, 200);

    store.switch(true);
    soon().await;
    assert_eq!(plane.get("/ready").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_draining_instance_is_not_ready_and_still_answers() {
    let store = Switch::new();
    store.heartbeat(&conformance::node("n1")).await.unwrap();
    let plane = Plane::start(&store, &[]).await;
    assert_eq!(plane.get("/ready").await.status, 200);

    plane.shutdown.request();
    soon().await;

    assert!(reason(&plane).await.contains("draining"));
    assert_eq!(plane.post("/start", serde_json::json!({})).await.status, 201);
}
