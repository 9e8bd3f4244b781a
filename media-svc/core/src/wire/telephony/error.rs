//! What can be wrong with a message.

use super::{MAX_MESSAGE_BYTES, Provider};

/// A message that breaks its provider's protocol. Which ones end a call is for the transport to decide.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {bytes} bytes is larger than the {MAX_MESSAGE_BYTES} allowed")]
    Oversized {
        /// Its length.
        bytes: usize,
    },
    /// Not a JSON object of a shape that any provider sends.
    #[error("not a media stream message: {0}")]
    NotJson(#[source] serde_json::Error),
    /// An event needs a part that is not there.
    #[error("a `{event}` message without `{part}`")]
    Missing {
        /// The event.
        event: &'static str,
        /// What it lacks.
        part: &'static str,
    },
    /// Something that only makes sense within a stream came before its start.
    #[error("`{event}` came before `start`")]
    BeforeStart {
        /// The event.
        event: &'static str,
    },
    /// The stream was started twice.
    #[error("a second `start` on one stream")]
    SecondStart,
    /// A start that names a call in no provider's way.
    #[error("`start` names its call in no known provider's way: this server knows twilio, telnyx, plivo and exotel")]
    Unknown,
    /// The stream is another provider's than the one it was announced for.
    #[error("this stream was announced for {} and is {}'s", announced.name(), found.name())]
    OtherProvider {
        /// Whom the token is for.
        announced: Provider,
        /// Whose messages they are.
        found: Provider,
    },
    /// Audio in a form that cannot be carried.
    #[error("audio is {encoding} at {sample_rate} Hz with {channels} channel(s); expected {expected}")]
    WrongFormat {
        /// As announced.
        encoding: String,
        /// As announced.
        sample_rate: u64,
        /// As announced.
        channels: u64,
        /// What can be carried.
        expected: &'static str,
    },
    /// A message that names no stream, or another one.
    #[error("the message is not for this stream: its stream id is missing or wrong")]
    WrongStream,
    /// The audio is not base64.
    #[error("the audio is not base64: {0}")]
    NotBase64(#[source] base64::DecodeError),
    /// Half a sample is left over.
    #[error("{bytes} bytes of audio are not a whole number of samples")]
    OddLength {
        /// How many bytes there were.
        bytes: usize,
    },
    /// A key that no telephone has.
    #[error("the key pressed is not one of 0-9, *, # and A-D")]
    NotAKey,
    /// A binary message where the provider sends text only.
    #[error("expected JSON text messages, not binary ones")]
    Binary,
    /// A message whose number was used before.
    #[error("message {seq} came after message {last}")]
    OutOfSequence {
        /// Its number.
        seq: u64,
        /// The largest number so far.
        last: u64,
    },
}
