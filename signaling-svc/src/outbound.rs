//! Calls that this deployment places: a slot on a media node, a call at the provider, and what became of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use carriers::{Answer, CarrierError, PlaceCall};
use serde::{Deserialize, Serialize};
use service_kit::config::Secret;
use service_kit::http::ApiError;
use service_kit::signatures::is_secret;
use service_kit::token::Claims;
use session_store::{SessionRecord, SessionState};
use tonic::Code;
use voxray_proto::control::{AnsweredBy as WireAnsweredBy, ReportAnsweredByRequest, Transport};

use crate::app::{App, NewSession, unix_now};
use crate::error::store_error;
use crate::routes::Placed;
use crate::telephony::progress::{AnsweredBy, CallState, Report};
use crate::telephony::{CALL_QUERY, CallFacts, Provider, SECRET_QUERY};
use crate::urls;

/// How long a slot waits for somebody to answer the phone: providers ring for two minutes at most unless asked.
const RING_TTL: Duration = Duration::from_secs(180);
/// Life of the token in the URLs that the provider calls: reports come until the call has ended.
const REPORT_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long it can be seen what became of a call.
const CALL_TTL: Duration = Duration::from_secs(24 * 3600);
/// How long a node is told who has answered: the stream comes within a second or two of the answer.
const TELL_FOR: Duration = Duration::from_secs(15);
/// How often it is tried meanwhile.
const TELL_EVERY: Duration = Duration::from_millis(300);
/// `transport` of that token: it opens no socket.
const TOKEN_KIND: &str = "call";
/// `transport` of what is signed for a reference; such a token is never given to anybody.
const REFERENCE_KIND: &str = "call reference";
/// 128 bits in base64, rounded up.
const REFERENCE_SIGNATURE_CHARS: usize = 22;

/// What is wanted; checked by the caller.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Becomes the session's id.
    pub session_id: String,
    /// Who places it.
    pub provider: Provider,
    /// Number to call, E.164.
    pub to: String,
    /// Number to show, E.164.
    pub from: String,
    /// Template variables as JSON, or empty.
    pub body_json: String,
    /// Whether the provider listens for an answering machine.
    pub machine_detection: bool,
    /// Scheme and host under which the provider reaches this server.
    pub public_base: String,
}

/// A call as it is kept in the session store, under the session's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundCall {
    /// Provider.
    pub provider: String,
    /// The provider's id of the call.
    pub call_id: String,
    /// Where the call is.
    pub state: CallState,
    /// When the session was made.
    pub created_at_unix_ms: u64,
}

/// Places a call; its stream will find a slot on a media node. From the provider's yes on there is no error any more:
/// whoever hears of one asks again, and the phone rings twice.
///
/// Errors: as the API shows them; nothing is left behind, unless it is not known what the provider has done: then the
/// call may exist, and its slot waits for it.
pub async fn place(app: &App, wanted: &Wanted) -> Result<OutboundCall, ApiError> {
    let new = NewSession {
        session_id: wanted.session_id.clone(),
        transport: Transport::Telephony,
        provider: wanted.provider.name().to_owned(),
        call_id: String::new(),
        body_json: wanted.body_json.clone(),
    };
    let node = app
        .reserve(&new, RING_TTL)
        .await
        .map_err(|error| error.into_api("body"))?;
    let created_at_unix_ms = u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX);
    let token = report_token(app, wanted);
    let answer = match wanted.provider {
        // Asked for its document when it is answered: the stream's token is made then, and knows the call.
        Provider::Twilio | Provider::Plivo | Provider::Vonage => Answer::Document(callback(app, wanted, &token, "")),
        Provider::Telnyx => {
            let stream = app.token(&new, "");
            Answer::Stream(format!(
                "{}/telephony/ws/{stream}",
                urls::media_base(&app.config, &node)
            ))
        }
        Provider::Exotel => Answer::Flow,
    };
    let call = PlaceCall {
        to: wanted.to.clone(),
        from: wanted.from.clone(),
        answer,
        status_url: Some(callback(app, wanted, &token, "/status")),
        machine_detection: wanted.machine_detection,
        reference: Some(reference(app, wanted.provider, &wanted.session_id)),
    };
    match app.carriers.place_call(wanted.provider.name(), &call).await {
        Ok(placed) => {
            let call = OutboundCall {
                provider: new.provider.clone(),
                call_id: placed.call_id,
                state: CallState::Queued,
                created_at_unix_ms,
            };
            // A report may have been faster, and if the store is away the next one is as good.
            if let Err(error) = remember(app, &new.session_id, &call).await {
                tracing::warn!(session_id = %new.session_id, %error, "an outbound call is listed with its provider's first report only");
            }
            tracing::info!(session_id = %new.session_id, provider = %new.provider, media_node = %node.node_id, "outbound call placed");
            Ok(call)
        }
        Err(error) => {
            if !error.may_have_been_done() {
                app.release(&node, &new.session_id).await;
                if let Err(error) = app.store.remove_session(&new.session_id).await {
                    tracing::debug!(%error, "the session of a call that was not placed is left to expire");
                }
            }
            tracing::warn!(session_id = %new.session_id, provider = %new.provider, %error, "an outbound call was not placed");
            Err(refused(error))
        }
    }
}

/// The provider's refusal as the API shows it.
fn refused(error: CarrierError) -> ApiError {
    let message = error.to_string();
    if error.may_have_been_done() {
        return ApiError::GatewayTimeout(format!("{message}: whether the call was placed is not known"));
    }
    match error {
        CarrierError::NotConfigured { .. } | CarrierError::NotSupported { .. } => {
            ApiError::invalid_field("provider", message)
        }
        CarrierError::Invalid(_) => ApiError::invalid_field("to", message),
        CarrierError::Refused { .. } => ApiError::Validation {
            message,
            details: Vec::new(),
        },
        CarrierError::Unauthorized { .. }
        | CarrierError::NotFound
        | CarrierError::Unavailable { .. }
        | CarrierError::TimedOut(_) => ApiError::BadGateway(message),
        CarrierError::RateLimited { retry_after } => ApiError::Unavailable {
            message,
            retry_after: retry_after.unwrap_or(Duration::from_secs(1)),
        },
    }
}

fn report_token(app: &App, wanted: &Wanted) -> String {
    app.signer.sign(&Claims {
        session_id: wanted.session_id.clone(),
        transport: TOKEN_KIND.to_owned(),
        provider: wanted.provider.name().to_owned(),
        call_id: String::new(),
        expires_at: unix_now().as_secs() + REPORT_TTL.as_secs(),
        body_json: String::new(),
    })
}

/// `https://…/telephony/{provider}{path}?call={token}`
fn callback(app: &App, wanted: &Wanted, token: &str, path: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(CALL_QUERY, token);
    if let (Provider::Exotel, Some(secret)) = (wanted.provider, &app.config.telephony.exotel_webhook_secret) {
        query.append_pair(SECRET_QUERY, secret.expose());
    }
    let (base, provider) = (&wanted.public_base, wanted.provider.name());
    format!("{base}/telephony/{provider}{path}?{}", query.finish())
}

/// Names a call where there is no room for a token (Exotel takes 128 characters): the session's id, and the first half of
/// the signature of a token for it. It has no end of its own; it is good for as long as its session.
fn reference(app: &App, provider: Provider, session_id: &str) -> String {
    let signed = app.signer.sign(&Claims {
        session_id: session_id.to_owned(),
        transport: REFERENCE_KIND.to_owned(),
        provider: provider.name().to_owned(),
        call_id: String::new(),
        expires_at: 0,
        body_json: String::new(),
    });
    let (_, signature) = signed.rsplit_once('.').unwrap_or_default();
    let half = signature.get(..REFERENCE_SIGNATURE_CHARS).unwrap_or_default();
    format!("{session_id}.{half}")
}

/// Whether this is such a name.
pub fn is_reference(app: &App, provider: Provider, text: &str) -> bool {
    referenced(app, provider, text).is_some()
}

fn referenced<'a>(app: &App, provider: Provider, text: &'a str) -> Option<&'a str> {
    let (session_id, _) = text.rsplit_once('.')?;
    is_secret(text, &Secret::new(reference(app, provider, session_id))).then_some(session_id)
}

fn session_of(app: &App, provider: Provider, token: &str) -> Result<String, ApiError> {
    if let Some(session_id) = referenced(app, provider, token) {
        return Ok(session_id.to_owned());
    }
    let claims = app.signer.verify(token, SystemTime::now());
    let claims = claims.map_err(|error| ApiError::Forbidden(format!("{error}: this is no call of this server")))?;
    if claims.transport == TOKEN_KIND && claims.provider == provider.name() {
        Ok(claims.session_id)
    } else {
        Err(ApiError::Forbidden(
            "this token is for something else: this is no call of this server".to_owned(),
        ))
    }
}

/// Somebody has answered: the session that waits for the stream, and its node. A node that is gone is replaced. `None`
/// when nobody waits for the call any more: it was given up while it rang, and is to end.
///
/// Errors: 403 for a token that is not ours.
pub async fn answered(
    app: &Arc<App>,
    provider: Provider,
    token: &str,
    facts: &CallFacts,
) -> Result<Option<Placed>, ApiError> {
    let session_id = session_of(app, provider, token)?;
    let record = match app.store.session(&session_id).await {
        Ok(Some(record)) => record,
        Ok(None) => {
            cancel(app, &session_id).await;
            return Ok(None);
        }
        Err(error) => return Ok(Some(Err(error.into()))),
    };
    // Not every provider reports that; where one does, it may come later.
    if let Err(error) = progressed(app, provider, &session_id, CallState::Answered, &facts.call_id).await {
        tracing::debug!(%session_id, %error, "that a call was answered is not noted");
    }
    let new = NewSession {
        session_id,
        transport: Transport::Telephony,
        provider: provider.name().to_owned(),
        call_id: facts.call_id.clone(),
        body_json: record.body_json,
    };
    let node = match &record.node_id {
        Some(node_id) => app.node(node_id).await,
        None => Ok(None),
    };
    let placed = match node {
        Ok(Some(node)) => Ok(node),
        Ok(None) => app.reserve(&new, RING_TTL).await,
        Err(error) => Err(error),
    };
    Ok(Some(placed.map(|node| (new, node, String::new()))))
}

/// Takes a report about a call: what is late, or comes twice, changes nothing. A call that ends before its stream has
/// begun gives its slot back.
///
/// Errors: 403 for a token that is not ours, 503 when the store does not answer.
pub async fn report(app: &Arc<App>, provider: Provider, token: &str, report: Report) -> Result<(), ApiError> {
    let session_id = session_of(app, provider, token)?;
    if let Some(by) = report.answered_by {
        let (key, value) = (answered_by_key(&session_id), word(&by));
        let advanced = app.store.advance(&key, by.rank(), &value, CALL_TTL).await;
        if advanced.map_err(store_error)? {
            // Not awaited: the stream may still be on its way, and the provider is waiting for its answer.
            let (telling, session_id) = (Arc::clone(app), session_id.clone());
            app.tasks.spawn("tell who answered", async move {
                tell_node(&telling, &session_id, by).await;
            });
        }
    }
    let Some(state) = report.state else {
        return Ok(());
    };
    progressed(app, provider, &session_id, state, &report.call_id).await?;
    // Also when it was noted before: whoever noted it may not have come to this.
    if state.is_over() {
        clear(app, &session_id).await?;
    }
    Ok(())
}

/// Notes where a call is, unless more is known.
async fn progressed(
    app: &App,
    provider: Provider,
    session_id: &str,
    state: CallState,
    call_id: &str,
) -> Result<(), ApiError> {
    let known = call(app, session_id).await?;
    let call = OutboundCall {
        provider: provider.name().to_owned(),
        call_id: known
            .as_ref()
            .map_or(call_id, |known| known.call_id.as_str())
            .to_owned(),
        state,
        created_at_unix_ms: known.as_ref().map_or_else(
            || u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX),
            |known| known.created_at_unix_ms,
        ),
    };
    let noted = remember(app, session_id, &call).await.map_err(store_error)?;
    if noted {
        tracing::info!(%session_id, provider = provider.name(), state = %word(&state), "outbound call");
    }
    Ok(())
}

/// Ends the call of a session whose stream has not begun, if this deployment placed one and it is not over: no media
/// node knows of it.
pub async fn cancel(app: &Arc<App>, session_id: &str) {
    match call(app, session_id).await {
        Ok(Some(call)) if !call.state.is_over() => {
            hang_up(app, call.provider, call.call_id, session_id.to_owned());
        }
        Ok(Some(_) | None) => {}
        Err(error) => tracing::warn!(session_id, %error, "whether a call still rings is not known"),
    }
}

/// Tells the provider that a call is over. Not awaited: it may take seconds.
fn hang_up(app: &Arc<App>, provider: String, call_id: String, session_id: String) {
    if call_id.is_empty() || !app.carriers.can_hang_up(&provider) {
        return;
    }
    let telling = Arc::clone(app);
    app.tasks.spawn("end a call", async move {
        if let Err(error) = telling.carriers.hang_up(&provider, &call_id).await {
            tracing::warn!(%session_id, provider, %error, "the phone provider could not be told that a call is over");
        }
    });
}

/// Tells the media node who has answered, as soon as the call is connected there.
async fn tell_node(app: &App, session_id: &str, by: AnsweredBy) {
    let request = ReportAnsweredByRequest {
        session_id: session_id.to_owned(),
        answered_by: match by {
            AnsweredBy::Human => WireAnsweredBy::Human,
            AnsweredBy::Machine => WireAnsweredBy::Machine,
            AnsweredBy::MachineBeep => WireAnsweredBy::MachineReady,
        }
        .into(),
    };
    let telling = async {
        // Until the session is over, and with it the wish to know.
        while let Ok(Some(record)) = app.store.session(session_id).await {
            if let Some(node_id) = &record.node_id
                && let Ok(Some(node)) = app.node(node_id).await
            {
                match app.nodes.report_answered_by(&node.control_url, request.clone()).await {
                    Ok(()) => return,
                    // Its stream is still to come or to begin, or the node is busy for a moment.
                    Err(status)
                        if matches!(
                            status.code(),
                            Code::NotFound | Code::Unavailable | Code::DeadlineExceeded
                        ) => {}
                    Err(status) => {
                        tracing::debug!(session_id, code = ?status.code(), "a media node was not told who answered");
                        return;
                    }
                }
            }
            tokio::time::sleep(TELL_EVERY).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(TELL_FOR, telling) => {}
        () = app.tasks.cancelled() => {}
    }
}

/// Frees the slot of a call whose stream never began; a stream that runs ends by itself.
pub async fn clear(app: &App, session_id: &str) -> Result<(), ApiError> {
    let record = app.store.session(session_id).await.map_err(store_error)?;
    let Some(SessionRecord {
        node_id,
        state: SessionState::Reserved,
        ..
    }) = record
    else {
        return Ok(());
    };
    app.void(session_id).await.map_err(store_error)?;
    if let Some(node_id) = node_id
        && let Ok(Some(node)) = app.node(&node_id).await
    {
        app.release(&node, session_id).await;
    }
    app.store.remove_session(session_id).await.map_err(store_error)
}

/// What is known about the call of a session, if this deployment placed one.
pub async fn call(app: &App, session_id: &str) -> Result<Option<OutboundCall>, ApiError> {
    let kept = app.store.progress(&call_key(session_id)).await.map_err(store_error)?;
    kept.map(|json| serde_json::from_str(&json).map_err(ApiError::internal))
        .transpose()
}

/// Who took that call, where it was found out.
pub async fn answered_by(app: &App, session_id: &str) -> Result<Option<AnsweredBy>, ApiError> {
    let kept = app
        .store
        .progress(&answered_by_key(session_id))
        .await
        .map_err(store_error)?;
    Ok(kept.and_then(|word| serde_json::from_value(word.into()).ok()))
}

async fn remember(app: &App, session_id: &str, call: &OutboundCall) -> Result<bool, session_store::StoreError> {
    let json = serde_json::to_string(call).unwrap_or_default();
    app.store
        .advance(&call_key(session_id), call.state.rank(), &json, CALL_TTL)
        .await
}

/// A state as it is spelled on the wire.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

fn call_key(session_id: &str) -> String {
    format!("call:{session_id}")
}

fn answered_by_key(session_id: &str) -> String {
    format!("answered-by:{session_id}")
}
