//! An HTTP proxy before the S3 server: it notes what passes, and answers or delays what a test picks, or loses the answer.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use service_kit::tasks::{AbortOnDrop, TaskScope};
use tokio::net::TcpListener;

/// A request that passed, and what was answered.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub status: StatusCode,
}

/// What becomes of a request.
pub enum Way {
    /// It is passed on, and its answer back.
    Through,
    /// The server never sees it, and this is answered.
    Answered(Response),
    /// The server does it, and this is answered: what it says is lost.
    Lost(Response),
}

impl From<Option<StatusCode>> for Way {
    fn from(answer: Option<StatusCode>) -> Self {
        answer.map_or(Self::Through, |status| Self::Answered(status.into_response()))
    }
}

/// What a test decides, perhaps a while later.
pub type Decision = Pin<Box<dyn Future<Output = Way> + Send>>;

/// What a test does to a request, by method, path and query.
pub type Rule = Arc<dyn Fn(&Method, &str) -> Decision + Send + Sync>;

/// A rule that takes no time.
pub fn rule(decide: impl Fn(&Method, &str) -> Way + Send + Sync + 'static) -> Rule {
    Arc::new(move |method: &Method, target: &str| {
        let way = decide(method, target);
        Box::pin(async move { way })
    })
}

/// It runs as long as this lives.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _server: AbortOnDrop,
}

#[derive(Clone)]
struct Ways {
    client: reqwest::Client,
    to: String,
    rule: Rule,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Proxy {
    /// A proxy before the server at `to` (`http://host:port`).
    pub async fn start(to: String, rule: Rule) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ways = Ways {
            client: voxray_testkit::api::client().clone(),
            to,
            rule,
            seen: Arc::clone(&seen),
        };
        // Parts are larger than what is usually taken.
        let app = Router::new()
            .fallback(pass)
            .layer(DefaultBodyLimit::disable())
            .with_state(ways);
        let server = TaskScope::root("proxy").spawn_owned("proxy", async move {
            axum::serve(listener, app).await.unwrap();
        });
        Self {
            address,
            seen,
            _server: server,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that passed.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn pass(State(ways): State<Ways>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let target = uri.path_and_query().unwrap().to_string();
    let response = match (ways.rule)(&method, &target).await {
        Way::Through => pass_on(&ways, &method, &target, &headers, body).await,
        Way::Answered(answer) => answer,
        Way::Lost(answer) => {
            pass_on(&ways, &method, &target, &headers, body).await;
            answer
        }
    };
    ways.seen.lock().unwrap().push(Seen {
        method,
        target,
        headers,
        status: response.status(),
    });
    response
}

async fn pass_on(ways: &Ways, method: &Method, target: &str, headers: &HeaderMap, body: Bytes) -> Response {
    // The host stays as it was: it is part of what was signed.
    let request = ways.client.request(method.clone(), format!("{}{target}", ways.to));
    let Ok(answer) = request.headers(headers.clone()).body(body).send().await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    if *method == Method::HEAD {
        return (status, headers).into_response();
    }
    headers.remove(header::CONTENT_LENGTH);
    (status, headers, answer.bytes().await.unwrap()).into_response()
}
