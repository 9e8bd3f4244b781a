//! Who may call: API keys, and web origins.

use crate::common::{Server, answer, config};
use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::{get, post};
use service_kit::config::{Config, Secret};
use service_kit::health::Readiness;
use service_kit::http::operational_routes;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

fn server(config: &Config) -> Server {
    let routes = Router::new()
        .route("/start", post(|| async { "{}" }))
        .route(
            "/ws",
            get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) }),
        )
        .route("/docs/page", get(|| async { "docs" }))
        .route("/", get(|| async { "console" }).post(|| async { "webhook" }));
    let router = routes
        .clone()
        .nest("/api/v1", routes)
        .merge(operational_routes(Readiness::new(), true));
    Server::start(router, config, &["/ws", "/docs/*", "POST /"])
}

#[tokio::test]
async fn without_a_configured_key_everything_is_open() {
    let server = server(&config(&[]));
    assert_eq!(server.post("/start").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn either_header_and_any_listed_key_opens() {
    let server = server(&config(&[("server_api_key", "old-key,new-key")]));
    for key in ["old-key", "new-key"] {
        assert_eq!(
            server.post("/start").bearer_auth(key).send().await.unwrap().status(),
            200
        );
        assert_eq!(
            server
                .post("/start")
                .header("X-API-Key", key)
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
        let lower = server.post("/start").header("Authorization", format!("bearer {key}"));
        assert_eq!(lower.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_a_401_on_both_spellings_of_the_route() {
    let server = server(&config(&[("server_api_key", "right")]));
    for path in [
        "/start",
        "/api/v1/start",
        "/nowhere",
        "/docs",
        "/docsx",
        "//ws",
        "/ws/",
        "/api/v1",
    ] {
        for request in [
            server.post(path),
            server.post(path).bearer_auth("wrong"),
            server.post(path).bearer_auth("righ"),
            server.post(path).bearer_auth("right2"),
            server.post(path).bearer_auth(""),
            server.post(path).header("Authorization", "Basic right"),
            server.post(path).header("X-API-Key", ""),
        ] {
            if path == "/api/v1" {
                // The versioned twin of `POST /`, which the caller exempted.
                continue;
            }
            let (status, body) = answer(request).await;
            assert_eq!(status, 401, "{path}");
            assert_eq!(body["error"]["code"], "UNAUTHORIZED");
        }
    }
}

#[tokio::test]
async fn probes_scrapes_and_exempt_routes_need_no_key() {
    let server = server(&config(&[("server_api_key", "right")]));
    for path in ["/health", "/ready", "/metrics", "/docs/page"] {
        for path in [path.to_owned(), format!("/api/v1{path}")] {
            assert_eq!(server.get(&path).send().await.unwrap().status(), 200, "{path}");
        }
    }
    assert_eq!(server.post("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_exemption_with_a_method_is_for_that_method_only() {
    let server = server(&config(&[("server_api_key", "right")]));
    assert_eq!(server.get("/").send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_rotated_key_works_at_once() {
    let config = config(&[("server_api_key", "old")]);
    let server = server(&config);
    config.secrets.replace(Default::default(), vec![Secret::new("new")]);
    assert_eq!(
        server.post("/start").bearer_auth("old").send().await.unwrap().status(),
        401
    );
    assert_eq!(
        server.post("/start").bearer_auth("new").send().await.unwrap().status(),
        200
    );
}

const ORIGIN: &str = "https://app.example.com";

#[tokio::test]
async fn a_listed_origin_is_reflected_and_never_a_star() {
    let server = server(&config(&[(
        "cors_allowed_origins",
        "https://other.example, https://app.example.com/",
    )]));
    let response = server.post("/start").header("Origin", ORIGIN).send().await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
    assert!(
        response.headers()["vary"]
            .to_str()
            .unwrap()
            .to_lowercase()
            .contains("origin")
    );
}

#[tokio::test]
async fn another_origin_or_no_list_gets_no_cors_headers() {
    for origins in ["", "https://other.example"] {
        let server = server(&config(&[("cors_allowed_origins", origins)]));
        let response = server.post("/start").header("Origin", ORIGIN).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_preflight_needs_no_key_and_lists_methods_and_headers() {
    let server = server(&config(&[
        ("cors_allowed_origins", ORIGIN),
        ("server_api_key", "right"),
    ]));
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, server.url("/start"))
        .header("Origin", ORIGIN)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "x-api-key");
    let response = preflight.send().await.unwrap();
    assert!(response.status().is_success());
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
    assert_eq!(header("access-control-allow-origin"), ORIGIN);
    assert_eq!(header("access-control-allow-methods"), "get,post,patch,options");
    let headers = header("access-control-allow-headers");
    assert_eq!(
        headers,
        "content-type,authorization,x-api-key,idempotency-key,x-request-id"
    );
}

#[tokio::test]
async fn a_refusal_can_be_read_by_the_page_that_got_it() {
    let server = server(&config(&[
        ("cors_allowed_origins", ORIGIN),
        ("server_api_key", "right"),
    ]));
    let response = server.post("/start").header("Origin", ORIGIN).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
}

/// Status of a WebSocket handshake; 101 when it succeeded.
async fn handshake(server: &Server, origin: Option<&str>) -> u16 {
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_open_a_socket() {
    let server = server(&config(&[("cors_allowed_origins", ORIGIN)]));
    assert_eq!(handshake(&server, Some("https://evil.example")).await, 403);
    assert_eq!(
        handshake(&server, Some("https://app.example.com.evil.example")).await,
        403
    );
    assert_eq!(handshake(&server, Some("null")).await, 403);
}

#[tokio::test]
async fn listed_pages_and_programs_can_open_a_socket() {
    let server = server(&config(&[("cors_allowed_origins", ORIGIN)]));
    assert_eq!(handshake(&server, Some(ORIGIN)).await, 101);
    assert_eq!(handshake(&server, None).await, 101);
}

#[tokio::test]
async fn without_a_list_any_origin_can_open_a_socket() {
    let server = server(&config(&[]));
    assert_eq!(handshake(&server, Some("https://anyone.example")).await, 101);
}
