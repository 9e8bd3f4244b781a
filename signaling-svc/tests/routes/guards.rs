//! Which routes need an API key.

use axum::body::Body;
use axum::http::Request;

use crate::support::{Node, Plane, Switch, form};

const KEYED: &[(&str, &str)] = &[("server_api_key", "an-api-key-of-decent-length")];

#[tokio::test]
async fn sessions_need_the_api_key() {
    let plane = Plane::start(&Switch::new(), KEYED).await;
    for (method, path) in [
        ("POST", "/start"),
        ("POST", "/api/v1/start"),
        ("GET", "/sessions"),
        ("GET", "/nodes"),
        ("GET", "/api/v1/nodes"),
        ("DELETE", "/sessions/x"),
        ("POST", "/sessions/x/transfer"),
        ("POST", "/sessions/x/dtmf"),
        ("POST", "/webrtc/offer"),
        ("PATCH", "/sessions/x/api/offer"),
    ] {
        let bare = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        plane.send(bare).await.error(401, "UNAUTHORIZED");
        let keyed = Request::builder()
            .method(method)
            .uri(path)
            .header("x-api-key", "an-api-key-of-decent-length")
            .body(Body::empty())
            .unwrap();
        assert_ne!(plane.send(keyed).await.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn probes_documentation_the_console_page_and_phone_webhooks_need_none() {
    let store = Switch::new();
    let plane = Plane::start(&store, KEYED).await;
    let _node = Node::start(&store, "n1").await;
    for path in [
        "/health",
        "/metrics",
        "/openapi.json",
        "/swagger/",
        "/swagger/swagger-ui.css",
        "/",
        "/console/",
        "/console/main.js",
    ] {
        assert_eq!(plane.get(path).await.status, 200, "{path}");
    }
    assert_ne!(plane.get("/ready").await.status, 401);
    for path in ["/telephony/twilio", "/api/v1/telephony/twilio"] {
        assert_eq!(
            plane.send(form(path, &[("CallSid", "CA1")])).await.status,
            200,
            "{path}"
        );
    }
}
