//! A phone provider's API as a server on a free port: notes what it is asked and answers as scripted. Its answers name
//! the new call in every provider's place at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use service_kit::tasks::TaskScope;
use tokio::sync::watch;

use crate::support::{Answer, Node, Plane, Switch};

/// What one request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Say {
    /// This status; with `Retry-After` in seconds where there is one.
    Status(u16, Option<u32>),
    /// Nothing at all.
    Nothing,
}

pub struct Provider {
    pub url: String,
    state: Arc<Scripted>,
    scope: TaskScope,
}

#[derive(Default)]
struct Scripted {
    script: Mutex<VecDeque<Say>>,
    asked: watch::Sender<Vec<String>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Scripted>::default();
        let router = Router::new().fallback(answer).with_state(state.clone());
        let scope = TaskScope::root("provider");
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("provider", async move {
            let serving = axum::serve(listener, router).into_future();
            tokio::select! {
                _ = serving => {}
                () = cancelled => {}
            }
        });
        Self { url, state, scope }
    }

    pub fn next(&self, say: Say) {
        self.state.script.lock().unwrap().push_back(say);
    }

    /// Bodies of all requests so far, with slashes and signs as they are.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.borrow().clone()
    }

    /// The body of the request of this number, as soon as it has come.
    pub async fn request(&self, number: usize) -> String {
        let mut asked = self.state.asked.subscribe();
        let come = asked.wait_for(|asked| asked.len() > number);
        let come = tokio::time::timeout(Duration::from_secs(20), come).await;
        come.unwrap().unwrap()[number].clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

async fn answer(State(state): State<Arc<Scripted>>, request: Request) -> Response {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    // JSON has no percent signs of its own here.
    let text = form_urlencoded::parse(format!("x={}", text.replace('&', "\n")).as_bytes())
        .next()
        .unwrap()
        .1
        .into_owned();
    state.asked.send_modify(|asked| asked.push(text));
    let say = state.script.lock().unwrap().pop_front();
    match say {
        None => axum::Json(named("out-1")).into_response(),
        Some(Say::Status(status, retry_after)) => {
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            let mut response = (status, axum::Json(json!({"message": "no"}))).into_response();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            response
        }
        Some(Say::Nothing) => std::future::pending().await,
    }
}

fn named(id: &str) -> Value {
    json!({
        "sid": id, "request_uuid": id, "uuid": id,
        "data": {"call_control_id": id},
        "Call": {"Sid": id},
    })
}

/// A deployment with one node, and a provider that answers every API of the five.
pub struct Setup {
    pub store: Arc<Switch>,
    pub plane: Plane,
    pub node: Node,
    pub provider: Provider,
}

pub async fn setup(more: &[(&str, &str)]) -> Setup {
    let (store, provider) = (Switch::new(), Provider::start().await);
    let plane = plane(&store, &provider, more).await;
    let node = Node::start(&store, "n1").await;
    Setup {
        store,
        plane,
        node,
        provider,
    }
}

pub async fn plane(store: &Arc<Switch>, provider: &Provider, more: &[(&str, &str)]) -> Plane {
    let url = provider.url.as_str();
    let key = include_str!("vonage_key.pem");
    let settings = [
        ("twilio.base_url", url),
        ("twilio.account_sid", "AC1"),
        ("telnyx.base_url", url),
        ("telnyx.connection_id", "con-1"),
        ("api_keys.telnyx", "t"),
        ("plivo.base_url", url),
        ("plivo.auth_id", "MA1"),
        ("exotel.base_url", url),
        ("exotel.account_sid", "ex1"),
        ("exotel.api_key", "k"),
        ("exotel.app_id", "77"),
        ("api_keys.exotel", "e"),
        ("vonage.base_url", url),
        ("vonage.application_id", "app-1"),
        ("vonage.private_key", key),
        ("api_keys.twilio", "tw"),
        ("api_keys.plivo", "pl"),
        ("telephony.verify_signatures", "false"),
        ("telephony.request_timeout_secs", "0.3"),
    ];
    Plane::start(store, &[&settings, more].concat()).await
}

pub fn request(provider: &str) -> Value {
    json!({"provider": provider, "to": "+15550001111", "from": "+15552223333", "body": {"name": "Zoë"}})
}

impl Setup {
    pub async fn place(&self, provider: &str) -> Answer {
        self.plane.post("/calls", request(provider)).await
    }

    pub async fn placed(&self, provider: &str) -> String {
        let answer = self.place(provider).await;
        assert_eq!(answer.status, 201, "{provider}: {}", answer.text);
        answer.json()["data"]["sessionId"].as_str().unwrap().to_owned()
    }

    /// The URL in what the provider was asked last, path and query only.
    pub fn callback(&self, path: &str) -> String {
        let asked = self.provider.asked().pop().unwrap();
        let from = asked.find(path).unwrap_or_else(|| panic!("{path} in {asked}"));
        let rest = &asked[from..];
        let end = rest.find(['"', '\n', ',']).unwrap_or(rest.len());
        rest[..end].to_owned()
    }

    pub async fn shown(&self, session_id: &str) -> Value {
        self.plane.get(&format!("/sessions/{session_id}")).await.json()["data"].clone()
    }
}
