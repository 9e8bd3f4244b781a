//! What every handler shares, and the steps several of them take: placing a session and undoing that.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carriers::Carriers;
use prometheus::IntCounterVec;
use service_kit::config::Config;
use service_kit::tasks::TaskScope;
use service_kit::token::{Claims, TokenSigner};
use service_kit::trace::{Parent, Side, Span};
use session_store::{NodeRecord, SessionRecord, SessionState, Store, StoreError};
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::Instrument;
use voxray_proto::control::{CreateSessionRequest, EndSessionRequest, Transport};

use crate::archive::Archive;
use crate::error::PlaceError;
use crate::nodes::MediaNodes;
use crate::placement::{self, NoNode, Wanted};

/// Life of a stream token, and of a session that nobody has connected to yet.
pub const TOKEN_TTL: Duration = Duration::from_secs(300);

/// No further node is asked after this long: Twilio gives up on a webhook after 15 s, and an apology must come before.
const PLACEMENT_DEADLINE: Duration = Duration::from_secs(8);

/// Largest session body carried inside a token, in bytes: URLs longer than about 2 KB are refused in many places. A
/// larger body is read from the session record.
const MAX_TOKEN_BODY_BYTES: usize = 1024;

static PLACEMENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    service_kit::metrics::counter_vec(
        "placements_total",
        "Nodes asked for a new session: placed, refused (next one asked), unreachable (next one asked); none = nobody took it.",
        &["outcome"],
    )
});

/// Puts every outcome at zero, so that a rate can be taken from the first one on.
pub fn declare_metrics() {
    for outcome in ["placed", "refused", "unreachable", "none"] {
        PLACEMENTS.with_label_values(&[outcome]);
    }
}

/// State of one signaling instance. Nothing in it is lost with the instance.
pub struct App {
    /// Effective configuration.
    pub config: Arc<Config>,
    /// Sessions, nodes and idempotency keys.
    pub store: Arc<dyn Store>,
    /// The way to media nodes.
    pub nodes: Arc<MediaNodes>,
    /// The way to what was archived.
    pub archive: Archive,
    /// Signs stream tokens.
    pub signer: TokenSigner,
    /// Parent of what goes on when its request is gone.
    pub tasks: TaskScope,
    /// The phone providers' APIs.
    pub carriers: Carriers,
}

/// A session that is about to get a node.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// UUID.
    pub session_id: String,
    /// What it will connect with.
    pub transport: Transport,
    /// Telephony provider, or empty.
    pub provider: String,
    /// The provider's call id, or empty.
    pub call_id: String,
    /// Template variables as JSON, or empty.
    pub body_json: String,
}

impl App {
    /// Reserves a slot for a session on a media node and writes its record.
    pub async fn reserve(&self, new: &NewSession, slot_ttl: Duration) -> Result<NodeRecord, PlaceError> {
        let request = CreateSessionRequest {
            session_id: new.session_id.clone(),
            transport: new.transport.into(),
            provider: new.provider.clone(),
            body_json: new.body_json.clone(),
            call_id: new.call_id.clone(),
            reservation_ttl_secs: u32::try_from(slot_ttl.as_secs()).unwrap_or(u32::MAX),
        };
        let trace = placement_trace(&new.session_id, new.transport);
        let logged = placement_lines(&new.session_id, &trace);
        let placed = self.place(new.transport, |nodes, url| {
            let (request, parent) = (request.clone(), trace.parent());
            async move {
                let asking = Span::within("CreateSession", Side::Client, &parent);
                let answer = nodes.create_session(&url, request, &asking.parent()).await;
                answer.inspect_err(|_| asking.fail("the node has not taken it"))
            }
        });
        let placed = placed.instrument(logged.clone()).await;
        let (node, _) = placed.inspect_err(|_| trace.fail("no node has taken it"))?;
        trace.set("voxray.node", node.node_id.clone());
        let record = new.record(Some(&node.node_id), SessionState::Reserved);
        if let Err(error) = self.store.put_session(&record, TOKEN_TTL).await {
            self.release(&node, &new.session_id).await;
            return Err(error.into());
        }
        logged.in_scope(|| say_placed(&node, new.transport));
        Ok(node)
    }

    /// Asks the candidates for a transport one after the other until one takes the session.
    pub async fn place<T, Ask, Answer>(&self, transport: Transport, ask: Ask) -> Result<(NodeRecord, T), PlaceError>
    where
        Ask: Fn(Arc<MediaNodes>, String) -> Answer,
        Answer: Future<Output = Result<T, Status>>,
    {
        let placed = self.try_candidates(transport, ask).await;
        let outcome = match &placed {
            Ok(_) => "placed",
            Err(PlaceError::Rejected(_)) => return placed,
            Err(PlaceError::NoNode(_) | PlaceError::NotRecorded(_) | PlaceError::Store(_)) => "none",
        };
        PLACEMENTS.with_label_values(&[outcome]).inc();
        placed
    }

    async fn try_candidates<T, Ask, Answer>(
        &self,
        transport: Transport,
        ask: Ask,
    ) -> Result<(NodeRecord, T), PlaceError>
    where
        Ask: Fn(Arc<MediaNodes>, String) -> Answer,
        Answer: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + PLACEMENT_DEADLINE;
        let nodes = self.store.nodes().await?;
        let wanted = Wanted {
            transport: name(transport),
            zone: self.config.zone.as_deref(),
        };
        let mut not_recorded = None;
        let mut candidates = placement::candidates(&nodes, wanted, rand::random)?;
        // Those whose last slot another instance has taken in this moment. When nobody else has one they are asked all
        // the same: what was placed may have been given back, and the node knows best.
        let mut taken = VecDeque::new();
        let mut next = move |taken: &mut VecDeque<_>| match candidates.next() {
            Some(candidate) => Some((candidate.node, candidate.has_slot)),
            None => taken.pop_front().map(|node| (node, false)),
        };
        while let Some((node, has_slot)) = next(&mut taken) {
            if Instant::now() > deadline {
                tracing::warn!("media nodes take too long to answer; a new session is given up");
                break;
            }
            let ticket = format!("{:032x}", rand::random::<u128>());
            if has_slot && !self.store.place(&node.node_id, &ticket).await? {
                taken.push_back(node);
                continue;
            }
            match ask(Arc::clone(&self.nodes), node.control_url.clone()).await {
                Ok(answer) => return Ok((node.clone(), answer)),
                Err(status) => {
                    if has_slot && let Err(error) = self.store.unplace(&node.node_id, &ticket).await {
                        tracing::debug!(%error, "a node counts as fuller than it is until it reports");
                    }
                    if status.code() == Code::InvalidArgument {
                        return Err(PlaceError::Rejected(status));
                    }
                    PLACEMENTS.with_label_values(&[refusal(&status)]).inc();
                    tracing::debug!(media_node = %node.node_id, code = ?status.code(), "asking the next node");
                    if status.code() == Code::Aborted {
                        not_recorded = Some(status.message().to_owned());
                    }
                    if status.code() == Code::Unauthenticated {
                        tracing::warn!(media_node = %node.node_id, "a media node refuses our service_token: all services need the same one");
                    }
                }
            }
        }
        Err(not_recorded.map_or_else(|| NoNode::NoRoom(name(transport)).into(), PlaceError::NotRecorded))
    }

    /// Gives back a slot that is not needed after all. Best effort: it also ends by itself.
    pub async fn release(&self, node: &NodeRecord, session_id: &str) {
        let request = EndSessionRequest {
            session_id: session_id.to_owned(),
            reason: "not needed any more".to_owned(),
        };
        if let Err(status) = self.nodes.end_session(&node.control_url, request).await {
            tracing::debug!(media_node = %node.node_id, code = ?status.code(), "a reserved slot is left to expire");
        }
    }

    /// A stream token for a session, void after [`TOKEN_TTL`]. `body_json` is left out when it would make the token
    /// too long for a URL.
    pub fn token(&self, new: &NewSession, body_json: &str) -> String {
        self.signer.sign(&Claims {
            session_id: new.session_id.clone(),
            transport: name(new.transport).to_owned(),
            provider: new.provider.clone(),
            call_id: new.call_id.clone(),
            expires_at: unix_now().as_secs() + TOKEN_TTL.as_secs(),
            body_json: Some(body_json)
                .filter(|body| body.len() <= MAX_TOKEN_BODY_BYTES)
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// Makes the token of a session that is being ended good for nothing, where it was not used. Remembered for longer than
    /// any token is valid.
    pub async fn void(&self, session_id: &str) -> Result<(), StoreError> {
        self.store.void_session(session_id, 2 * TOKEN_TTL).await
    }

    /// Life of a session between two signs of life.
    pub fn session_ttl(&self) -> Duration {
        Duration::from_secs(self.config.store.session_ttl_secs.max(1))
    }

    /// The report of a node that is alive.
    pub async fn node(&self, node_id: &str) -> Result<Option<NodeRecord>, PlaceError> {
        let nodes = self.store.nodes().await?;
        Ok(nodes.into_iter().find(|node| node.node_id == node_id))
    }
}

impl NewSession {
    /// Its record as of now.
    pub fn record(&self, node_id: Option<&str>, state: SessionState) -> SessionRecord {
        SessionRecord {
            session_id: self.session_id.clone(),
            created_at_unix_ms: u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX),
            transport: name(self.transport).to_owned(),
            provider: self.provider.clone(),
            call_id: self.call_id.clone(),
            node_id: node_id.map(str::to_owned),
            state,
            body_json: self.body_json.clone(),
        }
    }
}

/// Time since the Unix epoch.
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The trace of a call begins where a node is chosen for it.
pub fn placement_trace(session_id: &str, transport: Transport) -> Span {
    let trace = Span::start("place session", Side::Internal, &Parent::default());
    trace.set("voxray.session_id", session_id.to_owned());
    trace.set("voxray.transport", name(transport));
    trace
}

/// What is logged while a node is chosen says for which session and in which trace. Always enabled: a warning has to say
/// it, whatever the level.
pub fn placement_lines(session_id: &str, trace: &Span) -> tracing::Span {
    tracing::error_span!("place", session_id, trace_id = trace.parent().trace_id())
}

/// Logs where a session is. `node` is this process's own name in every line.
pub fn say_placed(node: &NodeRecord, transport: Transport) {
    tracing::info!(media_node = %node.node_id, transport = name(transport), "session placed");
}

/// A transport as records and reports spell it.
pub fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Telephony => "telephony",
        Transport::Websocket => "websocket",
        Transport::Webrtc => "webrtc",
        Transport::Unspecified => "unspecified",
    }
}

/// A node that answered no is `refused`; one that gave no answer, or none that makes sense, `unreachable`.
fn refusal(status: &Status) -> &'static str {
    match status.code() {
        Code::ResourceExhausted | Code::FailedPrecondition | Code::Aborted => "refused",
        // A draining node says UNAVAILABLE itself; a failed connection carries its cause as the source.
        Code::Unavailable if std::error::Error::source(status).is_none() => "refused",
        _ => "unreachable",
    }
}
