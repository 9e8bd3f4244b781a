//! Whose stream it is, from its first messages.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Event, Provider, WireError};

/// What tells providers apart.
#[derive(Deserialize)]
struct Hello<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    /// Genesys.
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    start: Option<Ids>,
}

#[derive(Deserialize)]
struct Ids {
    #[serde(rename = "callSid")]
    twilio: Option<IgnoredAny>,
    #[serde(rename = "streamSid")]
    twilio_stream: Option<IgnoredAny>,
    #[serde(rename = "call_control_id")]
    telnyx: Option<IgnoredAny>,
    #[serde(rename = "callId")]
    plivo: Option<IgnoredAny>,
    #[serde(rename = "streamId")]
    plivo_stream: Option<IgnoredAny>,
    #[serde(rename = "call_sid")]
    exotel: Option<IgnoredAny>,
    #[serde(rename = "stream_sid")]
    exotel_stream: Option<IgnoredAny>,
}

/// What a message before the start means.
pub(super) enum First {
    /// The provider's own reader takes it from here.
    Of(Provider),
    /// Nothing yet.
    Event(Event),
}

/// Looks at one text message.
pub(super) fn recognise(text: &str) -> Result<First, WireError> {
    let hello: Hello<'_> = serde_json::from_str(text).map_err(WireError::NotJson)?;
    if let (None, Some(kind)) = (&hello.event, &hello.kind) {
        return match kind.as_ref() {
            "open" => Ok(First::Of(Provider::Genesys)),
            "ping" | "close" | "dtmf" | "update" => Err(WireError::BeforeStart { event: "open" }),
            _ => Ok(First::Event(Event::Ignored)),
        };
    }
    let Some(event) = &hello.event else {
        return Err(WireError::Missing {
            event: "first",
            part: "event",
        });
    };
    match event.as_ref() {
        "connected" => Ok(First::Event(Event::Connected)),
        "websocket:connected" => Ok(First::Of(Provider::Vonage)),
        "start" => {
            let ids = hello.start.ok_or(WireError::Missing {
                event: "start",
                part: "start",
            })?;
            provider(&ids).map(First::Of).ok_or(WireError::Unknown)
        }
        "media" => Err(WireError::BeforeStart { event: "media" }),
        "dtmf" | "websocket:dtmf" => Err(WireError::BeforeStart { event: "dtmf" }),
        "mark" | "playedStream" | "websocket:notify" => Err(WireError::BeforeStart { event: "mark" }),
        "stop" => Ok(First::Event(Event::Stop)),
        _ => Ok(First::Event(Event::Ignored)),
    }
}

/// By the spelling of the call's id, else of the stream's.
fn provider(ids: &Ids) -> Option<Provider> {
    let spellings = [
        (ids.telnyx.is_some(), Provider::Telnyx),
        (ids.twilio.is_some(), Provider::Twilio),
        (ids.plivo.is_some(), Provider::Plivo),
        (ids.exotel.is_some(), Provider::Exotel),
        (ids.twilio_stream.is_some(), Provider::Twilio),
        (ids.plivo_stream.is_some(), Provider::Plivo),
        (ids.exotel_stream.is_some(), Provider::Exotel),
    ];
    spellings
        .into_iter()
        .find(|(found, _)| *found)
        .map(|(_, provider)| provider)
}
