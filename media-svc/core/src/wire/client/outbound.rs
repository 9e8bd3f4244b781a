//! What goes out on a client socket, by its dialect.

use serde_json::json;

use super::json::JsonNarrator;
use super::{Dialect, Message, Session, audio};
use crate::conversation::{EndReason, Notice};
use crate::wire::pipecat;
use crate::wire::rtvi::{Narrator, ServerMessage};

/// Writes to one client socket.
#[derive(Debug)]
pub struct Outbound {
    session: Session,
    tongue: Tongue,
}

#[derive(Debug)]
enum Tongue {
    Protobuf(Narrator),
    Rtvi(Narrator),
    Json(JsonNarrator),
}

impl Outbound {
    /// At the start of a socket.
    pub fn new(dialect: Dialect, session: Session) -> Self {
        let tongue = match dialect {
            Dialect::Protobuf => Tongue::Protobuf(Narrator::default()),
            Dialect::Rtvi => Tongue::Rtvi(Narrator::default()),
            Dialect::Json => Tongue::Json(JsonNarrator::default()),
        };
        Self { session, tongue }
    }

    /// What a client is told first, before it has said anything.
    pub fn opening(&self) -> Option<Message> {
        match &self.tongue {
            // These wait for the client to introduce itself.
            Tongue::Protobuf(_) | Tongue::Rtvi(_) => None,
            Tongue::Json(_) => Some(Message::Text(JsonNarrator::opening(&self.session))),
        }
    }

    /// Audio of the agent at [`Session::output_rate_hz`].
    pub fn audio(&self, samples: &[i16]) -> Message {
        let rate_hz = self.session.output_rate_hz;
        match &self.tongue {
            Tongue::Protobuf(_) => Message::Binary(pipecat::audio_frame(samples, rate_hz)),
            Tongue::Rtvi(_) => {
                let data = json!({
                    "type": "raw-audio",
                    "base64Audio": audio::encode(samples),
                    "sampleRate": rate_hz,
                    "numChannels": 1,
                });
                Message::Text(ServerMessage::ServerMessage(data).to_json(None))
            }
            Tongue::Json(_) => Message::Text(JsonNarrator::audio(samples, rate_hz)),
        }
    }

    /// Appends the messages for what has happened. `timestamp` is the time of day in ISO 8601.
    pub fn notice(&mut self, notice: Notice, timestamp: &str, out: &mut Vec<Message>) {
        match &mut self.tongue {
            Tongue::Protobuf(narrator) => {
                out.extend(narrator.messages(notice, timestamp).iter().map(in_protobuf));
            }
            Tongue::Rtvi(narrator) => out.extend(narrator.messages(notice, timestamp).iter().map(in_text)),
            Tongue::Json(narrator) => out.extend(narrator.frame(notice, timestamp).map(Message::Text)),
        }
    }

    /// Appends the messages for the end of the call.
    pub fn end(&mut self, reason: &EndReason, out: &mut Vec<Message>) {
        match &self.tongue {
            Tongue::Protobuf(narrator) => out.extend(narrator.end(reason).iter().map(in_protobuf)),
            Tongue::Rtvi(narrator) => out.extend(narrator.end(reason).iter().map(in_text)),
            Tongue::Json(_) => out.extend(JsonNarrator::end(reason).into_iter().map(Message::Text)),
        }
    }
}

fn in_protobuf(message: &ServerMessage) -> Message {
    Message::Binary(pipecat::message_frame(message.to_json(None)))
}

fn in_text(message: &ServerMessage) -> Message {
    Message::Text(message.to_json(None))
}
