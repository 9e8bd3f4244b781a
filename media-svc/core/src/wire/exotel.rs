//! Exotel AgentStream, Voicebot applet: JSON text messages, linear 16 bits little-endian at 8 kHz (16 and 24 kHz where
//! the stream's URL asks for it), the same both ways.
//!
//! Follows "WebSocket protocol" (<https://developer.exotel.com/docs/agentstream/websocket-protocol>) and "Working with
//! the Stream and Voicebot Applet" (<https://developer.exotel.com/docs/agentstream/stream-voicebot-applet>), checked
//! 2026-11-23. Messages to Exotel are multiples of 320 bytes and at least 100 ms long; its pages also give the minimum
//! as 3.2 kB, which is 100 ms at 16 kHz. `mark` and `clear` are Twilio's with another spelling of the stream's id.

pub mod far_end;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::telephony::envelope::{FormatPart, Text, owned, push_json_string, texts};
use super::telephony::{Channels, Codec, MediaFormat, Provider, Start, WireError};

const EXPECTED: &str = "linear 16 bits (audio/x-raw) at 8000, 16000 or 24000 Hz, or audio/x-mulaw at 8000 Hz with 1";
/// What its pages, old and new, call linear audio; `base64` is what some streams say instead of a coding.
const LINEAR: &[&str] = &[
    "audio/x-raw",
    "raw/slin",
    "slin",
    "base64",
    "pcm",
    "linear16",
    "audio/l16",
    "audio/x-l16",
];

#[derive(Deserialize)]
struct StartMessage<'a> {
    #[serde(borrow)]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    start: Option<StartPart<'a>>,
}

#[derive(Deserialize)]
struct StartPart<'a> {
    #[serde(borrow)]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    call_sid: Option<Text<'a>>,
    #[serde(borrow)]
    account_sid: Option<Text<'a>>,
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
        (LINEAR, Codec::L16, &[8_000, 16_000, 24_000]),
        (&["audio/x-mulaw"], Codec::Ulaw, &[8_000]),
    ];
    let usual = MediaFormat {
        codec: Codec::L16,
        rate_hz: 8_000,
    };
    let format = FormatPart::choose(start.media_format, known, usual, EXPECTED)?;
    Ok(Start {
        provider: Provider::Exotel,
        stream_id: owned(start.stream_sid)
            .or_else(|| owned(message.stream_sid))
            .ok_or(missing("stream_sid"))?,
        call_id: owned(start.call_sid).ok_or(missing("call_sid"))?,
        account_id: owned(start.account_sid),
        parameters: texts(start.custom_parameters),
        format,
        channels: Channels::Caller,
    })
}

/// An audio message up to its base64.
pub(super) fn media_head(stream_sid: &str) -> String {
    let mut json = String::from(r#"{"event":"media","stream_sid":"#);
    push_json_string(&mut json, stream_sid);
    json.push_str(r#","media":{"payload":""#);
    json
}

/// The message that asks to report when everything sent before it has been played.
pub(super) fn mark_message(stream_sid: &str, name: &str) -> String {
    let mut json = String::from(r#"{"event":"mark","stream_sid":"#);
    push_json_string(&mut json, stream_sid);
    json.push_str(r#","mark":{"name":"#);
    push_json_string(&mut json, name);
    json.push_str("}}");
    json
}

/// The message that drops what was not played.
pub(super) fn clear_message(stream_sid: &str) -> String {
    let mut json = String::from(r#"{"event":"clear","stream_sid":"#);
    push_json_string(&mut json, stream_sid);
    json.push('}');
    json
}
