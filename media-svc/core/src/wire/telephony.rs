//! What the six phone providers have in common: typed events in, typed messages out.
//!
//! [`Inbound`] reads one stream: it finds out whose it is from the first messages, knows in which order messages may
//! come, and stays as it was when one is wrong, so that a bad message may be skipped. [`Outbound`] writes to the same
//! stream. What only one provider has is in that provider's file.

mod codec;
pub(super) mod envelope;
mod error;
mod hello;
mod inbound;
mod order;
mod outbound;
mod timeline;

use std::collections::BTreeMap;

pub use codec::{Codec, MediaFormat};
pub use error::WireError;
pub use inbound::Inbound;
pub use outbound::Outbound;

/// Longest message that is read, in bytes; a second of 16 kHz linear audio is 42 668 characters of base64.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Who opens a media stream. The providers that are asked by REST are `carriers::Provider`, a smaller set that this crate,
/// which knows no network, does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Twilio Media Streams.
    Twilio,
    /// Telnyx Media Streaming.
    Telnyx,
    /// Plivo Audio Streams.
    Plivo,
    /// Exotel AgentStream (Voicebot applet).
    Exotel,
    /// Vonage Voice API WebSockets.
    Vonage,
    /// Genesys Cloud AudioHook, version 2.
    Genesys,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Twilio,
        Self::Telnyx,
        Self::Plivo,
        Self::Exotel,
        Self::Vonage,
        Self::Genesys,
    ];

    /// As in paths, records, tokens and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Twilio => "twilio",
            Self::Telnyx => "telnyx",
            Self::Plivo => "plivo",
            Self::Exotel => "exotel",
            Self::Vonage => "vonage",
            Self::Genesys => "genesys",
        }
    }

    /// The provider of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Whether it reports when audio has been played: by marks, checkpoints or notifications.
    pub fn echoes_marks(self) -> bool {
        match self {
            Self::Twilio | Self::Telnyx | Self::Plivo | Self::Exotel | Self::Vonage => true,
            Self::Genesys => false,
        }
    }

    /// Audio in one message to it, in milliseconds. Exotel: at least 100 ms. Genesys: few messages a second, else it
    /// answers with error 429.
    pub fn message_ms(self) -> u32 {
        match self {
            Self::Twilio | Self::Telnyx | Self::Plivo | Self::Vonage => 20,
            Self::Exotel => 100,
            Self::Genesys => 200,
        }
    }

    /// Whether a stream that was cut off may come back: AudioHook has no way to say so.
    pub fn may_return(self) -> bool {
        match self {
            Self::Twilio | Self::Telnyx | Self::Plivo | Self::Exotel | Self::Vonage => true,
            Self::Genesys => false,
        }
    }
}

/// Who is calling, from the first message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Whose stream it is.
    pub provider: Provider,
    /// Names the stream in messages; empty where the provider has no such name.
    pub stream_id: String,
    /// Names the call, also for the provider's REST API; empty when the stream does not say (Vonage).
    pub call_id: String,
    /// Account the call belongs to.
    pub account_id: Option<String>,
    /// What the webhook's answer or the provider's flow wants the agent to know. Values that are no strings are kept
    /// as their JSON.
    pub parameters: BTreeMap<String, String>,
    /// Audio, both ways.
    pub format: MediaFormat,
    /// Which parties the audio holds.
    pub channels: Channels,
}

/// Parties in the audio of a stream. Only Genesys can send two, sample by sample in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// The caller alone.
    Caller,
    /// The caller first, then whom they talk to; only the caller is taken.
    Both,
}

/// What a provider has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The socket is up; the start follows.
    Connected,
    /// The stream begins.
    Start(Start),
    /// A test whether anybody answers, without a caller (Genesys).
    Probe(Start),
    /// Caller audio that is next, mono at the stream's rate; what is missing before it is silence, where the provider's
    /// times tell.
    Media(Vec<i16>),
    /// Audio that waits for a piece before it.
    Held,
    /// Audio that came twice or too late to be heard.
    Late,
    /// The caller pressed a key: `0`–`9`, `*`, `#`, `A`–`D`.
    Dtmf(char),
    /// Everything sent before this mark has been played, or was dropped by a clear.
    Mark(String),
    /// The stream or the call has ended.
    Stop,
    /// The provider reports a problem of its own.
    Trouble(String),
    /// Valid, but nothing to act on: an unknown event, our own audio, or audio after the end.
    Ignored,
}

/// What has to be answered, where the protocol has answers (Genesys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To `open`.
    Opened {
        /// Number of the message answered.
        client_seq: u64,
        /// The audio that was chosen.
        channels: Channels,
    },
    /// To `ping`.
    Pong {
        /// Number of the message answered.
        client_seq: u64,
    },
    /// To `update`.
    Updated {
        /// Number of the message answered.
        client_seq: u64,
    },
    /// To `close`.
    Closed {
        /// Number of the message answered.
        client_seq: u64,
    },
}

/// What one message meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// For the call.
    pub event: Event,
    /// For the provider.
    pub answer: Option<Answer>,
}

impl From<Event> for Read {
    fn from(event: Event) -> Self {
        Self { event, answer: None }
    }
}

/// One message that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

impl Frame<'_> {
    fn len(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// As the other side reads it.
    pub fn as_frame(&self) -> Frame<'_> {
        match self {
            Self::Text(text) => Frame::Text(text),
            Self::Binary(bytes) => Frame::Binary(bytes),
        }
    }
}

/// Why this side ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye<'a> {
    /// The conversation is over.
    Completed,
    /// The stream cannot be carried on.
    Refused(&'a str),
}
