//! One client that speaks RTVI: what each of its messages means, and what it is answered at once.

use serde_json::{Value, json};

use super::inbound::{ClientMessage, ClientMessageBody, RtviError, read};
use super::{PROTOCOL_MAJOR, PROTOCOL_VERSION, ServerMessage};
use crate::conversation::Typed;
use crate::wire::client::{AudioIn, AudioProblem, Heard, Session, Wish, cut, tool_answer};

/// The way in, for a socket of either RTVI dialect and for a data channel. Its answers are JSON text.
///
/// It keeps no order: whether anything may come before [`Wish::Begin`] is for the transport to say.
#[derive(Debug)]
pub struct RtviPeer {
    session: Session,
    audio: AudioIn,
}

impl RtviPeer {
    /// For a client of this session.
    pub fn new(session: Session) -> Self {
        let audio = AudioIn::new(session.input_rate_hz);
        Self { session, audio }
    }

    /// What a text message means. Every message that has an id and cannot be done is answered with it.
    pub fn hear(&mut self, text: &str) -> Heard<String> {
        match read(text) {
            Ok(ClientMessage { id, body }) => self.understand(&id, body),
            Err(error) => unreadable(&error),
        }
    }

    /// Audio that came another way than by message, at the call's rate.
    ///
    /// # Errors
    /// [`AudioProblem::Rate`]
    pub fn audio(&mut self, samples: Vec<i16>, sample_rate_hz: u32) -> Result<Wish, AudioProblem> {
        Ok(Wish::Audio(self.audio.convert(samples, sample_rate_hz)?))
    }

    fn understand(&mut self, id: &str, body: ClientMessageBody) -> Heard<String> {
        match body {
            ClientMessageBody::ClientReady { version, .. } => self.greet(id, version.as_deref()),
            ClientMessageBody::DisconnectBot => Heard::wish(Wish::Leave),
            ClientMessageBody::SendText(text) => Heard::wish(Wish::Type(Typed {
                text: text.content,
                run_immediately: text.run_immediately,
                audio_response: text.audio_response,
            })),
            ClientMessageBody::Dtmf(keys) => Heard::wish(Wish::Press(keys)),
            ClientMessageBody::FunctionCallResult(result) => Heard::wish(Wish::ToolResult {
                call_id: result.tool_call_id,
                content: tool_answer(result.result),
            }),
            ClientMessageBody::RawAudio {
                samples,
                sample_rate_hz,
            } => match self.audio(samples, sample_rate_hz) {
                Ok(wish) => Heard::wish(wish),
                Err(problem) => Heard::reply(refusal(id, format!("`raw-audio`: {problem}"))),
            },
            ClientMessageBody::Custom { t, d } => self.custom(id, t, d),
            ClientMessageBody::Unknown { kind } => {
                Heard::reply(refusal(id, format!("unknown message type `{}`", cut(&kind))))
            }
        }
    }

    /// Answers `client-ready`. A client that does not say its version is taken to speak ours.
    fn greet(&self, id: &str, version: Option<&str>) -> Heard<String> {
        if let Some(version) = version
            && version.split('.').next() != Some(PROTOCOL_MAJOR)
        {
            let why = format!(
                "RTVI {} is not spoken here: use version {PROTOCOL_MAJOR}, this is {PROTOCOL_VERSION}",
                cut(version)
            );
            return Heard {
                replies: vec![refusal(id, why.clone())],
                wish: Some(Wish::Refused(why)),
                breach: None,
            };
        }
        Heard {
            replies: vec![ServerMessage::bot_ready("voxray", &self.session.version).to_json(Some(id))],
            wish: Some(Wish::Begin),
            breach: None,
        }
    }

    /// Messages of an application. What this server answers itself, and at once:
    fn custom(&self, id: &str, t: String, d: Value) -> Heard<String> {
        let answer = |d: Value| ServerMessage::ServerResponse { t: t.clone(), d }.to_json(Some(id));
        match t.as_str() {
            "ping" => Heard::reply(answer(d)),
            "session" => Heard::reply(answer(json!({
                "session_id": self.session.id,
                "audio_in_sample_rate": self.session.input_rate_hz,
                "audio_out_sample_rate": self.session.output_rate_hz,
            }))),
            "interrupt" => Heard {
                replies: vec![answer(Value::Null)],
                wish: Some(Wish::Interrupt),
                breach: None,
            },
            _ => Heard::reply(refusal(id, format!("this agent has no handler for `{}`", cut(&t)))),
        }
    }
}

fn refusal(id: &str, error: String) -> String {
    ServerMessage::ErrorResponse { error }.to_json(Some(id))
}

/// What cannot be read is answered with its id; without one it is an error of the whole connection.
fn unreadable(error: &RtviError) -> Heard<String> {
    if let Some(id) = error.id() {
        return Heard::reply(refusal(id, error.to_string()));
    }
    let message = ServerMessage::Error {
        error: error.to_string(),
        fatal: false,
    };
    Heard {
        replies: vec![message.to_json(None)],
        wish: None,
        breach: Some(error.to_string()),
    }
}
