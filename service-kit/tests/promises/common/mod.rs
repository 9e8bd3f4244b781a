//! What the tests of this crate share: a configuration from a few flags, and a served router.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test file uses its own part"
)]

pub mod given;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use service_kit::config::{Config, Loaded, Profile, Sources, Tls, load};
use service_kit::http::{apply_conventions, bind, serve_public};
use service_kit::tasks::TaskScope;
use tokio_util::sync::CancellationToken;

pub fn pairs(items: &[(&str, &str)]) -> BTreeMap<String, String> {
    items
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// A configuration of one process on any free loopback port, with these flags.
pub fn config(flags: &[(&str, &str)]) -> Config {
    let mut all = pairs(&[("host", "127.0.0.1"), ("port", "0")]);
    all.extend(pairs(flags));
    let sources = Sources {
        flags: all,
        working_dir: "/nonexistent".into(),
        ..Sources::default()
    };
    let loaded: Loaded = load(&sources, Profile::SingleProcess).unwrap();
    loaded.config
}

/// A served router; everything ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    pub scope: TaskScope,
    pub stop: CancellationToken,
    pub client: reqwest::Client,
}

impl Server {
    /// Serves `router` under the conventions.
    pub fn start(router: Router, config: &Config, exempt: &[&str]) -> Self {
        Self::start_bare(apply_conventions(router, config, exempt), config)
    }

    /// Serves `router` as it is.
    pub fn start_bare(router: Router, config: &Config) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (scope, stop) = (TaskScope::root("test"), CancellationToken::new());
        let listener = bind(&config.http).unwrap();
        let address = serve_public(listener, router, &config.http, &scope, stop.clone()).unwrap();
        Self {
            address,
            scope,
            stop,
            client: reqwest::Client::new(),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(self.url(path))
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(self.url(path))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A certificate of its own for `localhost`, in files.
pub fn write_certificate(folder: &Path) -> (Tls, reqwest::Certificate) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls {
        cert_file: folder.join("cert.pem"),
        key_file: folder.join("key.pem"),
    };
    std::fs::write(&tls.cert_file, made.cert.pem()).unwrap();
    std::fs::write(&tls.key_file, made.signing_key.serialize_pem()).unwrap();
    (tls, reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap())
}

/// Status and JSON body of an answer.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, serde_json::Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}
