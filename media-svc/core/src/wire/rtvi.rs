//! RTVI, the message protocol of pipecat's client SDKs: `{"label":"rtvi-ai","type","id","data"}`.
//!
//! Follows <https://docs.pipecat.ai/api-reference/standards/rtvi-standard> (protocol 2.x). [`read`] understands what a
//! client sends, and an [`RtviPeer`] what it means; [`ServerMessage`] is what it is sent; a [`Narrator`] turns what a conversation reports into those.

mod inbound;
mod narrator;
mod outbound;
mod peer;

pub use inbound::{ClientMessage, ClientMessageBody, FunctionCallResult, MAX_MESSAGE_BYTES, RtviError, SendText, read};
pub use narrator::Narrator;
pub(in crate::wire) use narrator::metrics;
pub use outbound::{About, BotOutput, Measurement, Metrics, ServerMessage, SpokenProgress, SpokenStatus};
pub use peer::RtviPeer;

/// The label of every message.
pub const LABEL: &str = "rtvi-ai";
/// Protocol version that is answered to `client-ready`.
pub const PROTOCOL_VERSION: &str = "2.1.0";
/// Its first number: clients with another one are refused.
const PROTOCOL_MAJOR: &str = "2";

#[cfg(test)]
mod tests;
