//! A scripted server that speaks OpenAI's wire format on a free loopback port: what it answers is set beforehand, what
//! it was asked is kept.
//!
//! Chat completions, audio transcriptions and audio speech, as described in
//! <https://platform.openai.com/docs/api-reference>.

mod answer;
mod body;
mod gate;
mod request;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::post;
use service_kit::tasks::TaskScope;
use tokio::sync::watch;

pub use answer::{Answer, PCM_RATE_HZ, tone};
pub use gate::{Gate, Hold};
pub use request::{Outcome, Request, Upload};

/// Largest request taken, in bytes: above the API's own limit, so that it is the client that has to respect it.
const LARGEST_REQUEST: usize = 32 * 1024 * 1024;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/audio/transcriptions`
    Transcriptions,
    /// `POST /v1/audio/speech`
    Speech,
}

impl Endpoint {
    fn of(path: &str) -> Self {
        match path {
            "/v1/audio/transcriptions" => Self::Transcriptions,
            "/v1/audio/speech" => Self::Speech,
            _ => Self::Chat,
        }
    }
}

/// The server; it is gone when this is dropped.
pub struct OpenAiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    scope: TaskScope,
}

struct Shared {
    scripts: Mutex<Scripts>,
    forgetful: AtomicBool,
    /// Every request so far, in the order of arrival.
    requests: watch::Sender<Vec<Request>>,
}

#[derive(Default)]
struct Scripts {
    chat: Script,
    transcriptions: Script,
    speech: Script,
}

type Otherwise = dyn Fn(&Request) -> Answer + Send + Sync;

/// What one endpoint answers.
#[derive(Default)]
struct Script {
    next: VecDeque<Answer>,
    otherwise: Option<Arc<Otherwise>>,
}

impl Shared {
    fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scripts {
    fn of(&mut self, endpoint: Endpoint) -> &mut Script {
        match endpoint {
            Endpoint::Chat => &mut self.chat,
            Endpoint::Transcriptions => &mut self.transcriptions,
            Endpoint::Speech => &mut self.speech,
        }
    }
}

impl OpenAiServer {
    /// Starts without a script: until there is one, every request is refused with 400.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("no free port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            forgetful: AtomicBool::new(false),
            requests: watch::Sender::new(Vec::new()),
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/audio/transcriptions", post(answer))
            .route("/v1/audio/speech", post(answer))
            .layer(axum::extract::DefaultBodyLimit::max(LARGEST_REQUEST))
            .with_state(shared.clone());
        let scope = TaskScope::root("openai server");
        let stopped = scope.token();
        scope.spawn("serve", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                // It ends with its listener only.
                _ = axum::serve(listener, router) => {}
            }
        });
        Ok(Self { address, shared, scope })
    }

    /// For `openai.base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Answers the next requests with these, in this order; then as [`otherwise`](Self::otherwise) says.
    pub fn answer(&self, endpoint: Endpoint, answers: impl IntoIterator<Item = Answer>) {
        self.shared.scripts().of(endpoint).next.extend(answers);
    }

    /// Answers every request that nothing else is set for.
    pub fn otherwise(&self, endpoint: Endpoint, answer: Answer) {
        self.otherwise_by(endpoint, move |_| answer.clone());
    }

    /// The same where the answer depends on the request.
    pub fn otherwise_by(&self, endpoint: Endpoint, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
        self.shared.scripts().of(endpoint).otherwise = Some(Arc::new(answer));
    }

    /// Keeps no requests from now on: a long run would fill the memory with recordings.
    pub fn forget_requests(&self) {
        self.shared.forgetful.store(true, Ordering::Relaxed);
    }

    /// What an endpoint has been asked so far.
    pub fn requests(&self, endpoint: Endpoint) -> Vec<Request> {
        let requests = self.shared.requests.borrow();
        requests
            .iter()
            .filter(|request| request.endpoint == endpoint)
            .cloned()
            .collect()
    }

    /// The request of this number (from 0) to an endpoint, as soon as it has come.
    pub async fn request(&self, endpoint: Endpoint, number: usize) -> Request {
        let mut changes = self.shared.requests.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(request) = self.requests(endpoint).into_iter().nth(number) {
                return request;
            }
            // The sender lives as long as this server.
            let _ = changes.changed().await;
        }
    }
}

impl Drop for OpenAiServer {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let endpoint = Endpoint::of(uri.path());
    let (request, guard) = Request::read(endpoint, headers, &body);
    let (scripted, otherwise) = {
        let mut scripts = shared.scripts();
        let script = scripts.of(endpoint);
        (script.next.pop_front(), script.otherwise.clone())
    };
    let answer = scripted.or_else(|| otherwise.map(|answer| answer(&request)));
    if !shared.forgetful.load(Ordering::Relaxed) {
        shared.requests.send_modify(|requests| requests.push(request));
    }
    let unscripted = || Answer::error(400, "invalid_request_error", "the test has no answer to this");
    answer.unwrap_or_else(unscripted).respond(guard).await
}
