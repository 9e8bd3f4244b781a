//! `/telephony/ws`: a phone provider's media stream.

mod twilio;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use futures_util::StreamExt;
use media_core::conversation::EndReason;
use serde::Deserialize;
use serde_json::Value;
use service_kit::config::MediaTransport;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Gate;
use super::admission::Admitted;
use super::reader::{self, Received};
use super::writer::{self, Closing};
use crate::call::{CallerEvent, PipelineInput, TransportTraits, link};
use crate::metrics::PROTOCOL_ERRORS;

/// How long a provider may take to say which stream this is.
const START_TIMEOUT: Duration = Duration::from_secs(5);

const TRANSPORT: &str = "telephony";

/// Twilio: µ-law at 8 kHz both ways; recordings keep that rate; audio runs at most 200 ms ahead of the clock, so that
/// a `clear` has little to undo.
const TWILIO: TransportTraits = TransportTraits {
    name: TRANSPORT,
    input_rate_hz: 8_000,
    output_rate_hz: 8_000,
    recording_rate_hz: 8_000,
    echoes_marks: true,
    playout_lead: Duration::from_millis(200),
};

/// `?token=`
#[derive(Debug, Deserialize)]
pub struct TokenQuery {
    token: Option<String>,
}

/// `GET /telephony/ws?token=…`
pub async fn open(
    State(gate): State<Arc<Gate>>,
    Query(query): Query<TokenQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    accept(gate, query.token, upgrade).await
}

/// `GET /telephony/ws/{token}`
pub async fn open_with_path_token(
    State(gate): State<Arc<Gate>>,
    Path(token): Path<String>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    accept(gate, Some(token), upgrade).await
}

async fn accept(
    gate: Arc<Gate>,
    token: Option<String>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let claims = gate.redeem(token.as_deref(), MediaTransport::Telephony).await?;
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let admitted = gate.admit(claims, MediaTransport::Telephony).await?;
    Ok(reader::limited(upgrade).on_upgrade(async move |socket| {
        let _open = ActiveConnection::open(LiveRoute::TelephonyWs);
        serve(gate, admitted, socket).await;
    }))
}

async fn serve(gate: Arc<Gate>, admitted: Admitted, socket: WebSocket) {
    let (sink, mut stream) = socket.split();
    let (refuse, closing) = watch::channel(None);
    let (caller, transport) = link(gate.config.pipeline.input_queue_cap);
    let (_no_replies, replies) = mpsc::channel(1);
    let sources = writer::Sources {
        commands: transport.commands,
        replies,
        closing,
        ping_every: None,
    };
    let mut protocol = twilio::Inbound::new();
    let started = introduce(&mut stream, &mut protocol, &admitted.call_id).await;
    let started = match started {
        Ok(started) => started,
        Err(reason) => {
            PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
            tracing::info!(session_id = %admitted.session_id, code = reason.code, reason = reason.reason,
                "a phone stream was refused");
            let _ = refuse.send(Some(reason));
            let encoder = twilio::Outbound::new(String::new());
            writer::write(sink, sources, encoder, gate.config.pipeline).await;
            gate.turn_away(admitted).await;
            return;
        }
    };
    let scope = gate.scope.child("phone socket");
    let silence = Duration::try_from_secs_f64(gate.config.media.socket_silence_secs).unwrap_or(Duration::MAX);
    let _reader = scope.spawn_owned("phone socket reader", async move {
        let end = read(&mut stream, protocol, &transport.input, silence, &refuse).await;
        transport.input.send(CallerEvent::Closed(end)).await;
        // The call closes the socket; until then nothing more is wanted from it.
        std::future::pending::<()>().await;
    });
    let encoder = twilio::Outbound::new(started.stream_sid);
    let pipeline = gate.config.pipeline;
    scope.spawn("phone socket writer", writer::write(sink, sources, encoder, pipeline));
    let body = serde_json::to_value(started.custom_parameters).unwrap_or(Value::Null);
    gate.run(admitted, body, TWILIO, caller).await;
    // The writer ends by itself: with the call's queue closed it sends a close frame and leaves.
}

/// Waits for `start`; everything before it must fit the protocol, and come in time.
async fn introduce(
    stream: &mut futures_util::stream::SplitStream<WebSocket>,
    protocol: &mut twilio::Inbound,
    call_id: &str,
) -> Result<media_core::wire::twilio::StreamStart, Closing> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let text = match reader::next(stream, Some(left)).await {
            Received::Text(text) => text,
            Received::Binary(_) => {
                return Err(Closing::new(Closing::INVALID_DATA, "expected JSON text messages"));
            }
            Received::Gone => return Err(Closing::new(Closing::NORMAL, "")),
            Received::Refuse(_) if Instant::now() >= deadline => {
                let reason = format!("no start message within {} s", START_TIMEOUT.as_secs());
                return Err(Closing::new(Closing::POLICY, reason));
            }
            Received::Refuse(reason) => return Err(reason),
        };
        let Some(start) = protocol.introduction(&text)? else {
            continue;
        };
        if !call_id.is_empty() && !start.call_sid.is_empty() && start.call_sid != call_id {
            return Err(Closing::new(Closing::POLICY, "this token is for another call"));
        }
        return Ok(start);
    }
}

/// Reads until the stream is over; says why it is.
async fn read(
    stream: &mut futures_util::stream::SplitStream<WebSocket>,
    mut protocol: twilio::Inbound,
    input: &PipelineInput,
    silence: Duration,
    refuse: &watch::Sender<Option<Closing>>,
) -> EndReason {
    let give_up = |reason: Closing| {
        PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
        let why = EndReason::TransportFailed(reason.reason.clone());
        let _ = refuse.send(Some(reason));
        why
    };
    loop {
        let text = match reader::next(stream, Some(silence)).await {
            Received::Text(text) => text,
            Received::Binary(_) => return give_up(Closing::new(Closing::INVALID_DATA, "expected JSON text messages")),
            Received::Gone => return EndReason::CallerHungUp,
            Received::Refuse(reason) => return give_up(reason),
        };
        match protocol.event(&text) {
            Ok(Some(CallerEvent::Closed(reason))) => return reason,
            Ok(Some(event)) => {
                if !input.send(event).await {
                    return EndReason::CallerHungUp;
                }
            }
            Ok(None) => {}
            Err(reason) => return give_up(reason),
        }
    }
}
