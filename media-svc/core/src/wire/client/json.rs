//! The JSON envelope: `{"type": FRAME, "data": {…}}` as text messages, audio among them.
//!
//! Frames carry the names and fields that the original Voxray server gave them, except `audio`, which it did not send in
//! JSON. There is no introduction: the call begins when the socket is open, and the first message is a `StartFrame`.

mod narrator;
mod peer;

pub use narrator::JsonNarrator;
pub use peer::{JsonError, JsonPeer};

use serde::Serialize;
use serde_json::Value;

/// Longest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = crate::wire::rtvi::MAX_MESSAGE_BYTES;

/// One message.
fn frame(kind: &str, data: Value) -> String {
    #[derive(Serialize)]
    struct Envelope<'a> {
        r#type: &'a str,
        data: Value,
    }
    // Nothing in it can fail to serialise: no map has keys that are no strings.
    serde_json::to_string(&Envelope { r#type: kind, data }).unwrap_or_default()
}

fn error_frame(error: &str, fatal: bool, processor: &str) -> String {
    let data = serde_json::json!({ "error": error, "fatal": fatal, "processor": processor });
    frame("ErrorFrame", data)
}
