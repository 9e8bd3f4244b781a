//! What a client of `/ws` says and is told, in any of the three dialects: a file each.
//!
//! [`Inbound`] reads one socket: typed wishes for the call, and what is answered at once. [`Outbound`] writes to the same
//! socket. Both are pure; the socket around them knows nothing of any dialect.

mod audio;
mod inbound;
pub mod json;
mod outbound;

use serde_json::Value;

use crate::conversation::Typed;

pub use audio::{AudioIn, AudioProblem, EncodedAudio};
pub use inbound::{Inbound, WrongKind};
pub use outbound::Outbound;

/// Keys that one message may press; nobody has a longer number.
pub const MAX_KEYS: usize = 64;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// pipecat's protobuf frames, with RTVI messages inside (`format=protobuf`).
    Protobuf,
    /// RTVI messages as JSON text, audio among them (`rtvi=1`).
    Rtvi,
    /// `{"type", "data"}` envelopes as JSON text, audio among them (the default).
    Json,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Protobuf, Self::Rtvi, Self::Json];

    /// Whether the client has to introduce itself before anything else.
    pub fn introduces_itself(self) -> bool {
        match self {
            Self::Protobuf | Self::Rtvi => true,
            Self::Json => false,
        }
    }
}

/// One message on a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// What a client is told about its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Version of this server.
    pub version: String,
    /// Rate at which the call hears the client, in hertz; audio at other rates is converted.
    pub input_rate_hz: u32,
    /// Rate of the agent's audio, in hertz.
    pub output_rate_hz: u32,
}

/// What a client wants of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// It has introduced itself: audio may flow.
    Begin,
    /// It cannot be served, for this reason; an answer says so.
    Refused(String),
    /// Mono audio at [`Session::input_rate_hz`].
    Audio(Vec<i16>),
    /// It typed.
    Type(Typed),
    /// It pressed telephone keys.
    Press(Vec<char>),
    /// The agent is to be silent.
    Interrupt,
    /// A tool that runs at the client has answered.
    ToolResult {
        /// Id of the call.
        call_id: String,
        /// JSON or plain text.
        content: String,
    },
    /// It leaves.
    Leave,
}

/// What one message means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard<M = Message> {
    /// What is answered at once, in this order.
    pub replies: Vec<M>,
    /// What it wants of the call.
    pub wish: Option<Wish>,
    /// Why the message counts as a breach of the protocol, where it does.
    pub breach: Option<String>,
}

impl<M> Heard<M> {
    /// A wish alone.
    pub fn wish(wish: Wish) -> Self {
        Self {
            replies: Vec::new(),
            wish: Some(wish),
            breach: None,
        }
    }

    /// Nothing to do.
    pub fn nothing() -> Self {
        Self {
            replies: Vec::new(),
            wish: None,
            breach: None,
        }
    }

    /// An answer alone.
    pub fn reply(reply: M) -> Self {
        Self {
            replies: vec![reply],
            wish: None,
            breach: None,
        }
    }

    /// A breach of the protocol that is not answered.
    pub fn breach(why: impl Into<String>) -> Self {
        Self {
            replies: Vec::new(),
            wish: None,
            breach: Some(why.into()),
        }
    }

    /// The same with its answers in another form.
    pub fn map<N>(self, form: impl FnMut(M) -> N) -> Heard<N> {
        Heard {
            replies: self.replies.into_iter().map(form).collect(),
            wish: self.wish,
            breach: self.breach,
        }
    }
}

/// Keys that cannot be pressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// None, or more than anybody presses at once.
    #[error("{0} keys in one message: send 1 to {MAX_KEYS}")]
    Count(usize),
    /// Not a telephone key.
    #[error("{0:?} is no key: use 0 to 9, *, # and A to D")]
    Unknown(char),
}

/// Checks keys; letters become capitals.
///
/// # Errors
/// [`KeyProblem`]
pub fn keys(pressed: impl IntoIterator<Item = char>) -> Result<Vec<char>, KeyProblem> {
    let keys: Vec<char> = pressed.into_iter().map(|key| key.to_ascii_uppercase()).collect();
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(KeyProblem::Count(keys.len()));
    }
    match keys
        .iter()
        .find(|key| !matches!(key, '0'..='9' | '*' | '#' | 'A'..='D'))
    {
        Some(unknown) => Err(KeyProblem::Unknown(*unknown)),
        None => Ok(keys),
    }
}

/// A tool's answer as a model reads it: text as it is, anything else as JSON.
pub fn tool_answer(result: Value) -> String {
    match result {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The other way: JSON where it is JSON.
pub fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The beginning of a client's own words, for an answer that repeats them.
pub fn cut(text: &str) -> String {
    /// Characters that are repeated.
    const REPEATED: usize = 64;
    text.chars().take(REPEATED).collect()
}

#[cfg(test)]
mod tests;
