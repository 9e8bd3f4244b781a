//! `GET /sessions`, `GET /sessions/{id}`, `DELETE /sessions/{id}`.

use std::sync::Arc;

use axum::extract::{Path, State};
use serde::Serialize;
use service_kit::http::{ApiError, Data};
use session_store::{SessionRecord, SessionState};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::Code;
use utoipa::ToSchema;
use voxray_proto::control::{EndSessionRequest, MediaReport, Transport};

use crate::app::{App, name, unix_now};
use crate::error::store_error;
use crate::outbound::{self, OutboundCall};
use crate::telephony::progress::{AnsweredBy, CallState};

/// All live sessions, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionList {
    sessions: Vec<SessionView>,
}

/// A session as the API shows it: no template variables, no phone numbers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// UUID.
    session_id: String,
    /// Media node chosen or owning; absent before one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// `telephony`, `websocket`, `webrtc`.
    transport: String,
    /// Telephony provider; absent for others.
    #[serde(skip_serializing_if = "String::is_empty")]
    provider: String,
    /// The provider's id of the call; absent for others.
    #[serde(skip_serializing_if = "String::is_empty")]
    call_id: String,
    /// `created`, `reserved`, `connected`, `ending`; `ended` for the call of a session that is over.
    state: &'static str,
    /// What became of the phone call, if this deployment placed it; can be seen for a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<CallView>,
    /// What the media is like, measured every two seconds; only of a live WebRTC session that is asked for by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<MediaView>,
    /// RFC 3339, UTC.
    created_at: String,
    /// Since then.
    age_seconds: f64,
}

/// An outbound call as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// `queued`, `ringing`, `answered`, `completed`, `busy`, `no-answer`, `failed`, `canceled`.
    #[schema(value_type = String)]
    state: CallState,
    /// `human`, `machine`, `machine-beep`; absent while the provider has said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    answered_by: Option<AnsweredBy>,
}

/// What the media of a session is like, as `RTCPeerConnection.getStats()` tells it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MediaView {
    /// Round trip time; 0 until it was measured.
    rtt_ms: f64,
    /// Jitter of the caller's audio (RFC 3550).
    jitter_ms: f64,
    /// Part of the caller's audio that did not come in time, since the session began.
    loss_percent: f64,
    /// How long the jitter buffer waits for a missing packet.
    jitter_buffer_ms: f64,
}

impl From<MediaReport> for MediaView {
    fn from(media: MediaReport) -> Self {
        Self {
            rtt_ms: media.rtt_ms,
            jitter_ms: media.jitter_ms,
            loss_percent: media.loss_percent,
            jitter_buffer_ms: media.jitter_buffer_ms,
        }
    }
}

/// Confirms that a session was told to end.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    session_id: String,
    /// Always true.
    ended: bool,
}

/// Lists the live sessions of all nodes. What was connected to a node that reports no more is over.
#[utoipa::path(get, path = "/sessions", tag = "sessions",
    responses((status = 200, description = "`data.sessions`", body = SessionList)))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Data<SessionList>, ApiError> {
    let records = app.store.sessions().await.map_err(store_error)?;
    let nodes = app.store.nodes().await.map_err(store_error)?;
    let live = records.into_iter().filter(|record| !record.is_orphaned(&nodes));
    Ok(Data(SessionList {
        sessions: live.map(SessionView::from).collect(),
    }))
}

/// Shows one session.
#[utoipa::path(get, path = "/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Session id")),
    responses((status = 200, description = "`data`", body = SessionView), (status = 404, description = "Unknown, expired or finished; a finished session is in the archive: `/sessions/{id}/transcript`")))]
pub async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Data<SessionView>, ApiError> {
    let record = app.store.session(&id).await.map_err(store_error)?;
    let nodes = app.store.nodes().await.map_err(store_error)?;
    let record = record.filter(|record| !record.is_orphaned(&nodes));
    let call = outbound::call(&app, &id).await?;
    let mut view = match (record, &call) {
        (Some(record), _) => SessionView::from(record),
        (None, Some(call)) => SessionView::ended(&id, call),
        (None, None) => return Err(unknown()),
    };
    if let Some(call) = call {
        view.call_id = call.call_id;
        view.call = Some(CallView {
            state: call.state,
            answered_by: outbound::answered_by(&app, &id).await?,
        });
    }
    view.media = media(&app, &view).await;
    Ok(Data(view))
}

/// What the node says of a WebRTC session's media; nothing when it does not answer: the rest is worth showing.
async fn media(app: &App, view: &SessionView) -> Option<MediaView> {
    if view.transport != name(Transport::Webrtc) {
        return None;
    }
    let node = app.node(view.node.as_deref()?).await.ok()??;
    let session = app.nodes.session(&node.control_url, &view.session_id).await.ok()??;
    session.media.map(MediaView::from)
}

/// Ends a session on the node that owns it, whichever instance is asked.
#[utoipa::path(delete, path = "/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "Session id")),
    responses((status = 200, description = "It ends", body = Ended), (status = 404, description = "Unknown or expired"),
        (status = 503, description = "Its media node does not answer")))]
pub async fn end(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Data<Ended>, ApiError> {
    let found = find(&app, &id).await?;
    // Before its node is told: a stream that comes in between is none of this session's.
    app.void(&found.session_id).await.map_err(store_error)?;
    // Again: a node may have got it between the two.
    let record = app.store.session(&id).await.map_err(store_error)?.unwrap_or(found);
    let owner = match &record.node_id {
        Some(node_id) => app.node(node_id).await.map_err(|error| error.into_api("id"))?,
        None => None,
    };
    let told = match owner {
        Some(node) => {
            let request = EndSessionRequest {
                session_id: record.session_id.clone(),
                reason: "ended through the API".to_owned(),
            };
            app.nodes.end_session(&node.control_url, request).await
        }
        // No node has it, or the node is gone and the call with it.
        None => Err(tonic::Status::not_found("no node")),
    };
    match told {
        // The node removes the record when the call has ended.
        Ok(()) if matches!(record.state, SessionState::Connected | SessionState::Ending) => {}
        // One that never began had nothing but a slot, and perhaps a phone that rings.
        Ok(()) => unbegun(&app, &record).await?,
        Err(status) if status.code() == Code::NotFound => unbegun(&app, &record).await?,
        Err(status) => {
            tracing::warn!(session_id = %record.session_id, code = ?status.code(), "a session could not be ended");
            return Err(ApiError::unavailable(
                "the media node that owns the session does not answer",
            ));
        }
    }
    tracing::info!(session_id = %record.session_id, "session ended through the API");
    Ok(Data(Ended {
        session_id: record.session_id,
        ended: true,
    }))
}

async fn unbegun(app: &Arc<App>, record: &SessionRecord) -> Result<(), ApiError> {
    outbound::cancel(app, &record.session_id).await;
    app.store.remove_session(&record.session_id).await.map_err(store_error)
}

pub(super) async fn find(app: &App, id: &str) -> Result<SessionRecord, ApiError> {
    let record = app.store.session(id).await.map_err(store_error)?;
    record.ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::NotFound("there is no live session with this id".to_owned())
}

impl SessionView {
    /// A session that is over: what is left of it is its call.
    fn ended(session_id: &str, call: &OutboundCall) -> Self {
        Self {
            state: "ended",
            ..Self::from(SessionRecord {
                session_id: session_id.to_owned(),
                created_at_unix_ms: call.created_at_unix_ms,
                transport: name(Transport::Telephony).to_owned(),
                provider: call.provider.clone(),
                call_id: call.call_id.clone(),
                node_id: None,
                state: SessionState::Ending,
                body_json: String::new(),
            })
        }
    }
}

impl From<SessionRecord> for SessionView {
    fn from(record: SessionRecord) -> Self {
        let now_ms = u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX);
        let age_ms = now_ms.saturating_sub(record.created_at_unix_ms);
        let created = OffsetDateTime::from_unix_timestamp_nanos(i128::from(record.created_at_unix_ms) * 1_000_000);
        Self {
            session_id: record.session_id,
            node: record.node_id,
            transport: record.transport,
            provider: record.provider,
            call_id: record.call_id,
            state: match record.state {
                SessionState::Created => "created",
                SessionState::Reserved => "reserved",
                SessionState::Connected => "connected",
                SessionState::Ending => "ending",
            },
            call: None,
            media: None,
            created_at: created.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default(),
            age_seconds: std::time::Duration::from_millis(age_ms).as_secs_f64(),
        }
    }
}
