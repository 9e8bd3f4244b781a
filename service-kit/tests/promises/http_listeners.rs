//! Two listeners: what only operators may use is not where everybody is served.

use std::net::SocketAddr;

use crate::common::config;
use axum::Router;
use axum::routing::{get, post};
use service_kit::health::Readiness;
use service_kit::http::{Listeners, Routes};
use service_kit::tasks::TaskScope;
use tokio_util::sync::CancellationToken;

struct Process {
    public: SocketAddr,
    admin: Option<SocketAddr>,
    _scope: TaskScope,
    stop: CancellationToken,
}

impl Process {
    fn start(flags: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config(flags);
        let (scope, stop) = (TaskScope::root("test"), CancellationToken::new());
        let listeners = Listeners::bind(&config).unwrap();
        let admin = listeners.admin_address();
        let routes = Routes {
            public: Router::new().route("/hello", get(|| async { "hello" })),
            admin: Router::new().route("/drain", post(|| async { "draining" })),
            open: &[],
            readiness: Readiness::new(),
        };
        let public = listeners.serve(routes, &config, &scope, stop.clone()).unwrap();
        Self {
            public,
            admin,
            _scope: scope,
            stop,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn got(address: SocketAddr, path: &str) -> u16 {
    let url = format!("http://{address}{path}");
    reqwest::get(url).await.unwrap().status().as_u16()
}

async fn posted(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = reqwest::Client::new().post(format!("http://{address}{path}"));
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn with_a_port_for_operators_the_public_one_has_no_admin_routes_and_no_metrics() {
    let process = Process::start(&[("admin.port", "0"), ("server_api_key", "k")]);
    let admin = process.admin.unwrap();
    let key = [("x-api-key", "k")];

    for path in ["/drain", "/api/v1/drain"] {
        assert_eq!(posted(process.public, path, &key).await, 404, "{path}");
        assert_eq!(posted(admin, path, &[]).await, 200, "{path}");
    }
    for path in ["/metrics", "/api/v1/metrics"] {
        assert_eq!(got(process.public, path).await, 404, "{path}");
        assert_eq!(got(admin, path).await, 200, "{path}");
    }
}

#[tokio::test]
async fn probes_are_answered_on_both_ports_and_what_is_for_everybody_on_one() {
    let process = Process::start(&[("admin.port", "0")]);
    let admin = process.admin.unwrap();

    for path in ["/health", "/ready", "/api/v1/health"] {
        assert_eq!(got(process.public, path).await, 200, "{path}");
        assert_eq!(got(admin, path).await, 200, "{path}");
    }
    assert_eq!(got(process.public, "/hello").await, 200);
    assert_eq!(got(admin, "/hello").await, 404);
}

#[tokio::test]
async fn on_one_port_admin_routes_are_for_this_machine_and_not_for_whom_a_proxy_speaks() {
    let process = Process::start(&[]);
    assert_eq!(process.admin, None);

    assert_eq!(got(process.public, "/metrics").await, 200);
    assert_eq!(posted(process.public, "/drain", &[]).await, 200);
    for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        assert_eq!(
            posted(process.public, "/drain", &[(header, "127.0.0.1")]).await,
            403,
            "{header}"
        );
    }
}

#[tokio::test]
async fn where_no_key_is_asked_for_other_people_s_pages_do_nothing_to_a_process() {
    for settings in [&[][..], &[("admin.port", "0"), ("server_api_key", "k")][..]] {
        let process = Process::start(settings);
        let operators = process.admin.unwrap_or(process.public);

        for foreign in ["https://evil.example", "null"] {
            assert_eq!(
                posted(operators, "/drain", &[("origin", foreign)]).await,
                403,
                "{foreign}"
            );
        }

        let own = format!("http://{operators}");
        assert_eq!(posted(operators, "/drain", &[("origin", &own)]).await, 200);
    }
}

#[tokio::test]
async fn on_one_port_with_api_keys_admin_routes_take_one() {
    let process = Process::start(&[("server_api_key", "k")]);

    assert_eq!(posted(process.public, "/drain", &[]).await, 401);
    let behind_a_proxy = [("x-api-key", "k"), ("x-forwarded-for", "203.0.113.9")];
    assert_eq!(posted(process.public, "/drain", &behind_a_proxy).await, 200);
}
