//! `/telephony/ws`: a phone provider's media stream, whoever the provider is; `/telephony/genesys/ws`: Genesys', who
//! comes without a webhook.
//!
//! The first messages say whose stream it is, within 5 s. A stream ends by a close frame of either side, by the
//! provider's word for it, or when nothing has come for `media.socket_silence_secs`. A socket that breaks without a word
//! is a network cut: the call waits 10 s for the same URL to be opened again ([`held`]).
//!
//! | closed with | because |
//! |---|---|
//! | 1000 | the call is over, or was ended before it began |
//! | 1002 | not WebSocket (RFC 6455) |
//! | 1007 | a message that is no JSON, no base64, of another audio format, or lacks what it needs |
//! | 1008 | no start in time, audio or keys before it, a second start, another call or provider than announced, more keys than a telephone can send, silence |
//! | 1009 | a message larger than 64 KiB |
//!
//! Before the start the first bad message closes the stream; afterwards 50 are tolerated, except binary messages from a
//! provider that sends text, and oversized ones. All of them count in `voxray_protocol_errors_total`.

mod genesys;
mod held;
mod line;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{OriginalUri, Path, Query, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Uri};
use media_core::wire::telephony::{Answer, Event, Frame, Provider, Start};
use serde::Deserialize;
use serde_json::Value;
use service_kit::config::MediaTransport;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use genesys::{open as open_genesys, open_with_connector as open_genesys_with_connector};
pub use held::HeldStreams;

use super::admission::{Admitted, NotAdmitted, store_away};
use super::reader::{self, Received};
use super::relay::{self, Asked};
use super::tokens::NotRedeemed;
use super::writer::{self, Closing, Encode};
use super::{Gate, Timeouts};
use crate::call::registry::Refusal;
use crate::call::{Away, End, TransportTraits, WayBack, link};
use crate::metrics::{PROTOCOL_ERRORS, TOKENS_REFUSED};
use held::Return;
use line::{Connection, Line};
use wire::{Inbound, Outbound};

const TRANSPORT: &str = "telephony";

/// Audio runs at most this far ahead of the clock, so that a clear has little to undo.
const LEAD: Duration = Duration::from_millis(200);
/// Genesys takes few messages a second, so each is 200 ms long; the next one has to be there before that is over.
const GENESYS_LEAD: Duration = Duration::from_millis(400);

/// Why a stream is refused that is another call's than its token's.
const FOREIGN: &str = "this token is for another call";

/// What a call has to know of the stream that carries it: the stream's own rate both ways, which recordings keep.
fn traits(start: &Start) -> TransportTraits {
    let rate_hz = start.format.rate_hz;
    TransportTraits {
        name: TRANSPORT,
        input_rate_hz: rate_hz,
        output_rate_hz: rate_hz,
        recording_rate_hz: rate_hz,
        echoes_marks: start.provider.echoes_marks(),
        playout_lead: match start.provider {
            Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel | Provider::Vonage => LEAD,
            Provider::Genesys => GENESYS_LEAD,
        },
    }
}

/// `?token=`
#[derive(Debug, Deserialize)]
pub struct TokenQuery {
    token: Option<String>,
}

/// `GET /telephony/ws?token=…`
pub async fn open(
    State(gate): State<Arc<Gate>>,
    Query(query): Query<TokenQuery>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    accept(gate, query.token, asked(uri, headers), upgrade).await
}

/// `GET /telephony/ws/{token}`
pub async fn open_with_path_token(
    State(gate): State<Arc<Gate>>,
    Path(token): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    accept(gate, Some(token), asked(uri, headers), upgrade).await
}

fn asked(uri: Uri, headers: HeaderMap) -> Asked {
    Asked {
        uri,
        headers,
        transport: MediaTransport::Telephony,
    }
}

async fn accept(
    gate: Arc<Gate>,
    token: Option<String>,
    asked: Asked,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    // First, so that whoever only looks at the URL does not use its token up.
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let token = token.ok_or_else(|| NotRedeemed::Missing.refuse())?;
    if let Some(returning) = gate.held.reclaim(&token) {
        return Ok(
            reader::limited(upgrade, gate.config.pipeline).on_upgrade(async move |socket| {
                let scope = gate.scope.child("returning phone stream");
                scope.spawn("returning phone stream", async move {
                    come_back(gate, returning, socket).await;
                });
            }),
        );
    }
    let claims = match gate.read_token(&token, MediaTransport::Telephony) {
        Ok(claims) => claims,
        Err(refused) => return elsewhere(gate, &asked, upgrade, refused).await,
    };
    // Before the token is used up: where there is no room, it opens the stream at the node that keeps its slot.
    let held = match gate.calls.hold(MediaTransport::Telephony, &claims.session_id) {
        Ok(held) => Some(held),
        Err(Refusal::AlreadyConnected) => None,
        Err(refusal @ (Refusal::Full { .. } | Refusal::Draining | Refusal::TransportNotServed(_))) => {
            return relay::to_its_slot(gate, &claims, &asked, upgrade, refusal).await;
        }
    };
    if let Err(refused) = gate.use_up(&token, &claims).await {
        drop(held);
        return elsewhere(gate, &asked, upgrade, refused).await;
    }
    if !asked.is_relayed()
        && let Some(owner) = relay::owner_after_loss(&gate, &claims).await.map_err(store_away)?
    {
        drop(held);
        return relay::onwards(gate, owner, &asked, upgrade, taken_elsewhere()).await;
    }
    let admitted = match gate.admit_session(claims.clone(), MediaTransport::Telephony).await {
        Ok(admitted) => admitted,
        Err(refused @ NotAdmitted::OwnedBy(_)) if !asked.is_relayed() => {
            drop(held);
            return match relay::owner_of_claimed(&gate, &claims).await.map_err(store_away)? {
                Some(owner) => relay::onwards(gate, owner, &asked, upgrade, taken_elsewhere()).await,
                None => Err(refused.into()),
            };
        }
        Err(refused) => return Err(refused.into()),
    };
    drop(held);
    let expected = Expected {
        provider: Provider::from_name(&admitted.provider),
        id: admitted.call_id.clone(),
        parameters: Value::Null,
    };
    Ok(take_up(gate, upgrade, admitted, expected, Some(token)))
}

/// A token that is good for nothing here: its stream may be on another node, and have been cut there.
async fn elsewhere(
    gate: Arc<Gate>,
    asked: &Asked,
    upgrade: WebSocketUpgrade,
    refused: NotRedeemed,
) -> Result<Response, ApiError> {
    let owner = match refused.once_good() {
        Some(claims) if !asked.is_relayed() => relay::owner(&gate, claims).await,
        Some(_) | None => Ok(None),
    };
    match owner.map_err(store_away)? {
        // A refusal is counted there.
        Some(owner) => relay::onwards(gate, owner, asked, upgrade, refused.into()).await,
        None => Err(refused.refuse()),
    }
}

fn taken_elsewhere() -> ApiError {
    ApiError::Conflict("another node has this session".to_owned())
}

/// What is known of a stream before it says so itself.
struct Expected {
    provider: Option<Provider>,
    /// Of the call; for Genesys, of the session. Empty when unknown.
    id: String,
    parameters: Value,
}

impl Expected {
    fn check(&self, start: &Start) -> Result<(), Closing> {
        let id = match start.provider {
            Provider::Genesys => &start.stream_id,
            Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Exotel | Provider::Vonage => {
                &start.call_id
            }
        };
        if !self.id.is_empty() && !id.is_empty() && *id != self.id {
            TOKENS_REFUSED.with_label_values(&["foreign"]).inc();
            return Err(Closing::new(Closing::POLICY, FOREIGN));
        }
        Ok(())
    }
}

fn take_up(
    gate: Arc<Gate>,
    upgrade: WebSocketUpgrade,
    admitted: Admitted,
    expected: Expected,
    token: Option<String>,
) -> Response {
    let upgrade = reader::limited(upgrade, gate.config.pipeline)
        .on_failed_upgrade(gate.forget_unless_upgraded(admitted.session_id.clone()));
    upgrade.on_upgrade(async move |socket| {
        // A scope of its own: a panic ends this call and nothing else.
        let scope = gate.scope.child("phone call");
        scope.spawn("phone call", async move {
            let _open = ActiveConnection::open(LiveRoute::TelephonyWs);
            serve(gate, admitted, expected, token, socket).await;
        });
    })
}

async fn serve(gate: Arc<Gate>, mut admitted: Admitted, expected: Expected, token: Option<String>, socket: WebSocket) {
    let connection = match introduce(socket, &expected, &gate, admitted.told_to_end()).await {
        Ok(connection) => connection,
        Err(refused) => {
            count_refusal(&admitted.session_id, &refused.reason);
            if refused.ended || refused.leaves_a_caller() {
                gate.hang_up_unbegun(&admitted);
            }
            gate.turn_away(admitted).await;
            refused.close(&gate).await;
            return;
        }
    };
    let (mut caller, transport) = link(gate.config.pipeline.input_queue_cap);
    let (traits, start) = (traits(&connection.start), &connection.start);
    // The stream may know what the webhook did not: how the provider calls this call.
    if admitted.call_id.is_empty() {
        admitted.call_id.clone_from(&start.call_id);
    }
    if admitted.provider.is_empty() {
        start.provider.name().clone_into(&mut admitted.provider);
    }
    let body = merged(expected.parameters, start);
    let call_id = expected.id;
    let (session_id, provider) = (admitted.session_id.clone(), start.provider);
    let trace_id = admitted.trace_id();
    tracing::info!(%session_id, trace_id, provider = provider.name(), "a phone stream has begun");
    let token = token.filter(|_| provider.may_return());
    let away = Away::default();
    caller.way_back = token.clone().map(|token| WayBack {
        session_id: Arc::clone(&session_id),
        token,
        away: away.clone(),
    });
    let end = caller.end.clone();
    let line = Line {
        away,
        end: end.clone(),
        input: transport.input,
        commands: transport.commands,
        may_live_on: transport.may_live_on,
        timeouts: gate.timeouts,
        silence: Duration::try_from_secs_f64(gate.config.media.socket_silence_secs).unwrap_or(Duration::MAX),
        pipeline: gate.config.pipeline,
    };
    let scope = gate.scope.child("phone socket");
    let carried = CancellationToken::new();
    let carrying = carried.clone().drop_guard();
    let holder = Arc::clone(&gate);
    let _line = scope.spawn_owned("phone stream", async move {
        let _carrying = carrying;
        let remembered = holder
            .held
            .remember(token.as_deref(), session_id, call_id, line.away.clone());
        line.carry(connection, remembered).await;
    });
    gate.run(admitted, body, traits, caller).await;
    // The line ends by itself: with the call's queue closed it says goodbye and leaves. One whose far end takes nothing is
    // dropped, socket and all.
    let _ = tokio::time::timeout_at(end.begin(), carried.cancelled()).await;
}

/// Parameters of the stream with what was known before underneath.
fn merged(known: Value, start: &Start) -> Value {
    let mut body = match known {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => serde_json::Map::new(),
    };
    let parameters = start.parameters.iter();
    body.extend(parameters.map(|(name, value)| (name.clone(), Value::String(value.clone()))));
    if body.is_empty() {
        Value::Null
    } else {
        Value::Object(body)
    }
}

/// A socket that wants to go on with a stream that was cut.
async fn come_back(gate: Arc<Gate>, returning: Return, socket: WebSocket) {
    let _open = ActiveConnection::open(LiveRoute::TelephonyWs);
    let expected = Expected {
        provider: None,
        id: returning.stream.call_id.clone(),
        parameters: Value::Null,
    };
    // A call that is told to end meanwhile knows what to do.
    match introduce(socket, &expected, &gate, std::future::pending()).await {
        Ok(connection) => {
            // A call that ended meanwhile has nothing to go on with.
            if let Err(late) = returning.connect(connection).await {
                let Connection { sink, stream, .. } = *late;
                let refused = Refused {
                    sink,
                    stream,
                    reason: Closing::new(Closing::NORMAL, "the call is over"),
                    ended: true,
                };
                refused.close(&gate).await;
            }
        }
        Err(refused) => {
            count_refusal(&returning.stream.session_id, &refused.reason);
            refused.close(&gate).await;
        }
    }
}

fn count_refusal(session_id: &str, reason: &Closing) {
    if reason.code == Closing::NORMAL {
        return;
    }
    PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
    tracing::info!(
        session_id,
        code = reason.code,
        reason = reason.reason,
        "a phone stream was refused"
    );
}

/// A socket whose stream does not begin.
struct Refused {
    sink: SplitSink<WebSocket, Message>,
    stream: SplitStream<WebSocket>,
    reason: Closing,
    /// The session was told to end.
    ended: bool,
}

impl Refused {
    /// Whether somebody may be on the line whom nobody answers now: the provider has not left by itself, and the stream
    /// was not another call's.
    fn leaves_a_caller(&self) -> bool {
        self.reason.code != Closing::NORMAL && self.reason.reason != FOREIGN
    }

    async fn close(mut self, gate: &Gate) {
        let (_refuse, closing) = watch::channel(Some(self.reason.clone()));
        let (_no_replies, replies) = mpsc::channel(1);
        let (_no_call, mut commands) = mpsc::channel(1);
        let end = End::default();
        let sources = writer::Sources {
            replies,
            closing,
            ping_every: None,
            stuck_after: gate.timeouts.stuck,
            stuck: CancellationToken::new(),
            end: end.clone(),
        };
        writer::write(
            self.sink,
            &mut commands,
            sources,
            Outbound::new(None),
            gate.config.pipeline,
        )
        .await;
        reader::linger(&mut self.stream, self.reason.is_broken(), end.begin()).await;
    }
}

/// Waits for the start; everything before it must fit the protocol, and come in time, whatever else comes meanwhile.
async fn introduce(
    socket: WebSocket,
    expected: &Expected,
    gate: &Gate,
    told_to_end: impl Future<Output = ()>,
) -> Result<Connection, Box<Refused>> {
    let (mut sink, mut stream) = socket.split();
    let mut inbound = Inbound::new(expected.provider);
    let limit = gate.timeouts.start;
    let waiting = wait_for_start(&mut sink, &mut stream, &mut inbound, expected);
    let mut ended = false;
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(limit, waiting) => outcome.unwrap_or_else(|_| {
            let reason = format!("no start message within {} s", limit.as_secs_f64());
            Err(Closing::new(Closing::POLICY, reason))
        }),
        () = told_to_end => {
            ended = true;
            Err(Closing::new(Closing::NORMAL, "the call was ended before it began"))
        }
    };
    match outcome {
        Ok((start, answer)) => Ok(Connection {
            sink,
            stream,
            inbound,
            start,
            answer,
        }),
        Err(reason) => Err(Box::new(Refused {
            sink,
            stream,
            reason,
            ended,
        })),
    }
}

async fn wait_for_start(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    inbound: &mut Inbound,
    expected: &Expected,
) -> Result<(Start, Option<Answer>), Closing> {
    // A test whether anybody answers has no call, but answers.
    let mut probe = Outbound::new(None);
    loop {
        let read = match reader::next(stream, None).await {
            Received::Text(text) => inbound.introduction(Frame::Text(&text))?,
            Received::Binary(bytes) => inbound.introduction(Frame::Binary(&bytes))?,
            Received::Gone(_) | Received::Cut => return Err(Closing::new(Closing::NORMAL, "")),
            Received::Refuse(reason) => return Err(reason),
        };
        match read.event {
            Event::Start(start) => {
                expected.check(&start)?;
                return Ok((start, read.answer));
            }
            Event::Probe(ref start) => probe = Outbound::new(Some(start)),
            Event::Connected
            | Event::Stop
            | Event::Media(_)
            | Event::Held
            | Event::Late
            | Event::Dtmf(_)
            | Event::Mark(_)
            | Event::Trouble(_)
            | Event::Ignored => {}
        }
        let mut messages = Vec::new();
        if let Some(answer) = read.answer {
            probe.reply(answer, &mut messages);
        }
        for message in messages {
            let _ = sink.send(message).await;
        }
        if matches!(read.event, Event::Stop) {
            return Err(Closing::new(Closing::NORMAL, "stopped before it began"));
        }
    }
}
