//! `/ws?format=protobuf`: the voice socket of pipecat's client SDKs — protobuf frames, RTVI messages inside.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use http::HeaderMap;
use media_core::audio::resample::Resampler;
use media_core::conversation::EndReason;
use media_core::wire::pipecat::{self, PipecatError, PipecatFrame};
use media_core::wire::rtvi::{self, ClientMessageBody, Narrator, ServerMessage};
use serde::Deserialize;
use serde_json::Value;
use service_kit::config::MediaTransport;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute, check_api_key};
use service_kit::token::Claims;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, watch};

use super::Gate;
use super::admission::Admitted;
use super::reader::{self, Received};
use super::writer::{self, Closing, Encode};
use crate::call::{CallerCommand, CallerEvent, PipelineInput, TransportTraits, link};
use crate::metrics::PROTOCOL_ERRORS;

const TRANSPORT: &str = "websocket";

/// How long a client may take until `client-ready`.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a client is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A client from which not even a pong came for this long is gone. A muted microphone sends no audio at all.
const SILENCE: Duration = Duration::from_secs(60);
/// Frames that cannot be read before the socket is closed.
const TOLERATED_ERRORS: u32 = 50;

/// pipecat's clients: 16 kHz in; 24 kHz out, with a lead of 60 ms because their player is never flushed.
const PIPECAT: TransportTraits = TransportTraits {
    name: TRANSPORT,
    input_rate_hz: 16_000,
    output_rate_hz: 24_000,
    recording_rate_hz: 16_000,
    echoes_marks: false,
    playout_lead: Duration::from_millis(60),
};

/// `?format=protobuf&token=…`
#[derive(Debug, Deserialize)]
pub struct SocketQuery {
    format: Option<String>,
    token: Option<String>,
}

/// `GET /ws`
pub async fn open(
    State(gate): State<Arc<Gate>>,
    Query(query): Query<SocketQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if query.format.as_deref() != Some("protobuf") {
        return Err(ApiError::invalid_field(
            "format",
            "this release speaks format=protobuf (pipecat frames) on /ws",
        ));
    }
    let claims = match &query.token {
        Some(token) => gate.redeem(Some(token), MediaTransport::WebSocket).await?,
        None => {
            check_api_key(&headers, &gate.config.secrets)?;
            anonymous()
        }
    };
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let admitted = gate.admit(claims, MediaTransport::WebSocket).await?;
    Ok(reader::limited(upgrade).on_upgrade(async move |socket| {
        let _open = ActiveConnection::open(LiveRoute::Ws);
        serve(gate, admitted, socket).await;
    }))
}

/// A session for a client that came without one.
fn anonymous() -> Claims {
    Claims {
        session_id: service_kit::ids::session_id(),
        transport: TRANSPORT.to_owned(),
        provider: String::new(),
        call_id: String::new(),
        expires_at: 0,
        body_json: String::new(),
    }
}

async fn serve(gate: Arc<Gate>, admitted: Admitted, socket: WebSocket) {
    let (sink, stream) = socket.split();
    let (refuse, closing) = watch::channel(None);
    let (caller, transport) = link(gate.config.pipeline.input_queue_cap);
    let (replies, reply_receiver) = mpsc::channel(writer::REPLIES);
    let sources = writer::Sources {
        commands: transport.commands,
        replies: reply_receiver,
        closing,
        ping_every: Some(PING_EVERY),
    };
    let scope = gate.scope.child("client socket");
    let encoder = Outbound {
        narrator: Narrator::default(),
    };
    scope.spawn(
        "client socket writer",
        writer::write(sink, sources, encoder, gate.config.pipeline),
    );

    let mut inbound = Inbound {
        stream,
        replies,
        resampler: None,
        errors: 0,
    };
    if let Err(reason) = inbound.introduce().await {
        PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
        tracing::info!(session_id = %admitted.session_id, code = reason.code, reason = reason.reason,
            "a client socket was refused");
        let _ = refuse.send(Some(reason));
        gate.turn_away(admitted).await;
        return;
    }
    let input = transport.input;
    let _reader = scope.spawn_owned("client socket reader", async move {
        let end = inbound.read(&input, &refuse).await;
        input.send(CallerEvent::Closed(end)).await;
        // The call closes the socket; until then nothing more is wanted from it.
        std::future::pending::<()>().await;
    });
    gate.run(admitted, Value::Null, PIPECAT, caller).await;
    // The writer ends by itself: with the call's queue closed it sends a close frame and leaves.
}

struct Inbound {
    stream: SplitStream<WebSocket>,
    replies: mpsc::Sender<Message>,
    /// For clients that do not send 16 kHz: their rate and the way to ours.
    resampler: Option<(u32, Resampler)>,
    errors: u32,
}

/// What one message means for the call.
enum Meaning {
    Events(Vec<CallerEvent>),
    Ready,
    Reply(String),
    Disconnect,
}

impl Inbound {
    /// Waits for `client-ready`.
    async fn introduce(&mut self) -> Result<(), Closing> {
        let ready = async {
            loop {
                let bytes = match reader::next(&mut self.stream, None).await {
                    Received::Binary(bytes) => bytes,
                    Received::Text(_) => return Err(wrong_kind()),
                    Received::Gone => return Err(Closing::new(Closing::NORMAL, "")),
                    Received::Refuse(reason) => return Err(reason),
                };
                match self
                    .meaning(&bytes)
                    .map_err(|error| Closing::new(Closing::INVALID_DATA, error))?
                {
                    Meaning::Ready => return Ok(()),
                    Meaning::Reply(json) => self.reply(json).await,
                    Meaning::Disconnect => return Err(Closing::new(Closing::NORMAL, "")),
                    Meaning::Events(_) => {
                        return Err(Closing::new(
                            Closing::POLICY,
                            "the first message has to be client-ready",
                        ));
                    }
                }
            }
        };
        match tokio::time::timeout(READY_TIMEOUT, ready).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let reason = format!("no client-ready within {} s", READY_TIMEOUT.as_secs());
                Err(Closing::new(Closing::POLICY, reason))
            }
        }
    }

    /// Reads until the client is gone; says why.
    async fn read(&mut self, input: &PipelineInput, refuse: &watch::Sender<Option<Closing>>) -> EndReason {
        let give_up = |reason: Closing| {
            PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
            let why = EndReason::TransportFailed(reason.reason.clone());
            let _ = refuse.send(Some(reason));
            why
        };
        loop {
            let bytes = match reader::next(&mut self.stream, Some(SILENCE)).await {
                Received::Binary(bytes) => bytes,
                Received::Text(_) => return give_up(wrong_kind()),
                Received::Gone => return EndReason::CallerHungUp,
                Received::Refuse(reason) => return give_up(reason),
            };
            match self.meaning(&bytes) {
                Ok(Meaning::Events(events)) => {
                    for event in events {
                        if !input.send(event).await {
                            return EndReason::CallerHungUp;
                        }
                    }
                }
                Ok(Meaning::Ready) => {}
                Ok(Meaning::Reply(json)) => self.reply(json).await,
                Ok(Meaning::Disconnect) => return EndReason::CallerHungUp,
                Err(error) => {
                    PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
                    self.errors += 1;
                    if self.errors > TOLERATED_ERRORS {
                        return give_up(Closing::new(Closing::INVALID_DATA, error));
                    }
                }
            }
        }
    }

    fn meaning(&mut self, bytes: &[u8]) -> Result<Meaning, String> {
        match pipecat::read(bytes).map_err(|error: PipecatError| error.to_string())? {
            PipecatFrame::Audio {
                samples,
                sample_rate_hz,
            } => Ok(Meaning::Events(vec![CallerEvent::Audio(
                self.at_our_rate(samples, sample_rate_hz)?,
            )])),
            PipecatFrame::Message(json) => self.message(&json),
            PipecatFrame::Text(text) => Ok(Meaning::Events(vec![CallerEvent::Text(text)])),
            PipecatFrame::Transcription { .. } | PipecatFrame::Interruption | PipecatFrame::Unknown => {
                Ok(Meaning::Events(Vec::new()))
            }
        }
    }

    fn message(&mut self, json: &str) -> Result<Meaning, String> {
        let message = match rtvi::read(json) {
            Ok(message) => message,
            Err(error) => {
                let answer = ServerMessage::ErrorResponse {
                    error: error.to_string(),
                };
                return Ok(Meaning::Reply(answer.to_json(error.id())));
            }
        };
        let refusal = |error: &str| {
            Meaning::Reply(
                ServerMessage::ErrorResponse {
                    error: error.to_owned(),
                }
                .to_json(Some(&message.id)),
            )
        };
        Ok(match message.body {
            ClientMessageBody::ClientReady { .. } => {
                let answer = ServerMessage::bot_ready("voxray", env!("CARGO_PKG_VERSION"));
                // There is room for this: it is the first answer, or one of a client that reads.
                let _ = self.replies.try_send(frame(answer.to_json(Some(&message.id))));
                Meaning::Ready
            }
            ClientMessageBody::DisconnectBot => Meaning::Disconnect,
            ClientMessageBody::SendText(text) => Meaning::Events(vec![CallerEvent::Text(text.content)]),
            ClientMessageBody::Dtmf(keys) => Meaning::Events(keys.into_iter().map(CallerEvent::Dtmf).collect()),
            ClientMessageBody::RawAudio {
                samples,
                sample_rate_hz,
            } => Meaning::Events(vec![CallerEvent::Audio(self.at_our_rate(samples, sample_rate_hz)?)]),
            ClientMessageBody::Custom { t, .. } => refusal(&format!("this agent has no handler for `{t}`")),
            ClientMessageBody::FunctionCallResult(_) => refusal("this agent has no functions that a client runs"),
            ClientMessageBody::Unknown { kind } => refusal(&format!("unknown message type `{kind}`")),
        })
    }

    fn at_our_rate(&mut self, samples: Vec<i16>, rate_hz: u32) -> Result<Vec<i16>, String> {
        if rate_hz == PIPECAT.input_rate_hz {
            return Ok(samples);
        }
        if self.resampler.as_ref().is_none_or(|(known, _)| *known != rate_hz) {
            let resampler =
                Resampler::new(rate_hz, PIPECAT.input_rate_hz).map_err(|unsupported| unsupported.to_string())?;
            self.resampler = Some((rate_hz, resampler));
        }
        Ok(self
            .resampler
            .as_mut()
            .map(|(_, resampler)| resampler.process(&samples))
            .unwrap_or_default())
    }

    async fn reply(&self, json: String) {
        // A writer that is gone has closed the socket: the reader sees that next.
        let _ = self.replies.send(frame(json)).await;
    }
}

fn frame(json: String) -> Message {
    Message::Binary(pipecat::message_frame(json).into())
}

fn wrong_kind() -> Closing {
    Closing::new(
        Closing::INVALID_DATA,
        "expected binary messages: this socket speaks protobuf",
    )
}

struct Outbound {
    narrator: Narrator,
}

impl Encode for Outbound {
    fn encode(&mut self, command: CallerCommand) -> Vec<Message> {
        match command {
            CallerCommand::Audio(samples) => {
                vec![Message::Binary(
                    pipecat::audio_frame(&samples, PIPECAT.output_rate_hz).into(),
                )]
            }
            CallerCommand::Notice(notice) => {
                let timestamp = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
                let messages = self.narrator.messages(notice, &timestamp);
                messages.iter().map(|message| frame(message.to_json(None))).collect()
            }
            // The client's player knows neither; pacing keeps what it holds short.
            CallerCommand::Mark(_) | CallerCommand::Clear | CallerCommand::Close(_) => Vec::new(),
        }
    }
}
