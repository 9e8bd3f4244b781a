//! Plivo Audio Streams, bidirectional: JSON text messages, µ-law at 8 kHz or linear 16 bits at 8 or 16 kHz as
//! `contentType` of the webhook's answer asks, the same both ways.
//!
//! Follows "Stream Event Protocol" (<https://www.plivo.com/docs/voice/audio-streaming/audio-streaming>) and "Audio
//! Streaming Reference" (<https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference>),
//! checked 2026-11-23 (the pages "Checkpoint event", "Clear audio stream" and "Play audio event" below "The AudioStream
//! element" say the same). There is no `connected`, and no documented `stop`: the end is the socket's. Marks are called
//! checkpoints and come back as `playedStream`.

pub mod far_end;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::telephony::envelope::{FormatPart, Text, owned, push_json_string, texts};
use super::telephony::{Channels, Codec, MediaFormat, Provider, Start, WireError};

const EXPECTED: &str = "audio/x-mulaw at 8000 Hz or audio/x-l16 at 8000 or 16000 Hz with 1";

#[derive(Deserialize)]
struct StartMessage<'a> {
    #[serde(borrow, rename = "streamId")]
    stream_id: Option<Text<'a>>,
    #[serde(borrow)]
    start: Option<StartPart<'a>>,
    #[serde(borrow)]
    extra_headers: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartPart<'a> {
    #[serde(borrow)]
    stream_id: Option<Text<'a>>,
    #[serde(borrow)]
    call_id: Option<Text<'a>>,
    #[serde(borrow)]
    account_id: Option<Text<'a>>,
    #[serde(borrow)]
    media_format: Option<FormatPart<'a>>,
}

/// Reads a `start`.
pub(super) fn start(text: &str) -> Result<Start, WireError> {
    let missing = |part| WireError::Missing { event: "start", part };
    let message: StartMessage<'_> = serde_json::from_str(text).map_err(WireError::NotJson)?;
    let start = message.start.ok_or(missing("start"))?;
    let known: &[(&[&str], _, &[u32])] = &[
        (&["audio/x-mulaw"], Codec::Ulaw, &[8_000]),
        (&["audio/x-l16"], Codec::L16, &[8_000, 16_000]),
    ];
    let format = FormatPart::choose(start.media_format, known, MediaFormat::ULAW_8K, EXPECTED)?;
    Ok(Start {
        provider: Provider::Plivo,
        stream_id: owned(start.stream_id)
            .or_else(|| owned(message.stream_id))
            .ok_or(missing("streamId"))?,
        call_id: owned(start.call_id).ok_or(missing("callId"))?,
        account_id: owned(start.account_id),
        parameters: headers(message.extra_headers),
        format,
        channels: Channels::Caller,
    })
}

/// `extraHeaders` of the webhook's answer: `a=1;b=2` or `a=1,b=2`, or a JSON object.
fn headers(text: Option<Text<'_>>) -> BTreeMap<String, String> {
    let Some(text) = owned(text) else {
        return BTreeMap::new();
    };
    if let Ok(object) = serde_json::from_str(&text) {
        return texts(Some(object));
    }
    let pairs = text.split([';', ',']).filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// An audio message up to its base64.
pub(super) fn media_head(stream_id: &str, format: MediaFormat) -> String {
    let content_type = match format.codec {
        Codec::Ulaw | Codec::Alaw => "audio/x-mulaw",
        Codec::L16 => "audio/x-l16",
    };
    let mut json = String::from(r#"{"event":"playAudio","streamId":"#);
    push_json_string(&mut json, stream_id);
    json.push_str(&format!(
        r#","media":{{"contentType":"{content_type}","sampleRate":{},"payload":""#,
        format.rate_hz
    ));
    json
}

/// The message that asks to report when everything sent before it has been played.
pub(super) fn checkpoint_message(stream_id: &str, name: &str) -> String {
    let mut json = String::from(r#"{"event":"checkpoint","streamId":"#);
    push_json_string(&mut json, stream_id);
    json.push_str(r#","name":"#);
    push_json_string(&mut json, name);
    json.push('}');
    json
}

/// The message that drops what was not played; answered by `clearedAudio`.
pub(super) fn clear_message(stream_id: &str) -> String {
    let mut json = String::from(r#"{"event":"clearAudio","streamId":"#);
    push_json_string(&mut json, stream_id);
    json.push('}');
    json
}
