//! `/telephony/ws`: a phone provider's media stream.

mod twilio;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use media_core::conversation::EndReason;
use media_core::wire::twilio::StreamStart;
use serde::Deserialize;
use serde_json::Value;
use service_kit::config::MediaTransport;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::admission::Admitted;
use super::reader::{self, Received};
use super::writer::{self, Closing};
use crate::call::{CallerEvent, PipelineInput, TransportTraits, link};
use crate::metrics::{PROTOCOL_ERRORS, TOKENS_REFUSED};

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
    // First, so that whoever only looks at the URL does not use its token up.
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let claims = gate.redeem(token.as_deref(), MediaTransport::Telephony).await?;
    let admitted = gate.admit(claims, MediaTransport::Telephony).await?;
    let upgrade = reader::limited(upgrade).on_failed_upgrade(gate.forget_unless_upgraded(admitted.session_id.clone()));
    Ok(upgrade.on_upgrade(async move |socket| {
        // A scope of its own: a panic ends this call and nothing else.
        let scope = gate.scope.child("phone call");
        scope.spawn("phone call", async move {
            let _open = ActiveConnection::open(LiveRoute::TelephonyWs);
            serve(gate, admitted, socket).await;
        });
    }))
}

async fn serve(gate: Arc<Gate>, mut admitted: Admitted, socket: WebSocket) {
    let (sink, mut stream) = socket.split();
    let (refuse, closing) = watch::channel(None);
    let (caller, transport) = link(gate.config.pipeline.input_queue_cap);
    let (_no_replies, replies) = mpsc::channel(1);
    let stuck = CancellationToken::new();
    let sources = writer::Sources {
        commands: transport.commands,
        replies,
        closing,
        ping_every: None,
        stuck_after: gate.timeouts.stuck,
        stuck: stuck.clone(),
    };
    let mut protocol = twilio::Inbound::new();
    let introduced = introduce(&mut stream, &mut protocol, &admitted.call_id, gate.timeouts.start);
    let started = match introduced.await {
        Ok(started) => started,
        Err(reason) => {
            PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
            tracing::info!(session_id = %admitted.session_id, code = reason.code, reason = reason.reason,
                "a phone stream was refused");
            let broken = reason.is_broken();
            let _ = refuse.send(Some(reason));
            gate.turn_away(admitted).await;
            let encoder = twilio::Outbound::new(String::new());
            writer::write(sink, sources, encoder, gate.config.pipeline).await;
            reader::linger(&mut stream, broken).await;
            return;
        }
    };
    if admitted.call_id.is_empty() {
        // The stream knows what the webhook did not: how the provider calls this call.
        admitted.call_id.clone_from(&started.call_sid);
    }
    let scope = gate.scope.child("phone socket");
    let silence = Duration::try_from_secs_f64(gate.config.media.socket_silence_secs).unwrap_or(Duration::MAX);
    let read_out = CancellationToken::new();
    let reading = read_out.clone().drop_guard();
    let _reader = scope.spawn_owned("phone socket reader", async move {
        let _reading = reading;
        let end = tokio::select! {
            end = read(&mut stream, protocol, &transport.input, silence, &refuse) => end,
            () = stuck.cancelled() => reader::not_read(),
        };
        transport.input.send(CallerEvent::Closed(end)).await;
        let broken = refuse.borrow().as_ref().is_some_and(Closing::is_broken);
        reader::linger(&mut stream, broken).await;
    });
    let encoder = twilio::Outbound::new(started.stream_sid);
    let pipeline = gate.config.pipeline;
    scope.spawn("phone socket writer", writer::write(sink, sources, encoder, pipeline));
    let body = serde_json::to_value(started.custom_parameters).unwrap_or(Value::Null);
    gate.run(admitted, body, TWILIO, caller).await;
    // The writer ends by itself: with the call's queue closed it sends a close frame and leaves. The far end's own is
    // waited for, so that it sees ours.
    let _ = tokio::time::timeout(writer::CLOSE_TIMEOUT, read_out.cancelled()).await;
}

/// Waits for `start`; everything before it must fit the protocol, and come in time, whatever else comes meanwhile.
async fn introduce(
    stream: &mut SplitStream<WebSocket>,
    protocol: &mut twilio::Inbound,
    call_id: &str,
    limit: Duration,
) -> Result<StreamStart, Closing> {
    match tokio::time::timeout(limit, wait_for_start(stream, protocol, call_id)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let reason = format!("no start message within {} s", limit.as_secs_f64());
            Err(Closing::new(Closing::POLICY, reason))
        }
    }
}

async fn wait_for_start(
    stream: &mut SplitStream<WebSocket>,
    protocol: &mut twilio::Inbound,
    call_id: &str,
) -> Result<StreamStart, Closing> {
    loop {
        let text = match reader::next(stream, None).await {
            Received::Text(text) => text,
            Received::Binary(_) => {
                return Err(Closing::new(Closing::INVALID_DATA, "expected JSON text messages"));
            }
            Received::Gone => return Err(Closing::new(Closing::NORMAL, "")),
            Received::Refuse(reason) => return Err(reason),
        };
        let Some(start) = protocol.introduction(&text)? else {
            continue;
        };
        if !call_id.is_empty() && !start.call_sid.is_empty() && start.call_sid != call_id {
            TOKENS_REFUSED.with_label_values(&["foreign"]).inc();
            return Err(Closing::new(Closing::POLICY, "this token is for another call"));
        }
        return Ok(start);
    }
}

/// Reads until the stream is over; says why it is.
async fn read(
    stream: &mut SplitStream<WebSocket>,
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
