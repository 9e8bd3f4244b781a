//! Vonage Voice API WebSockets: binary messages of linear 16 bits little-endian, 20 ms each (640 bytes at 16 kHz), and
//! JSON text for everything else.
//!
//! Follows "WebSockets in the Vonage Voice API" (<https://developer.vonage.com/en/voice/voice-api/concepts/websockets>),
//! checked 2026-11-23. The first message echoes the `headers` of the NCCO among its own fields: they are the call's
//! parameters, and one of them may name the call. There is no message for the end: the socket closes. Marks are
//! `notify`, and what was cleared is confirmed by `websocket:cleared`.

pub mod far_end;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::telephony::envelope::{key, push_json_string, texts};
use super::telephony::{Channels, Codec, Event, MediaFormat, Provider, Start, WireError};

const EXPECTED: &str = "audio/l16;rate=16000, rate=8000 or rate=24000 with 1";
const RATES_HZ: [u32; 3] = [8_000, 16_000, 24_000];
/// Headers under which an NCCO may name the call.
const CALL_ID_HEADERS: [&str; 4] = ["call_id", "callId", "call_uuid", "uuid"];

/// What a text message is.
pub(super) enum Text {
    /// The stream begins.
    Connected(Start),
    /// Anything later.
    Event(Event),
}

/// Any message; what is not named here is a header of the NCCO.
#[derive(Deserialize)]
struct TextMessage {
    event: String,
    #[serde(rename = "content-type")]
    content_type: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Reads a text message.
pub(super) fn read(text: &str) -> Result<Text, WireError> {
    let message: TextMessage = serde_json::from_str(text).map_err(WireError::NotJson)?;
    let event = match message.event.as_str() {
        "websocket:connected" => return start(message).map(Text::Connected),
        "websocket:notify" => {
            let payload = message.rest.get("payload").and_then(|payload| payload.get("name"));
            let name = payload.and_then(Value::as_str).ok_or(WireError::Missing {
                event: "websocket:notify",
                part: "payload",
            })?;
            Event::Mark(name.to_owned())
        }
        "websocket:dtmf" => {
            // Also seen as in Twilio's `dtmf`.
            let nested = message.rest.get("dtmf").and_then(|dtmf| dtmf.get("digit"));
            let digit = message.rest.get("digit").or(nested).ok_or(WireError::Missing {
                event: "websocket:dtmf",
                part: "digit",
            })?;
            let digit = digit.as_str().map_or_else(|| digit.to_string(), str::to_owned);
            Event::Dtmf(key(&digit)?)
        }
        "websocket:disconnected" => Event::Stop,
        _ => Event::Ignored,
    };
    Ok(Text::Event(event))
}

fn start(message: TextMessage) -> Result<Start, WireError> {
    let rate_hz = match &message.content_type {
        None => 16_000,
        Some(content_type) => rate(content_type).ok_or_else(|| WireError::WrongFormat {
            encoding: content_type.clone(),
            sample_rate: 0,
            channels: 1,
            expected: EXPECTED,
        })?,
    };
    let headers: BTreeMap<String, Value> = message.rest.into_iter().collect();
    let parameters = texts(Some(headers));
    let call_id = CALL_ID_HEADERS.iter().find_map(|name| parameters.get(*name)).cloned();
    Ok(Start {
        provider: Provider::Vonage,
        stream_id: String::new(),
        call_id: call_id.unwrap_or_default(),
        account_id: None,
        parameters,
        format: MediaFormat {
            codec: Codec::L16,
            rate_hz,
        },
        channels: Channels::Caller,
    })
}

fn rate(content_type: &str) -> Option<u32> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("audio/l16") {
        return None;
    }
    let rate = parts.find_map(|part| part.strip_prefix("rate="));
    let rate: u32 = rate.map_or(Some(16_000), |rate| rate.parse().ok())?;
    RATES_HZ.contains(&rate).then_some(rate)
}

/// The message that asks to report when everything sent before it has been played.
pub(super) fn notify_message(name: &str) -> String {
    let mut json = String::from(r#"{"action":"notify","payload":{"name":"#);
    push_json_string(&mut json, name);
    json.push_str("}}");
    json
}

/// The message that drops what was not played.
pub(super) fn clear_message() -> String {
    r#"{"action":"clear"}"#.to_owned()
}
