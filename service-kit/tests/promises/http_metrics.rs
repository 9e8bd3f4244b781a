//! Requests, sockets and readiness as the outside sees them.

use crate::common::{Server, answer, config};
use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::WebSocket;
use axum::routing::get;
use futures_util::StreamExt;
use service_kit::health::Readiness;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute, operational_routes};
use service_kit::metrics::render;

/// The value of the sample whose name and labels are written exactly so.
fn sample(series: &str) -> Option<f64> {
    let text = render();
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn requests_are_counted_by_template_and_unknown_ones_together() {
    let router = Router::new().route(
        "/counted/{id}",
        get(|| async { "ok" }).post(|| async { ApiError::internal("bug") }),
    );
    let server = Server::start(router, &config(&[]), &[]);

    for id in 0..3 {
        server.get(&format!("/counted/{id}")).send().await.unwrap();
        server.get(&format!("/scanner/{id}.php")).send().await.unwrap();
    }
    server.post("/counted/1").send().await.unwrap();
    server
        .client
        .request("BREW".parse().unwrap(), server.url("/scanner"))
        .send()
        .await
        .unwrap();

    let counted = "{method=\"GET\",route=\"/counted/{id}\",status_code=\"200\"}";
    assert_eq!(sample(&format!("http_requests_total{counted}")), Some(3.0));
    assert_eq!(
        sample(&format!("http_request_duration_seconds_count{counted}")),
        Some(3.0)
    );
    // Other tests of this program ask for unknown paths as well.
    let unmatched = [
        "http_requests_total{method=\"GET\",route=\"unmatched\",status_code=\"404\"}",
        "http_errors_total{error_type=\"4xx\",method=\"GET\",route=\"unmatched\"}",
    ];
    for series in unmatched {
        assert!(sample(series) >= Some(3.0), "{series}");
    }
    assert!(!render().contains("scanner"));
    assert_eq!(
        sample("http_errors_total{error_type=\"5xx\",method=\"POST\",route=\"/counted/{id}\"}"),
        Some(1.0)
    );
    assert_eq!(
        sample("http_errors_total{error_type=\"4xx\",method=\"OTHER\",route=\"unmatched\"}"),
        Some(1.0)
    );
}

#[tokio::test]
async fn an_open_socket_is_counted_until_it_closes() {
    async fn hold(mut socket: WebSocket) {
        let active = ActiveConnection::open(LiveRoute::TelephonyWs);
        let _ = socket.send("counted".into()).await;
        while let Some(Ok(_)) = socket.recv().await {}
        drop(active);
    }
    let router = Router::new().route(
        "/telephony/ws",
        get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(hold) }),
    );
    let server = Server::start(
        router.merge(operational_routes(Readiness::new(), true)),
        &config(&[]),
        &[],
    );
    let series = "http_active_connections{route=\"/telephony/ws\"}";
    assert_eq!(sample(series), Some(0.0));

    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/telephony/ws", server.address))
        .await
        .unwrap();
    socket.next().await.unwrap().unwrap();
    assert_eq!(sample(series), Some(1.0));

    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    while sample(series) != Some(0.0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn ready_names_every_reason_and_health_does_not_care() {
    let readiness = Readiness::new();
    let server = Server::start(operational_routes(readiness.clone(), true), &config(&[]), &[]);
    assert_eq!(answer(server.get("/ready")).await.0, 200);

    readiness.not_ok("redis", "connection refused");
    readiness.not_ok("drain", "draining");
    for path in ["/ready", "/api/v1/ready"] {
        let response = server.get(path).send().await.unwrap();
        assert!(response.headers().contains_key("retry-after"));
        assert_eq!(response.status(), 503);
        let text = response.text().await.unwrap();
        assert!(
            text.contains("redis: connection refused") && text.contains("drain: draining"),
            "{text}"
        );
    }
    let (status, body) = answer(server.get("/health")).await;
    assert_eq!((status, body["data"]["status"].as_str()), (200, Some("ok")));

    readiness.ok("redis");
    readiness.ok("drain");
    assert_eq!(answer(server.get("/ready")).await.0, 200);
}

#[tokio::test]
async fn metrics_are_prometheus_text_or_204() {
    let server = Server::start(operational_routes(Readiness::new(), true), &config(&[]), &[]);
    let response = server.get("/metrics").send().await.unwrap();
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(
        response
            .text()
            .await
            .unwrap()
            .contains("http_active_connections{route=\"/ws\"} 0")
    );

    let server = Server::start(operational_routes(Readiness::new(), false), &config(&[]), &[]);
    assert_eq!(server.get("/metrics").send().await.unwrap().status(), 204);
}
