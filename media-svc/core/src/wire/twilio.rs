//! Twilio Media Streams, bidirectional: JSON text messages, µ-law at 8 kHz both ways.
//!
//! Follows "Media Streams - WebSocket Messages" (<https://www.twilio.com/docs/voice/media-streams/websocket-messages>),
//! checked 2026-11-23. Emulators leave out much of it (`connected`, `accountSid`, `mediaFormat`, `streamSid` on media);
//! none of that is needed here.

pub mod far_end;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::telephony::envelope::{FormatPart, Text, owned, push_json_string, texts};
use super::telephony::{Channels, Codec, MediaFormat, Provider, Start, WireError};

const EXPECTED: &str = "audio/x-mulaw at 8000 Hz with 1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartMessage<'a> {
    #[serde(borrow)]
    stream_sid: Option<Text<'a>>,
    #[serde(borrow)]
    start: Option<StartPart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
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
    let known: &[(&[&str], _, &[u32])] = &[(&["audio/x-mulaw"], Codec::Ulaw, &[8_000])];
    let format = FormatPart::choose(start.media_format, known, MediaFormat::ULAW_8K, EXPECTED)?;
    Ok(Start {
        provider: Provider::Twilio,
        stream_id: owned(start.stream_sid)
            .or_else(|| owned(message.stream_sid))
            .ok_or(missing("streamSid"))?,
        call_id: owned(start.call_sid).ok_or(missing("callSid"))?,
        account_id: owned(start.account_sid),
        parameters: texts(start.custom_parameters),
        format,
        channels: Channels::Caller,
    })
}

/// An audio message up to its base64.
pub(super) fn media_head(stream_sid: &str) -> String {
    let mut json = String::from(r#"{"event":"media","streamSid":"#);
    push_json_string(&mut json, stream_sid);
    json.push_str(r#","media":{"payload":""#);
    json
}

/// The message that asks to report when everything sent before it has been played.
pub(super) fn mark_message(stream_sid: &str, name: &str) -> String {
    let mut json = String::from(r#"{"event":"mark","streamSid":"#);
    push_json_string(&mut json, stream_sid);
    json.push_str(r#","mark":{"name":"#);
    push_json_string(&mut json, name);
    json.push_str("}}");
    json
}

/// The message that drops what was not played; pending marks come back at once.
pub(super) fn clear_message(stream_sid: &str) -> String {
    let mut json = String::from(r#"{"event":"clear","streamSid":"#);
    push_json_string(&mut json, stream_sid);
    json.push('}');
    json
}
