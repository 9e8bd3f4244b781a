//! The HTTP conventions on the merged router of one process.

use reqwest::Method;
use serde_json::Value;
use service_kit::config::{Config, Secret, Secrets};
use voxray_testkit::scripted::Script;

use crate::support::{Server, eventually};

fn guarded(config: &mut Config) {
    config.secrets = Secrets::new([].into(), vec![Secret::new("key")]).into();
    config.http.max_request_body_bytes = 1_000;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_both_planes_keeps_the_conventions_on_one_port() {
    let server = Server::start_with(Script::new(), Default::default(), guarded).await;
    let twins = |path: &str| [path.to_owned(), format!("/api/v1{path}")];

    for path in ["/health", "/ready", "/metrics", "/openapi.json"]
        .iter()
        .flat_map(|path| twins(path))
    {
        assert_eq!(server.get(&path).await.status(), 200, "{path}");
    }
    assert_eq!(server.get("/swagger/").await.status(), 200);
    for path in ["/sessions", "/sessions/some-id"].iter().flat_map(|path| twins(path)) {
        fails(&server, Method::GET, &path, 401, "UNAUTHORIZED").await;
    }
    for path in ["/start", "/webrtc/offer"].iter().flat_map(|path| twins(path)) {
        fails(&server, Method::POST, &path, 401, "UNAUTHORIZED").await;
    }
    for path in ["/health", "/telephony/ws", "/ws"].iter().flat_map(|path| twins(path)) {
        fails(&server, Method::DELETE, &path, 405, "BAD_REQUEST").await;
    }
    // Sockets check tokens themselves, after looking whether it is a socket at all.
    for path in ["/telephony/ws", "/telephony/ws/token"]
        .iter()
        .flat_map(|path| twins(path))
    {
        fails(&server, Method::GET, &path, 400, "BAD_REQUEST").await;
    }
    let large = server.http.post(format!("{}/start", server.base)).bearer_auth("key");
    let large = large.body(vec![b' '; 1_001]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    let body: Value = large.json().await.unwrap();
    assert_eq!(body["error"]["code"], "BAD_REQUEST");
    let unknown = server.http.get(format!("{}/nowhere", server.base)).bearer_auth("key");
    let unknown = unknown.header("x-request-id", "mine").send().await.unwrap();
    assert_eq!(
        (
            unknown.status().as_u16(),
            unknown.headers()["x-request-id"].to_str().unwrap()
        ),
        (404, "mine")
    );
    let body: Value = unknown.json().await.unwrap();
    assert_eq!(
        (&body["error"]["code"], &body["error"]["requestId"]),
        (&"NOT_FOUND".into(), &"mine".into())
    );
    let missing = server
        .http
        .get(format!("{}/sessions/{}", server.base, uuid::Uuid::nil()))
        .bearer_auth("key");
    assert_eq!(missing.send().await.unwrap().status(), 404);
    server.stop().await;
}

async fn fails(server: &Server, method: Method, path: &str, status: u16, code: &str) {
    let answer = server.request(method.clone(), path).await;
    assert_eq!(answer.status().as_u16(), status, "{method} {path}");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["error"]["code"], code, "{method} {path}");
    assert!(
        body["error"]["requestId"].is_string() && body["error"]["message"].is_string(),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_counted_under_their_route_and_tokens_are_no_labels() {
    let server = Server::start(Script::new()).await;
    let (mut socket, _) = server.begin_stream("CA1").await;

    // The far end may see the upgrade first.
    let gauge = "http_active_connections{route=\"/telephony/ws\"}";
    eventually(gauge, async || server.metric(gauge).await == 1.0).await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("route=\"/telephony/ws/{token}\""), "{metrics}");
    let label = |line: &str| line.contains("route=\"/telephony/ws/ey");
    assert!(!metrics.lines().any(label), "{metrics}");
    socket.close(None).await.unwrap();
    server.is_idle().await;
    server.stop().await;
}
