//! Talking to media nodes over gRPC `MediaControl`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use service_kit::config::Links;
use service_kit::exit::Fatal;
use service_kit::grpc::{AttachToken, PeerTls};
use service_kit::trace::{Parent, Side, Span};
use session_store::NodeRecord;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use voxray_proto::control::media_control_client::MediaControlClient;
use voxray_proto::control::{
    AddCandidatesRequest, CreateSessionRequest, CreateSessionResponse, EndSessionRequest, ListSessionsRequest,
    OfferRequest, OfferResponse, ReportAnsweredByRequest, ReportTransferRequest, SendDtmfRequest, Session,
    TransferSessionRequest,
};

/// Longest wait for a node's answer; a caller is waiting too, and there may be another node.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait where the node asks a phone provider: three attempts of the usual 5 s, and the pauses between them.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(25);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Clients of all media nodes, each named by its `control_url`: one HTTP/2 connection a node, opened at first use and
/// reopened by itself.
pub struct MediaNodes {
    token: AttachToken,
    tls: PeerTls,
    channels: Mutex<HashMap<String, Channel>>,
    /// For what a node can only answer when a phone provider has answered it.
    patient: Mutex<HashMap<String, Channel>>,
}

type Client = MediaControlClient<InterceptedService<Channel, AttachToken>>;

impl MediaNodes {
    /// With the deployment's `service_token` and certificates.
    ///
    /// # Errors
    /// Exit status 66 when a certificate cannot be read.
    pub fn new(links: &Links) -> Result<Self, Fatal> {
        Ok(Self {
            token: AttachToken::new(&links.service_token),
            tls: PeerTls::load(links)?,
            channels: Mutex::default(),
            patient: Mutex::default(),
        })
    }

    fn client(&self, url: &str) -> Result<Client, Status> {
        self.client_of(&self.channels, url, CALL_TIMEOUT)
    }

    fn patient_client(&self, url: &str) -> Result<Client, Status> {
        self.client_of(&self.patient, url, PROVIDER_TIMEOUT)
    }

    fn client_of(
        &self,
        channels: &Mutex<HashMap<String, Channel>>,
        url: &str,
        timeout: Duration,
    ) -> Result<Client, Status> {
        let mut channels = channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(url) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = self.tls.endpoint(url).map_err(|error| {
                    Status::unavailable(format!(
                        "the media node registered a control_url that cannot be used: {error}"
                    ))
                })?;
                let channel = endpoint
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(timeout)
                    .tcp_nodelay(true)
                    .connect_lazy();
                channels.insert(url.to_owned(), channel.clone());
                channel
            }
        };
        Ok(MediaControlClient::with_interceptor(channel, self.token.clone()))
    }

    /// Reserves a slot; `trace` is where the session's trace has got to.
    pub async fn create_session(
        &self,
        url: &str,
        request: CreateSessionRequest,
        trace: &Parent,
    ) -> Result<CreateSessionResponse, Status> {
        let mut request = Request::new(request);
        trace.inject(request.metadata_mut());
        Ok(self.client(url)?.create_session(request).await?.into_inner())
    }

    /// Answers a WebRTC offer; `trace` is where the session's trace has got to.
    pub async fn offer(&self, url: &str, request: OfferRequest, trace: &Parent) -> Result<OfferResponse, Status> {
        let asking = Span::within("Offer", Side::Client, trace);
        let mut request = Request::new(request);
        asking.parent().inject(request.metadata_mut());
        let answer = self.client(url)?.offer(request).await;
        let answer = answer.inspect_err(|_| asking.fail("the node has not taken it"))?;
        Ok(answer.into_inner())
    }

    /// Adds ICE candidates.
    pub async fn add_candidates(&self, url: &str, request: AddCandidatesRequest) -> Result<(), Status> {
        self.client(url)?.add_candidates(request).await.map(drop)
    }

    /// The live session of this name, as its node sees it.
    pub async fn session(&self, url: &str, session_id: &str) -> Result<Option<Session>, Status> {
        let request = ListSessionsRequest {
            session_id: session_id.to_owned(),
        };
        let listed = self.client(url)?.list_sessions(request).await?.into_inner().sessions;
        // A node one release older lists all of its sessions.
        Ok(listed.into_iter().find(|session| session.session_id == session_id))
    }

    /// Ends a session.
    pub async fn end_session(&self, url: &str, request: EndSessionRequest) -> Result<(), Status> {
        self.client(url)?.end_session(request).await.map(drop)
    }

    /// Transfers the phone call of a session.
    pub async fn transfer_session(&self, url: &str, request: TransferSessionRequest) -> Result<(), Status> {
        self.patient_client(url)?.transfer_session(request).await.map(drop)
    }

    /// Sends digits into the phone call of a session.
    pub async fn send_dtmf(&self, url: &str, request: SendDtmfRequest) -> Result<(), Status> {
        self.patient_client(url)?.send_dtmf(request).await.map(drop)
    }

    /// Tells a session who has answered its call.
    pub async fn report_answered_by(&self, url: &str, request: ReportAnsweredByRequest) -> Result<(), Status> {
        self.client(url)?.report_answered_by(request).await.map(drop)
    }

    /// Tells a session what has become of its transfer.
    pub async fn report_transfer(&self, url: &str, request: ReportTransferRequest) -> Result<(), Status> {
        self.client(url)?.report_transfer(request).await.map(drop)
    }

    /// Drops the connections to nodes that are not in this list any more.
    pub fn forget_others(&self, alive: &[NodeRecord]) {
        for channels in [&self.channels, &self.patient] {
            channels
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|url, _| alive.iter().any(|node| node.control_url == *url));
        }
    }
}
