//! A control plane in front of an archiver, asked over real HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use service_kit::config::{Config, Secret};
use service_kit::health::Readiness;
use service_kit::http;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use session_store::MemoryStore;
use signaling_svc::{OPEN_ROUTES, Signaling};
use tokio_util::sync::CancellationToken;

pub const KEY: &str = "an-api-key-of-decent-length";

pub struct Plane {
    pub base: String,
    pub client: reqwest::Client,
    key: Option<&'static str>,
    scope: TaskScope,
    stop: CancellationToken,
}

impl Plane {
    /// Asks the archiver at this address, with `config` otherwise.
    pub async fn start(mut config: Config, archiver: Option<SocketAddr>) -> Self {
        config.links.archiver_url = archiver.map(|address| format!("http://{address}"));
        config
            .secrets
            .replace(std::collections::BTreeMap::new(), vec![Secret::new(KEY)]);
        let config = Arc::new(config);
        let scope = TaskScope::root("plane");
        let signaling = Signaling::start(
            Arc::clone(&config),
            Arc::new(MemoryStore::default()),
            Readiness::new(),
            scope.clone(),
            Shutdown::new(),
        )
        .await
        .unwrap();
        let router = http::apply_conventions(signaling.router(), &config, OPEN_ROUTES);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stop = CancellationToken::new();
        let address = http::serve(listener, router, None, &scope, stop.clone()).unwrap();
        let mut plane = Self::at(&format!("http://{address}"), scope, stop);
        plane.key = Some(KEY);
        plane
    }

    /// Somebody else's server, without a key.
    pub fn at(base: &str, scope: TaskScope, stop: CancellationToken) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            base: base.to_owned(),
            client,
            key: None,
            scope,
            stop,
        }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn range(&self, path: &str, range: &str) -> Response {
        let request = self.request(Method::GET, path).header("range", range);
        request.send().await.unwrap()
    }

    /// `data` of an answer that is expected to be 200.
    pub async fn data(&self, method: Method, path: &str) -> Value {
        let answer = self.request(method, path).send().await.unwrap();
        let status = answer.status();
        let mut body: Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body["data"].take()
    }

    /// Status and message of an answer that is expected to be an error.
    pub async fn error(&self, method: Method, path: &str) -> (u16, String) {
        let answer = self.request(method, path).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["requestId"].is_string(), "{path}: {body}");
        (status, body["error"]["message"].as_str().unwrap().to_owned())
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
        self.scope.cancel();
    }
}
