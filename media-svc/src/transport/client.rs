//! `/ws`: the voice socket of clients, in three dialects. What they say is `media_core::wire::client`'s to know.

mod encoder;
mod reading;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{OriginalUri, Query, State};
use axum::response::Response;
use futures_util::StreamExt;
use http::HeaderMap;
use media_core::wire::client::{self, Dialect, Inbound, Outbound, Session};
use serde_json::Value;
use service_kit::config::MediaTransport;
use service_kit::http::{ActiveConnection, ApiError, LiveRoute, check_api_key};
use service_kit::token::Claims;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::encoder::Encoder;
use self::reading::Reading;
use super::Gate;
use super::admission::Admitted;
use super::reader;
use super::relay;
use super::tokens::NotRedeemed;
use super::writer::{self, Closing};
use crate::call::registry::Refusal;
use crate::call::{CallerEvent, END_WITHIN, End, TransportTraits, link};
use crate::metrics::PROTOCOL_ERRORS;

const TRANSPORT: &str = "websocket";

/// Client sockets: 16 kHz in; 24 kHz out, with a lead of 60 ms because pipecat's player is never flushed.
const CLIENT: TransportTraits = TransportTraits {
    name: TRANSPORT,
    input_rate_hz: 16_000,
    output_rate_hz: 24_000,
    recording_rate_hz: 16_000,
    echoes_marks: false,
    playout_lead: Duration::from_millis(60),
};

/// What the URL asks for: `format`, `rtvi` and `token`; the last of each counts, so that `wsUrl` can be added to.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    dialect: Dialect,
    token: Option<String>,
}

impl Asked {
    fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let last = |name: &str| {
            let found = query.iter().rfind(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let format = match last("format") {
            None | Some("json") => Dialect::Json,
            Some("protobuf") => Dialect::Protobuf,
            Some(_) => {
                let says = "use format=protobuf (pipecat frames) or format=json, or rtvi=1";
                return Err(ApiError::invalid_field("format", says));
            }
        };
        let dialect = match last("rtvi") {
            Some("1" | "true") => Dialect::Rtvi,
            None | Some("0" | "false") => format,
            Some(_) => {
                return Err(ApiError::invalid_field(
                    "rtvi",
                    "use rtvi=1 for RTVI as text, or leave it out",
                ));
            }
        };
        let token = last("token").map(str::to_owned);
        Ok(Self { dialect, token })
    }
}

/// `GET /ws`
pub async fn open(
    State(gate): State<Arc<Gate>>,
    Query(query): Query<Vec<(String, String)>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&query)?;
    // First, so that whoever only looks at the URL does not use its token up.
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let transport = MediaTransport::WebSocket;
    let (claims, held) = match &asked.token {
        Some(token) => {
            let claims = gate.read_token(token, transport).map_err(NotRedeemed::refuse)?;
            // Before the token is used up: who finds no room here is led to where a slot is kept, or may try again.
            let held = match gate.calls.hold(transport, &claims.session_id) {
                Ok(held) => Some(held),
                Err(Refusal::AlreadyConnected) => None,
                Err(refusal @ (Refusal::Full { .. } | Refusal::Draining | Refusal::TransportNotServed(_))) => {
                    let asked = relay::Asked {
                        uri,
                        headers,
                        transport,
                    };
                    return relay::to_its_slot(gate, &claims, &asked, upgrade, refusal).await;
                }
            };
            gate.check_recordable(transport)?;
            gate.use_up(token, &claims).await.map_err(NotRedeemed::refuse)?;
            (claims, held)
        }
        None => {
            check_api_key(&headers, &gate.config.secrets)?;
            // The control plane counts what is started, and a token says that it has.
            if gate.config.limits.any() {
                return Err(NotRedeemed::Uncounted.refuse());
            }
            (anonymous(), None)
        }
    };
    let admitted = gate.admit(claims, transport).await?;
    drop(held);
    let upgrade = reader::limited(upgrade, gate.config.pipeline)
        .on_failed_upgrade(gate.forget_unless_upgraded(admitted.session_id.clone()));
    Ok(upgrade.on_upgrade(async move |socket| {
        // A scope of its own: a panic ends this call and nothing else.
        let scope = gate.scope.child("client call");
        scope.spawn("client call", async move {
            let _open = ActiveConnection::open(LiveRoute::Ws);
            serve(gate, admitted, asked.dialect, socket).await;
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

async fn serve(gate: Arc<Gate>, admitted: Admitted, dialect: Dialect, socket: WebSocket) {
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
        end: End::default(),
    };
    let session = Session {
        id: admitted.session_id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        input_rate_hz: CLIENT.input_rate_hz,
        output_rate_hz: CLIENT.output_rate_hz,
    };
    let outbound = Outbound::new(dialect, session.clone());
    if let Some(opening) = outbound.opening() {
        // There is room for this: it is the first.
        let _ = replies.try_send(opening);
    }
    let scope = gate.scope.child("client socket");
    let pipeline = gate.config.pipeline;
    let mut commands = transport.commands;
    scope.spawn("client socket writer", async move {
        writer::write(sink, &mut commands, sources, Encoder::new(outbound), pipeline).await;
    });

    let mut reading = Reading::new(stream, Inbound::new(dialect, session), replies);
    let introduced = if dialect.introduces_itself() {
        reading.introduce(gate.timeouts.ready).await
    } else {
        Ok(())
    };
    if let Err(reason) = introduced {
        PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
        tracing::info!(session_id = %admitted.session_id, code = reason.code, reason = reason.reason,
            "a client socket was refused");
        let broken = reason.is_broken();
        let _ = refuse.send(Some(reason));
        gate.turn_away(admitted).await;
        reading.linger(broken).await;
        return;
    }
    let input = transport.input;
    let silence = gate.timeouts.silence;
    let read_out = CancellationToken::new();
    let read_to_its_end = read_out.clone().drop_guard();
    let _reader = scope.spawn_owned("client socket reader", async move {
        let _read_to_its_end = read_to_its_end;
        let end = tokio::select! {
            end = reading.read(&input, silence, &refuse) => end,
            () = stuck.cancelled() => reader::not_read(),
        };
        input.send(CallerEvent::Closed(end)).await;
        let broken = refuse.borrow().as_ref().is_some_and(Closing::is_broken);
        reading.linger(broken).await;
    });
    gate.run(admitted, Value::Null, CLIENT, caller).await;
    // The writer ends by itself: with the call's queue closed it sends a close frame and leaves. The client's own is
    // waited for, so that it sees ours.
    let _ = tokio::time::timeout(END_WITHIN, read_out.cancelled()).await;
}

/// As it goes on the socket.
fn on_the_wire(message: client::Message) -> Message {
    match message {
        client::Message::Text(text) => Message::Text(text.into()),
        client::Message::Binary(bytes) => Message::Binary(bytes.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(query: &[(&str, &str)]) -> Result<Dialect, ApiError> {
        let owned: Vec<(String, String)> = query.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        Asked::read(&owned).map(|asked| asked.dialect)
    }

    #[test]
    fn a_url_that_was_added_to_means_what_was_added() {
        assert_eq!(asked(&[]).unwrap(), Dialect::Json);
        assert_eq!(asked(&[("format", "protobuf")]).unwrap(), Dialect::Protobuf);
        assert_eq!(
            asked(&[("format", "protobuf"), ("format", "json")]).unwrap(),
            Dialect::Json
        );
        assert_eq!(asked(&[("format", "protobuf"), ("rtvi", "1")]).unwrap(), Dialect::Rtvi);
        assert_eq!(asked(&[("rtvi", "1"), ("rtvi", "0")]).unwrap(), Dialect::Json);
    }

    #[test]
    fn what_is_no_dialect_is_refused_with_what_is() {
        assert!(asked(&[("format", "xml")]).is_err());
        assert!(asked(&[("rtvi", "yes please")]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_query_upsets_it(
            query in prop::collection::vec((".{0,8}", ".{0,8}"), 0..4),
            format in ".{0,8}",
            rtvi in ".{0,8}",
        ) {
            prop_assert_eq!(asked(&[("format", &format)]).is_ok(), ["json", "protobuf"].contains(&&*format));
            prop_assert_eq!(asked(&[("rtvi", &rtvi)]).is_ok(), ["0", "1", "false", "true"].contains(&&*rtvi));
            let _ = Asked::read(&query);
        }
    }
}
