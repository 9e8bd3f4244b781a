//! A scripted server of one phone provider's REST API on a free loopback port: it speaks the documented requests, checks
//! who asks and what, keeps what it was asked, and fails as it is told.
//!
//! A module a provider says which requests there are; the pages they follow are named there.

mod exotel;
mod plivo;
mod request;
mod telnyx;
mod twilio;
mod vonage;

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use carriers::Provider;
use serde_json::Value;
use service_kit::tasks::TaskScope;
use tokio::sync::watch;

pub use request::{Asked, Request};
pub use vonage::PRIVATE_KEY as VONAGE_PRIVATE_KEY;

/// Account id that every scripted provider knows: Twilio's and Exotel's account SID, Plivo's auth id, Vonage's
/// application id, Telnyx's connection id.
pub const ACCOUNT: &str = "AC0123456789";
/// Exotel's API key.
pub const API_KEY: &str = "exotel-key";
/// The token that goes with it: auth token, API key, API token.
pub const TOKEN: &str = "s3cret-token";
/// Longest wait for a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// How one request is answered instead of being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 401, as for a wrong token.
    Unauthorized,
    /// 404, as for a call that is gone.
    NotFound,
    /// 429, with `Retry-After` in seconds if there is one.
    RateLimited(Option<u64>),
    /// A status with a body that is no JSON.
    Status(u16),
    /// The request is done, and no answer comes.
    NoAnswer,
}

/// The server; it is gone when this is dropped.
pub struct CarrierServer {
    provider: Provider,
    address: SocketAddr,
    shared: Arc<Shared>,
    scope: TaskScope,
}

struct Shared {
    provider: Provider,
    state: Mutex<Calls>,
    requests: watch::Sender<Vec<Request>>,
}

/// What the provider knows.
#[derive(Default)]
struct Calls {
    faults: VecDeque<Fault>,
    always: Option<Fault>,
    ended: BTreeSet<String>,
    placed: u32,
}

/// A documented answer.
struct Reply {
    status: u16,
    body: Value,
}

impl Reply {
    fn new(status: u16, body: Value) -> Self {
        Self { status, body }
    }
}

impl CarrierServer {
    /// A provider without faults, in which every call id is a running call.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(provider: Provider) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("no free port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            provider,
            state: Mutex::default(),
            requests: watch::Sender::new(Vec::new()),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let scope = TaskScope::root("carrier server");
        let stopped = scope.token();
        scope.spawn("serve", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                // It ends with its listener only.
                _ = axum::serve(listener, router) => {}
            }
        });
        Ok(Self {
            provider,
            address,
            shared,
            scope,
        })
    }

    /// For `<provider>.base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The keys of a configuration that reaches this server with the right credentials.
    pub fn settings(&self) -> Vec<(String, String)> {
        let name = self.provider.name();
        let mut settings = vec![(format!("{name}.base_url"), self.base_url())];
        let own: &[(&str, &str)] = match self.provider {
            Provider::Twilio => &[("twilio.account_sid", ACCOUNT), ("api_keys.twilio", TOKEN)],
            Provider::Telnyx => &[("telnyx.connection_id", ACCOUNT), ("api_keys.telnyx", TOKEN)],
            Provider::Plivo => &[
                ("plivo.auth_id", ACCOUNT),
                ("api_keys.plivo", TOKEN),
                ("proxy_host", "voice.example.com"),
            ],
            Provider::Exotel => &[
                ("exotel.account_sid", ACCOUNT),
                ("exotel.api_key", API_KEY),
                ("exotel.app_id", "926"),
                ("api_keys.exotel", TOKEN),
            ],
            Provider::Vonage => &[
                ("vonage.application_id", ACCOUNT),
                ("vonage.private_key", VONAGE_PRIVATE_KEY.as_str()),
            ],
        };
        settings.extend(own.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        settings
    }

    /// Fails the next requests so, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().faults.extend(faults);
    }

    /// Fails every request so from now on; `None` ends that.
    pub fn fail_always(&self, fault: Option<Fault>) {
        self.shared.state().always = fault;
    }

    /// The call has ended, as if its caller had hung up.
    pub fn end_call(&self, call_id: &str) {
        self.shared.state().ended.insert(call_id.to_owned());
    }

    /// Everything that was asked so far, failed requests included.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.borrow().clone()
    }

    /// Keeps nothing of what was asked so far.
    pub fn forget(&self) {
        self.shared.state().ended.clear();
        self.shared.requests.send_modify(Vec::clear);
    }

    /// The request of this number (from 0), as soon as it has come.
    ///
    /// # Errors
    /// It has not come within a minute.
    pub async fn request(&self, number: usize) -> anyhow::Result<Request> {
        let mut changes = self.shared.requests.subscribe();
        let arrived = changes.wait_for(|requests| requests.len() > number);
        let arrived = tokio::time::timeout(REQUEST_LIMIT, arrived).await;
        let requests = arrived.with_context(|| format!("request {number} has not come within {REQUEST_LIMIT:?}"))??;
        requests
            .get(number)
            .cloned()
            .context("requests were forgotten meanwhile")
    }
}

impl Drop for CarrierServer {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Calls> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut request = Request::read(&method, &uri, &headers, &body);
    let (authorized, asked) = match shared.provider {
        Provider::Twilio => (request.has_basic(ACCOUNT, TOKEN), twilio::read(&request)),
        Provider::Telnyx => (request.bearer().is_some_and(|key| key == TOKEN), telnyx::read(&request)),
        Provider::Plivo => (request.has_basic(ACCOUNT, TOKEN), plivo::read(&request)),
        Provider::Exotel => (request.has_basic(API_KEY, TOKEN), exotel::read(&request)),
        Provider::Vonage => (vonage::is_authorized(&request), vonage::read(&request)),
    };
    request.asked = asked;
    shared.requests.send_modify(|requests| requests.push(request.clone()));
    let fault = {
        let mut state = shared.state();
        state.faults.pop_front().or(state.always)
    };
    let reply = match fault {
        Some(Fault::NoAnswer) => {
            shared.reply(&request.asked);
            return std::future::pending().await;
        }
        Some(Fault::Status(status)) => return written(status, None, "not JSON".to_owned()),
        Some(Fault::RateLimited(wait)) => return written(429, wait, shared.problem(429).to_string()),
        Some(Fault::Unauthorized) => Reply::new(401, shared.problem(401)),
        Some(Fault::NotFound) => Reply::new(404, shared.problem(404)),
        None if !authorized => Reply::new(401, shared.problem(401)),
        None => shared.reply(&request.asked),
    };
    let body = if reply.body.is_null() {
        String::new()
    } else {
        reply.body.to_string()
    };
    written(reply.status, None, body)
}

fn written(status: u16, retry_after: Option<u64>, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(wait) = retry_after {
        response.headers_mut().insert("retry-after", wait.into());
    }
    response
}

impl Shared {
    /// Does what was asked, and answers as documented.
    fn reply(&self, asked: &Asked) -> Reply {
        let mut state = self.state();
        let gone = |call: &str| state.ended.contains(call);
        match asked {
            Asked::HangUp { call } | Asked::Transfer { call, .. } | Asked::SendDtmf { call, .. } if gone(call) => {
                match self.provider {
                    Provider::Twilio => Reply::new(400, twilio::not_in_progress()),
                    Provider::Telnyx => Reply::new(422, telnyx::has_ended()),
                    Provider::Plivo | Provider::Exotel | Provider::Vonage => Reply::new(404, self.problem(404)),
                }
            }
            Asked::HangUp { call } => {
                state.ended.insert(call.clone());
                self.done(204)
            }
            Asked::Transfer { .. } => self.done(204),
            Asked::SendDtmf { .. } => self.done(200),
            Asked::Place { .. } => {
                state.placed += 1;
                let id = format!("{}-call-{}", self.provider.name(), state.placed);
                match self.provider {
                    Provider::Twilio => Reply::new(201, twilio::placed(&id)),
                    Provider::Telnyx => Reply::new(200, telnyx::placed(&id)),
                    Provider::Plivo => Reply::new(201, plivo::placed(&id)),
                    Provider::Exotel => Reply::new(200, exotel::placed(&id)),
                    Provider::Vonage => Reply::new(201, vonage::placed(&id)),
                }
            }
            Asked::Unknown(_) => Reply::new(400, self.problem(400)),
        }
    }

    fn done(&self, vonage: u16) -> Reply {
        match self.provider {
            Provider::Twilio => Reply::new(200, twilio::placed("updated")),
            Provider::Telnyx => Reply::new(200, serde_json::json!({ "data": { "result": "ok" } })),
            Provider::Plivo if vonage == 204 => Reply::new(204, Value::Null),
            Provider::Plivo => Reply::new(202, serde_json::json!({ "message": "done", "api_id": "x" })),
            Provider::Exotel | Provider::Vonage => Reply::new(vonage, Value::Null),
        }
    }

    fn problem(&self, status: u16) -> Value {
        match self.provider {
            Provider::Twilio => twilio::problem(status),
            Provider::Telnyx => telnyx::problem(status),
            Provider::Plivo => plivo::problem(status),
            Provider::Exotel => exotel::problem(status),
            Provider::Vonage => vonage::problem(status),
        }
    }
}
