//! Telnyx Media Streaming, bidirectional in RTP mode: JSON text messages, PCMU or PCMA at 8 kHz as `media_format` says,
//! the same both ways.
//!
//! Follows "Stream call media over WebSocket"
//! (<https://developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket>), checked 2026-11-23. What is
//! sent names no stream. Media messages may overtake each other ("frame order is not guaranteed") and are put in order
//! by `media.chunk`. G722, OPUS, AMR-WB and L16, which Telnyx also knows, are refused by name: `codec="PCMU"` or
//! `"PCMA"` in the webhook's answer avoids them.

pub mod far_end;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::telephony::envelope::{FormatPart, Text, owned, push_json_string, texts};
use super::telephony::{Channels, Codec, MediaFormat, Provider, Start, WireError};

const EXPECTED: &str = "PCMU or PCMA at 8000 Hz with 1";

#[derive(Deserialize)]
struct StartMessage<'a> {
    #[serde(borrow)]
    stream_id: Option<Text<'a>>,
    #[serde(borrow)]
    start: Option<StartPart<'a>>,
}

#[derive(Deserialize)]
struct StartPart<'a> {
    #[serde(borrow)]
    stream_id: Option<Text<'a>>,
    #[serde(borrow)]
    call_control_id: Option<Text<'a>>,
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    custom_parameters: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(borrow)]
    media_format: Option<FormatPart<'a>>,
}

/// Reads a `start`.
pub(super) fn start(text: &str) -> Result<Start, WireError> {
    let missing = |part| WireError::Missing { event: "start", part };
    let message: StartMessage<'_> = serde_json::from_str(text).map_err(WireError::NotJson)?;
    let start = message.start.ok_or(missing("start"))?;
    let known: &[(&[&str], _, &[u32])] = &[
        (&["pcmu", "audio/x-mulaw"], Codec::Ulaw, &[8_000]),
        (&["pcma", "audio/x-alaw"], Codec::Alaw, &[8_000]),
    ];
    let format = FormatPart::choose(start.media_format, known, MediaFormat::ULAW_8K, EXPECTED)?;
    Ok(Start {
        provider: Provider::Telnyx,
        stream_id: owned(message.stream_id)
            .or_else(|| owned(start.stream_id))
            .unwrap_or_default(),
        call_id: owned(start.call_control_id).ok_or(missing("call_control_id"))?,
        account_id: owned(start.user_id),
        parameters: texts(start.custom_parameters),
        format,
        channels: Channels::Caller,
    })
}

/// What an `error` message says, short enough for a log.
pub(super) fn trouble(text: &str) -> String {
    const LONGEST: usize = 200;
    #[derive(Deserialize)]
    struct ErrorMessage {
        payload: Option<serde_json::Value>,
    }
    let payload = serde_json::from_str::<ErrorMessage>(text)
        .ok()
        .and_then(|message| message.payload);
    let said = payload.map(|payload| payload.to_string()).unwrap_or_default();
    said.chars().take(LONGEST).collect()
}

/// An audio message up to its base64.
pub(super) fn media_head() -> String {
    r#"{"event":"media","media":{"payload":""#.to_owned()
}

/// The message that asks to report when everything sent before it has been played.
pub(super) fn mark_message(name: &str) -> String {
    let mut json = String::from(r#"{"event":"mark","mark":{"name":"#);
    push_json_string(&mut json, name);
    json.push_str("}}");
    json
}

/// The message that drops what was not played; pending marks come back.
pub(super) fn clear_message() -> String {
    r#"{"event":"clear"}"#.to_owned()
}
