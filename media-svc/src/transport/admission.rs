//! Who may open a socket: token, ownership, a free slot, room in the outbox. All of it before the upgrade.

mod kept;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use carriers::Carriers;
use media_core::conversation::{EndReason, Input};
use media_core::recorder::Channels;
use media_core::redact::Redactor;
use serde_json::Value;
use service_kit::config::{Config, MediaTransport};
use service_kit::http::ApiError;
use service_kit::tasks::{AbortOnDrop, TaskScope};
use service_kit::token::Claims;
use service_kit::trace::{Parent, Side, Span};
use session_store::{Claim, NODE_TTL, SessionRecord, SessionState, Store, StoreError, patiently};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::Instrument;

use super::overdue::Duty;
use super::{HeldStreams, Overdue, Relays, Timeouts, WebRtc};
use crate::archive::{ArchiveSession, ArchiveSink};
use crate::call::phone::PhoneLine;
use crate::call::registry::{Arrival, Calls, MediaReport, Refusal, Slot, transport_name};
use crate::call::{self, CallSetup, CallerLink, TransportTraits, conversation_settings};
use crate::providers::Providers;
use kept::KeptSession;

/// Inputs waiting for a call: when full, providers are held back until the call has caught up.
const CALL_INPUTS: usize = 256;

/// Everything that a socket needs to become a call.
pub struct Gate {
    /// Configuration.
    pub config: Arc<Config>,
    /// This node's name.
    pub node_id: Arc<str>,
    /// Sessions, tokens and claims.
    pub store: Arc<dyn Store>,
    /// Live calls and reservations.
    pub calls: Calls,
    /// Where calls are archived; `None` when neither recordings nor transcripts are wanted.
    pub archive: Option<Arc<dyn ArchiveSink>>,
    /// Takes out of transcripts what must not be kept.
    pub redactor: Option<Arc<Redactor>>,
    /// Recognition, answers, voice.
    pub providers: Providers,
    /// The phone providers' APIs.
    pub carriers: Carriers,
    /// Parent of all calls.
    pub scope: TaskScope,
    /// Changes whenever the store has to be told again of every call.
    pub store_restores: watch::Receiver<Option<Instant>>,
    /// How long a far end may take for what.
    pub timeouts: Timeouts,
    /// Phone streams that may come back after a cut.
    pub held: HeldStreams,
    /// Sockets that are passed on to the nodes that have their calls, or keep their slots.
    pub relays: Relays,
    /// What the store could not be told yet.
    pub overdue: Overdue,
    /// WebRTC, where this node serves it.
    pub webrtc: Option<WebRtc>,
}

/// Why a session is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// Another node has it.
    #[error("node {0} has this session")]
    OwnedBy(String),
    /// This node does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be recorded.
    #[error("this call could not be recorded: {0}")]
    NotRecordable(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NotAdmitted> for ApiError {
    fn from(why: NotAdmitted) -> Self {
        match why {
            NotAdmitted::OwnedBy(_) => Self::Conflict(why.to_string()),
            NotAdmitted::Refused(refusal) => refused(refusal),
            NotAdmitted::NotRecordable(_) => Self::unavailable(why.to_string()),
            NotAdmitted::Store(error) => store_away(error),
        }
    }
}

/// A caller who may come in; dropping it gives everything back.
pub struct Admitted {
    /// Session.
    pub session_id: Arc<str>,
    /// Provider's call id that the stream must carry, or empty.
    pub call_id: String,
    /// Telephony provider, or empty.
    pub provider: String,
    body: Value,
    record: SessionRecord,
    /// From now on, not from the first word on: a client may take its time to introduce itself.
    renewal: AbortOnDrop,
    slot: Slot,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    archive: Option<Arc<dyn ArchiveSession>>,
}

impl Admitted {
    /// Lets the control plane see what the session's media is like.
    pub fn watch_media(&self, media: watch::Receiver<MediaReport>) {
        self.slot.watch_media(media);
    }

    /// The session's trace, for log lines.
    pub fn trace_id(&self) -> Option<String> {
        self.slot.trace().trace_id()
    }

    /// The session's trace goes on from here, unless it was announced with one.
    pub fn continue_trace(&mut self, trace: Parent) {
        if self.slot.trace().trace_id().is_none() {
            self.slot.set_trace(trace);
        }
    }

    /// Resolves when the session is told to end although its call has not begun; nothing else is asked of such a session.
    /// Never while nobody knows which call it is: the stream's start tells, and then the provider can be told.
    pub async fn told_to_end(&mut self) {
        if self.call_id.is_empty() {
            return std::future::pending().await;
        }
        while let Some(input) = self.inputs.1.recv().await {
            if matches!(input, Input::EndRequested { .. }) {
                return;
            }
        }
    }
}

impl Gate {
    /// Whether a call could be recorded now: asked before a token or a signature is used up.
    ///
    /// # Errors
    /// [`NotAdmitted::NotRecordable`].
    pub fn check_recordable(&self, transport: MediaTransport) -> Result<(), NotAdmitted> {
        let Some(archive) = &self.archive else { return Ok(()) };
        archive.check().map_err(|error| {
            self.calls.count_unrecordable(transport);
            NotAdmitted::NotRecordable(error.to_string())
        })
    }

    /// Lets a session in: takes its slot, claims it for this node, opens its archive. Who is not let in leaves nothing
    /// behind.
    ///
    /// # Errors
    /// 409 when another node owns the session or it is connected already; 503 when this node is full, drains, or
    /// cannot record.
    pub async fn admit(&self, claims: Claims, transport: MediaTransport) -> Result<Admitted, ApiError> {
        Ok(self.admit_session(claims, transport).await?)
    }

    /// [`admit`](Self::admit), with the reason as it is.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub async fn admit_session(&self, claims: Claims, transport: MediaTransport) -> Result<Admitted, NotAdmitted> {
        let inputs = mpsc::channel(CALL_INPUTS);
        let arrival = Arrival {
            session_id: claims.session_id.as_str().into(),
            transport,
            provider: claims.provider.clone(),
        };
        // Before the claim: of a refusal, no other node has to know.
        let slot = self.calls.connect(arrival, inputs.0.clone())?;
        let session_id = Arc::clone(slot.session_id());
        let admitted = match self.claim(&session_id).await {
            Ok(()) => self.settle(claims, transport, slot, inputs).await,
            Err(owned @ NotAdmitted::OwnedBy(_)) => return Err(owned),
            // Nobody knows whether it was claimed.
            Err(error) => Err(error),
        };
        if admitted.is_err() {
            match transport {
                // The client may offer again, to another node.
                MediaTransport::WebRtc => self.release(&session_id).await,
                // Its token is used up.
                MediaTransport::Telephony | MediaTransport::WebSocket => self.forget(&session_id).await,
            }
        }
        admitted
    }

    /// Makes this node the owner of a session; of one that a node owns which is gone, too.
    async fn claim(&self, session_id: &str) -> Result<(), NotAdmitted> {
        let ttl = self.session_ttl();
        let owner = match patiently(|| self.store.claim_session(session_id, &self.node_id, ttl)).await? {
            Claim::Owned => return Ok(()),
            Claim::OwnedBy(owner) => owner,
        };
        if !self.is_gone(&owner).await? {
            return Err(NotAdmitted::OwnedBy(owner));
        }
        let taken = patiently(|| self.store.take_over_session(session_id, &owner, &self.node_id, ttl)).await?;
        match taken {
            Claim::Owned => {
                tracing::info!(session_id, owner, "a session is taken over from a node that is gone");
                Ok(())
            }
            Claim::OwnedBy(node) => Err(NotAdmitted::OwnedBy(node)),
        }
    }

    /// Whether a node reports no more. A store that has just come back knows too few to tell.
    async fn is_gone(&self, node_id: &str) -> Result<bool, StoreError> {
        let restored = *self.store_restores.borrow();
        if restored.is_some_and(|at| at.elapsed() < NODE_TTL) {
            return Ok(false);
        }
        let nodes = patiently(|| self.store.nodes()).await?;
        let reports = |id: &str| nodes.iter().any(|node| node.node_id == id);
        Ok(reports(&self.node_id) && !reports(node_id))
    }

    /// Writes down what a session is that has a slot and is this node's.
    async fn settle(
        &self,
        claims: Claims,
        transport: MediaTransport,
        slot: Slot,
        inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    ) -> Result<Admitted, NotAdmitted> {
        let reserved = slot.reservation().map(|reservation| reservation.body_json.clone());
        let announced = match reserved {
            Some(body_json) => body_json,
            // The slot is on another node: behind a balancer that knows no nodes, the stream came here.
            None => {
                let record = patiently(|| self.store.session(&claims.session_id)).await?;
                record.map(|record| record.body_json).unwrap_or_default()
            }
        };
        let body = merged(parsed(&announced), parsed(&claims.body_json));
        let body_json = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let archive = match self.archive.as_ref().map(|archive| archive.open(&claims.session_id)) {
            Some(Ok(archive)) => Some(archive),
            Some(Err(error)) => {
                tracing::warn!(%error, "a call was refused because it could not be recorded");
                self.calls.count_unrecordable(transport);
                return Err(NotAdmitted::NotRecordable(error.to_string()));
            }
            None => None,
        };
        let record = SessionRecord {
            session_id: claims.session_id.clone(),
            created_at_unix_ms: unix_ms(),
            transport: transport_name(transport).to_owned(),
            provider: claims.provider.clone(),
            call_id: claims.call_id.clone(),
            node_id: Some(self.node_id.to_string()),
            state: SessionState::Connected,
            body_json: body_json.clone(),
        };
        let restores = self.restores_from_now_on();
        // While the store still knows it: whose session this is may have to be written again too.
        let tenant = patiently(|| self.store.held_by(&claims.session_id)).await?;
        patiently(|| self.store.put_session(&record, self.session_ttl())).await?;
        Ok(Admitted {
            session_id: Arc::clone(slot.session_id()),
            call_id: claims.call_id,
            provider: claims.provider,
            body,
            renewal: self.keep_session(record.clone(), tenant, restores),
            record,
            slot,
            inputs,
            archive,
        })
    }

    fn session_ttl(&self) -> Duration {
        Duration::from_secs(self.config.store.session_ttl_secs)
    }

    /// Runs the call of an admitted caller to its end, then gives back its slot and its session.
    pub async fn run(
        &self,
        admitted: Admitted,
        body: Value,
        transport: TransportTraits,
        link: CallerLink,
    ) -> EndReason {
        let trace = Span::start("call", Side::Server, admitted.slot.trace());
        // Always enabled: a warning has to say which call it is about, whatever the level.
        let session_id = admitted.session_id.as_ref();
        let logged = tracing::error_span!("call", session_id, trace_id = trace.parent().trace_id());
        let scope = self.scope.child("call").in_span(logged.clone());
        let body = merged(admitted.body, body);
        let line = (transport.name == transport_name(MediaTransport::Telephony)).then(|| {
            let (provider, call_id) = (admitted.provider.clone(), admitted.call_id.clone());
            let transfer_to = self.config.telephony.transfer_to.clone();
            let line = PhoneLine::new(self.carriers.clone(), provider, call_id, transfer_to);
            let line = line.with_way_back(link.way_back.clone());
            Arc::new(line.that_may_live_on(Arc::clone(&link.may_live_on)))
        });
        if let Some(line) = &line {
            admitted.slot.attach(Arc::clone(line));
        }
        let setup = CallSetup {
            session_id: admitted.session_id.clone(),
            node_id: self.node_id.clone(),
            provider: admitted.provider,
            transport,
            settings: conversation_settings(&self.config, transport, &body, line.as_deref()),
            line: line.clone(),
            providers: self.providers.clone(),
            archive: admitted.archive,
            recording_channels: self
                .config
                .recording
                .enable
                .then_some(match self.config.recording.channels {
                    1 => Channels::Mono,
                    _ => Channels::Stereo,
                }),
            redactor: self.redactor.clone(),
            mute_redacted: self.config.recording.mute_redacted,
            link,
            inputs: admitted.inputs,
            slot: admitted.slot,
            scope: scope.clone(),
            trace,
        };
        let reason = call::run(setup).instrument(logged).await;
        // Before the session is forgotten, or it might be written once more.
        admitted.renewal.stop().await;
        if let Some(line) = line {
            line.hang_up_after(&reason, admitted.session_id.clone(), &self.scope);
        }
        self.forget(&admitted.session_id).await;
        reason
    }

    /// Tells the provider that a call is over whose stream had not begun.
    pub fn hang_up_unbegun(&self, admitted: &Admitted) {
        let line = PhoneLine::new(
            self.carriers.clone(),
            admitted.provider.clone(),
            admitted.call_id.clone(),
            Vec::new(),
        );
        Arc::new(line).hang_up_after(&EndReason::Requested, admitted.session_id.clone(), &self.scope);
    }

    /// Says in the store once more that this caller is connected: the control plane has written meanwhile that a node was
    /// chosen.
    pub async fn say_connected(&self, admitted: &Admitted) {
        if let Err(error) = self.store.put_session(&admitted.record, self.session_ttl()).await {
            tracing::warn!(session_id = %admitted.session_id, %error, "a connected session is listed as reserved");
        }
    }

    /// Gives back everything of a caller whose stream never began.
    pub async fn turn_away(&self, admitted: Admitted) {
        drop(admitted.slot);
        admitted.renewal.stop().await;
        self.forget(&admitted.session_id).await;
    }

    /// For an upgrade that does not come about after all: the session is not left behind.
    pub fn forget_unless_upgraded(self: &Arc<Self>, session_id: Arc<str>) -> impl FnOnce(axum::Error) + Send + 'static {
        let gate = Arc::clone(self);
        move |error| {
            tracing::debug!(%session_id, %error, "a connection was lost before its upgrade");
            let scope = gate.scope.clone();
            scope.spawn("lost upgrade", async move { gate.forget(&session_id).await });
        }
    }

    async fn forget(&self, session_id: &Arc<str>) {
        if let Err(error) = self.store.leave_session(session_id, &self.node_id).await {
            tracing::warn!(%session_id, %error, "a session that is over stays listed until the store answers");
            self.overdue.push(Arc::clone(session_id), Duty::Leave);
        }
    }

    async fn release(&self, session_id: &Arc<str>) {
        if let Err(error) = self.store.release_session(session_id, &self.node_id).await {
            tracing::warn!(%session_id, %error, "a session that was refused stays claimed until the store answers");
            self.overdue.push(Arc::clone(session_id), Duty::Release);
        }
    }

    /// Renews the session's life in the store while the call lives, and writes it again when the store has lost it.
    fn keep_session(
        &self,
        record: SessionRecord,
        tenant: Option<String>,
        restores: watch::Receiver<Option<Instant>>,
    ) -> AbortOnDrop {
        let kept = KeptSession {
            store: self.store.clone(),
            node_id: self.node_id.clone(),
            ttl: Duration::from_secs(self.config.store.session_ttl_secs.max(3)),
            tenant,
            record,
        };
        self.scope.spawn_owned("session renewal", kept.keep(restores))
    }

    /// Tells of what the store loses from this moment on.
    fn restores_from_now_on(&self) -> watch::Receiver<Option<Instant>> {
        let mut restores = self.store_restores.clone();
        restores.mark_unchanged();
        restores
    }
}

/// A body as JSON; what is none says nothing.
fn parsed(body_json: &str) -> Value {
    serde_json::from_str(body_json).unwrap_or(Value::Null)
}

/// The earlier body with the later one's fields on top.
fn merged(earlier: Value, later: Value) -> Value {
    match (earlier, later) {
        (Value::Object(mut earlier), Value::Object(later)) => {
            earlier.extend(later);
            Value::Object(earlier)
        }
        (earlier, Value::Null) => earlier,
        (_, later) => later,
    }
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::AlreadyConnected => ApiError::Conflict("this session is connected already".to_owned()),
        Refusal::Full { .. } | Refusal::Draining | Refusal::TransportNotServed(_) => {
            ApiError::unavailable(refusal.to_string())
        }
    }
}

/// What whoever needs the store is told.
pub fn store_away(error: StoreError) -> ApiError {
    ApiError::unavailable(error.to_string())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
