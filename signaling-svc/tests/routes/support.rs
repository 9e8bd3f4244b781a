//! An instance of the control plane, media nodes that do what they are told, and a store that can be away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use service_kit::config::{Config, Profile, Secret, Sources, load};
use service_kit::grpc::RequireToken;
use service_kit::health::Readiness;
use service_kit::http::{apply_conventions, operational_routes};
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use service_kit::token::{Claims, TokenSigner};
use session_store::{NodeRecord, Store};
use signaling_svc::{OPEN_ROUTES, Signaling};
use tokio::net::TcpListener;
use tonic::{Response, Status};
use tower::ServiceExt;
use voxray_proto::control::media_control_server::{MediaControl, MediaControlServer};
use voxray_proto::control::*;

pub use crate::forms::{encoded, form};
pub use session_store::switch::Switch;

pub const SERVICE_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// One signaling instance with the HTTP conventions applied, called without a socket.
pub struct Plane {
    router: Router,
    pub shutdown: Shutdown,
    scope: TaskScope,
}

impl Plane {
    pub async fn start(store: &Arc<Switch>, settings: &[(&str, &str)]) -> Self {
        let config = Arc::new(config(settings));
        let (scope, shutdown) = (TaskScope::root("test"), Shutdown::new());
        let signaling = Signaling::start(
            Arc::clone(&config),
            store.clone(),
            Readiness::new(),
            scope.clone(),
            shutdown.clone(),
        )
        .await
        .unwrap();
        let router = signaling
            .router()
            .merge(operational_routes(signaling.readiness(), true));
        Self {
            router: apply_conventions(router, &config, OPEN_ROUTES),
            shutdown,
            scope,
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, json: Value) -> Answer {
        self.send(Request::post(path).body(Body::from(json.to_string())).unwrap())
            .await
    }

    pub async fn patch(&self, path: &str, json: Value) -> Answer {
        self.send(Request::patch(path).body(Body::from(json.to_string())).unwrap())
            .await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Checks the status and the code of the error envelope, and answers its message.
    pub fn error(&self, status: u16, code: &str) -> String {
        let json = self.json();
        assert_eq!(self.status, status, "{json}");
        assert_eq!(json["error"]["code"], code, "{json}");
        assert!(json["error"]["requestId"].is_string(), "{json}");
        json["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub fn config(settings: &[(&str, &str)]) -> Config {
    let mut flags = BTreeMap::from([("service_token".to_owned(), SERVICE_TOKEN.to_owned())]);
    flags.extend(
        settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources {
        flags,
        working_dir: folder.path().to_owned(),
        ..Sources::default()
    };
    load(&sources, Profile::Service).unwrap().config
}

/// A stream's URL without its token and parameters, and what the token says.
pub fn claims_of(url: &str) -> (String, Claims) {
    let (base, token) = url.split('?').next().unwrap().rsplit_once('/').unwrap();
    let signer = TokenSigner::new(Secret::new(SERVICE_TOKEN));
    (base.to_owned(), signer.verify(token, SystemTime::now()).unwrap())
}

pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A media node: a real gRPC server on a free port that notes what it is asked and answers as scripted.
pub struct Node {
    pub id: String,
    pub asked: Arc<Asked>,
    record: NodeRecord,
    _scope: ScopeGuard,
}

struct ScopeGuard(TaskScope);

impl Drop for ScopeGuard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[derive(Default)]
pub struct Asked {
    pub created: Mutex<Vec<CreateSessionRequest>>,
    pub offers: Mutex<Vec<OfferRequest>>,
    pub candidates: Mutex<Vec<AddCandidatesRequest>>,
    pub ended: Mutex<Vec<String>>,
    pub transfers: Mutex<Vec<TransferSessionRequest>>,
    pub digits: Mutex<Vec<SendDtmfRequest>>,
    pub answered_by: tokio::sync::watch::Sender<Vec<ReportAnsweredByRequest>>,
    pub transferred: Mutex<Vec<ReportTransferRequest>>,
    /// What the node says it carries.
    pub live: Mutex<Vec<Session>>,
    /// An offer is answered when this is false.
    pub paused: tokio::sync::watch::Sender<bool>,
    /// Every call is answered with this instead.
    refusal: Mutex<Option<Status>>,
}

impl Asked {
    fn answer<T>(&self, answer: T) -> Result<Response<T>, Status> {
        match self.refusal.lock().unwrap().clone() {
            Some(status) => Err(status),
            None => Ok(Response::new(answer)),
        }
    }
}

impl Node {
    /// Starts a node that serves everything, with ten free slots, and registers it.
    pub async fn start(store: &Arc<Switch>, id: &str) -> Self {
        let node = Self::unregistered(id, SERVICE_TOKEN).await;
        store.heartbeat(&node.record).await.unwrap();
        node
    }

    pub async fn unregistered(id: &str, service_token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Asked>::default();
        let service = MediaControlServer::with_interceptor(
            Scripted {
                id: id.to_owned(),
                asked: Arc::clone(&asked),
            },
            RequireToken::new(&Secret::new(service_token)),
        );
        let scope = TaskScope::root("node");
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("node", async move {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming_shutdown(incoming, cancelled).await.unwrap();
        });
        Self {
            record: NodeRecord {
                zone: None,
                placed: 0,
                node_id: id.to_owned(),
                control_url: format!("http://{address}"),
                public_url: format!("ws://{id}.internal:8080"),
                capacity: 10,
                sessions: 0,
                draining: false,
                transports: ["telephony", "websocket", "webrtc"].map(str::to_owned).to_vec(),
                version: "0.1.0".to_owned(),
                latency: None,
            },
            id: id.to_owned(),
            asked,
            _scope: ScopeGuard(scope),
        }
    }

    /// Reports a changed record.
    pub async fn report(&self, store: &Arc<Switch>, change: impl FnOnce(&mut NodeRecord)) {
        let mut record = self.record.clone();
        change(&mut record);
        store.heartbeat(&record).await.unwrap();
    }

    pub fn refuse(&self, status: Status) {
        *self.asked.refusal.lock().unwrap() = Some(status);
    }

    pub fn accept(&self) {
        *self.asked.refusal.lock().unwrap() = None;
    }

    pub fn created(&self) -> Vec<CreateSessionRequest> {
        self.asked.created.lock().unwrap().clone()
    }

    pub fn offers(&self) -> Vec<OfferRequest> {
        self.asked.offers.lock().unwrap().clone()
    }

    pub fn candidates(&self) -> Vec<AddCandidatesRequest> {
        self.asked.candidates.lock().unwrap().clone()
    }

    pub fn transfers(&self) -> Vec<TransferSessionRequest> {
        self.asked.transfers.lock().unwrap().clone()
    }

    pub fn digits(&self) -> Vec<SendDtmfRequest> {
        self.asked.digits.lock().unwrap().clone()
    }

    pub fn ended(&self) -> Vec<String> {
        self.asked.ended.lock().unwrap().clone()
    }
}

struct Scripted {
    id: String,
    asked: Arc<Asked>,
}

#[tonic::async_trait]
impl MediaControl for Scripted {
    async fn create_session(
        &self,
        request: tonic::Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        self.asked.created.lock().unwrap().push(request.into_inner());
        self.asked.answer(CreateSessionResponse {
            node_id: self.id.clone(),
        })
    }

    async fn offer(&self, request: tonic::Request<OfferRequest>) -> Result<Response<OfferResponse>, Status> {
        self.asked.offers.lock().unwrap().push(request.into_inner());
        let mut paused = self.asked.paused.subscribe();
        paused.wait_for(|paused| !paused).await.unwrap();
        self.asked.answer(OfferResponse {
            sdp: format!("answer of {}", self.id),
            pc_id: format!("pc-{}", self.id),
        })
    }

    async fn add_candidates(
        &self,
        request: tonic::Request<AddCandidatesRequest>,
    ) -> Result<Response<AddCandidatesResponse>, Status> {
        self.asked.candidates.lock().unwrap().push(request.into_inner());
        self.asked.answer(AddCandidatesResponse {})
    }

    async fn end_session(
        &self,
        request: tonic::Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        self.asked.ended.lock().unwrap().push(request.into_inner().session_id);
        self.asked.answer(EndSessionResponse {})
    }

    async fn transfer_session(
        &self,
        request: tonic::Request<TransferSessionRequest>,
    ) -> Result<Response<TransferSessionResponse>, Status> {
        self.asked.transfers.lock().unwrap().push(request.into_inner());
        self.asked.answer(TransferSessionResponse {})
    }

    async fn send_dtmf(&self, request: tonic::Request<SendDtmfRequest>) -> Result<Response<SendDtmfResponse>, Status> {
        self.asked.digits.lock().unwrap().push(request.into_inner());
        self.asked.answer(SendDtmfResponse {})
    }

    async fn report_answered_by(
        &self,
        request: tonic::Request<ReportAnsweredByRequest>,
    ) -> Result<Response<ReportAnsweredByResponse>, Status> {
        self.asked
            .answered_by
            .send_modify(|told| told.push(request.into_inner()));
        self.asked.answer(ReportAnsweredByResponse {})
    }

    async fn report_transfer(
        &self,
        request: tonic::Request<ReportTransferRequest>,
    ) -> Result<Response<ReportTransferResponse>, Status> {
        self.asked.transferred.lock().unwrap().push(request.into_inner());
        self.asked.answer(ReportTransferResponse {})
    }

    async fn list_sessions(
        &self,
        _: tonic::Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let sessions = self.asked.live.lock().unwrap().clone();
        self.asked.answer(ListSessionsResponse { sessions })
    }

    async fn drain(&self, _: tonic::Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        self.asked.answer(DrainResponse::default())
    }

    async fn get_load(&self, _: tonic::Request<GetLoadRequest>) -> Result<Response<Load>, Status> {
        self.asked.answer(Load::default())
    }
}
