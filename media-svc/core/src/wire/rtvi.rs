//! RTVI, the message protocol of pipecat's client SDKs: `{"label":"rtvi-ai","type","id","data"}`.
//!
//! Follows <https://docs.pipecat.ai/api-reference/standards/rtvi-standard> (protocol 2.x). [`read`] understands what a
//! client sends; [`ServerMessage`] is what it is sent; a [`Narrator`] turns what a conversation reports into those.

mod inbound;
mod narrator;
mod outbound;

pub use inbound::{
    AudioProblem, ClientMessage, ClientMessageBody, FunctionCallResult, MAX_MESSAGE_BYTES, RtviError, SendText, read,
};
pub use narrator::Narrator;
pub use outbound::{About, BotOutput, Measurement, Metrics, ServerMessage, SpokenProgress, SpokenStatus};

/// The label of every message.
pub const LABEL: &str = "rtvi-ai";
/// Protocol version that is answered to `client-ready`.
pub const PROTOCOL_VERSION: &str = "2.0.0";

#[cfg(test)]
mod tests;
