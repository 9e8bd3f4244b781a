//! `GET /ready` and `media_nodes`, in virtual time.

use std::time::Duration;

use session_store::switch::RIGHT_AGAIN_WITHIN;
use session_store::{NODE_TTL, Store, conformance};

use tokio::time::Instant;

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

/// However the store was away, and whatever was asked of it at the moment of its return. The other half of the time is the
/// media nodes', for coming back.
#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_makes_it_ready_in_half_of_the_promised_time() {
    let mut longest = Duration::ZERO;
    for hangs in [false, true] {
        let store = Switch::new();
        let plane = Plane::start(&store, &[]).await;
        for phase in 0..30 {
            store.hang(hangs);
            store.switch(false);
            tokio::time::sleep(NODE_TTL + Duration::from_millis(100) * phase).await;
            store.switch(true);
            store.heartbeat(&conformance::node("n1")).await.unwrap();

            let back = Instant::now();
            while plane.get("/ready").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            longest = longest.max(back.elapsed());
        }
    }
    assert!(longest <= RIGHT_AGAIN_WITHIN / 2, "{longest:?}");
}
