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
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::admission::Admitted;
use super::reader::{self, Received};
use super::writer::{self, Closing, Encode};
use crate::call::{CallerCommand, CallerEvent, PipelineInput, TransportTraits, link};
use crate::metrics::PROTOCOL_ERRORS;

const TRANSPORT: &str = "websocket";

/// Frames that cannot be read before the socket is closed.
const TOLERATED_ERRORS: u32 = 50;
/// Characters of a client's own words that are repeated in an answer to it.
const REPEATED_CHARS: usize = 64;

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
    // First, so that whoever only looks at the URL does not use its token up.
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let claims = match &query.token {
        Some(token) => gate.redeem(Some(token), MediaTransport::WebSocket).await?,
        None => {
            check_api_key(&headers, &gate.config.secrets)?;
            anonymous()
        }
    };
    let admitted = gate.admit(claims, MediaTransport::WebSocket).await?;
    let upgrade = reader::limited(upgrade).on_failed_upgrade(gate.forget_unless_upgraded(admitted.session_id.clone()));
    Ok(upgrade.on_upgrade(async move |socket| {
        // A scope of its own: a panic ends this call and nothing else.
        let scope = gate.scope.child("client call");
        scope.spawn("client call", async move {
            let _open = ActiveConnection::open(LiveRoute::Ws);
            serve(gate, admitted, socket).await;
        });
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
    let stuck = CancellationToken::new();
    let sources = writer::Sources {
        replies: reply_receiver,
        closing,
        ping_every: Some(gate.timeouts.ping_every),
        stuck_after: gate.timeouts.stuck,
        stuck: stuck.clone(),
    };
    let scope = gate.scope.child("client socket");
    let encoder = Outbound {
        narrator: Narrator::default(),
    };
    let pipeline = gate.config.pipeline;
    let mut commands = transport.commands;
    scope.spawn("client socket writer", async move {
        writer::write(sink, &mut commands, sources, encoder, pipeline).await;
    });

    let mut inbound = Inbound {
        stream,
        replies,
        resampler: None,
        errors: 0,
    };
    if let Err(reason) = inbound.introduce(gate.timeouts.ready).await {
        PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
        tracing::info!(session_id = %admitted.session_id, code = reason.code, reason = reason.reason,
            "a client socket was refused");
        let broken = reason.is_broken();
        let _ = refuse.send(Some(reason));
        gate.turn_away(admitted).await;
        reader::linger(&mut inbound.stream, broken).await;
        return;
    }
    let input = transport.input;
    let silence = gate.timeouts.silence;
    let read_out = CancellationToken::new();
    let reading = read_out.clone().drop_guard();
    let _reader = scope.spawn_owned("client socket reader", async move {
        let _reading = reading;
        let end = tokio::select! {
            end = inbound.read(&input, silence, &refuse) => end,
            () = stuck.cancelled() => reader::not_read(),
        };
        input.send(CallerEvent::Closed(end)).await;
        let broken = refuse.borrow().as_ref().is_some_and(Closing::is_broken);
        reader::linger(&mut inbound.stream, broken).await;
    });
    gate.run(admitted, Value::Null, PIPECAT, caller).await;
    // The writer ends by itself: with the call's queue closed it sends a close frame and leaves. The client's own is
    // waited for, so that it sees ours.
    let _ = tokio::time::timeout(writer::CLOSE_TIMEOUT, read_out.cancelled()).await;
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
    async fn introduce(&mut self, limit: Duration) -> Result<(), Closing> {
        let ready = async {
            loop {
                let bytes = match reader::next(&mut self.stream, None).await {
                    Received::Binary(bytes) => bytes,
                    Received::Text(_) => return Err(wrong_kind()),
                    Received::Gone | Received::Cut => return Err(Closing::new(Closing::NORMAL, "")),
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
        match tokio::time::timeout(limit, ready).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let reason = format!("no client-ready within {} s", limit.as_secs_f64());
                Err(Closing::new(Closing::POLICY, reason))
            }
        }
    }

    /// Reads until the client is gone; says why.
    async fn read(
        &mut self,
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
            let bytes = match reader::next(&mut self.stream, Some(silence)).await {
                Received::Binary(bytes) => bytes,
                Received::Text(_) => return give_up(wrong_kind()),
                Received::Gone | Received::Cut => return EndReason::CallerHungUp,
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
            } => match self.at_our_rate(samples, sample_rate_hz) {
                Ok(samples) => Meaning::Events(vec![CallerEvent::Audio(samples)]),
                Err(error) => refusal(&error),
            },
            ClientMessageBody::Custom { t, .. } => refusal(&format!("this agent has no handler for `{}`", cut(&t))),
            ClientMessageBody::FunctionCallResult(_) => refusal("this agent has no functions that a client runs"),
            ClientMessageBody::Unknown { kind } => refusal(&format!("unknown message type `{}`", cut(&kind))),
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

/// The beginning of a text.
fn cut(text: &str) -> String {
    text.chars().take(REPEATED_CHARS).collect()
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
    type Reply = Message;

    fn encode(&mut self, command: CallerCommand, out: &mut Vec<Message>) {
        match command {
            CallerCommand::Audio(samples) => {
                let bytes = pipecat::audio_frame(&samples, PIPECAT.output_rate_hz);
                out.push(Message::Binary(bytes.into()));
            }
            CallerCommand::Notice(notice) => {
                let timestamp = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
                let messages = self.narrator.messages(notice, &timestamp);
                out.extend(messages.iter().map(|message| frame(message.to_json(None))));
            }
            // The client's player knows neither; pacing keeps what it holds short.
            CallerCommand::Mark(_) | CallerCommand::Clear | CallerCommand::Close(_) => {}
        }
    }

    fn reply(&mut self, reply: Message, out: &mut Vec<Message>) {
        out.push(reply);
    }
}
