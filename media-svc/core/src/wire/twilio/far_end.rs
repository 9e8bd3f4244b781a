//! Twilio's side of a stream, for simulated callers: builds what Twilio sends and reads what it is sent.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;

use super::parts::{MarkPart, push_json_string};
use super::{MAX_MESSAGE_BYTES, StreamStart, TwilioError};
use crate::audio::g711;

/// What a server has to say to Twilio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromServer {
    /// Audio for the caller: mono at 8 kHz.
    Media(Vec<i16>),
    /// Report this name when everything before it has been played.
    Mark(String),
    /// Drop what has not been played.
    Clear,
    /// Valid, but nothing that Twilio acts on.
    Ignored,
}

/// Reads one message of a server.
///
/// # Errors
/// [`TwilioError`] as for [`super::TwilioStream::read`], without an order; a message for another stream than
/// `stream_sid`, which Twilio would not act on.
pub fn read(text: &str, stream_sid: &str) -> Result<FromServer, TwilioError> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        event: Cow<'a, str>,
        #[serde(borrow, rename = "streamSid")]
        stream_sid: Option<Cow<'a, str>>,
        #[serde(borrow)]
        media: Option<Payload<'a>>,
        #[serde(borrow)]
        mark: Option<MarkPart<'a>>,
    }
    #[derive(Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        payload: Cow<'a, str>,
    }

    if text.len() > MAX_MESSAGE_BYTES {
        return Err(TwilioError::Oversized { bytes: text.len() });
    }
    let message: Message<'_> = serde_json::from_str(text).map_err(TwilioError::NotJson)?;
    if message.stream_sid.as_deref() != Some(stream_sid) {
        return Err(TwilioError::WrongStream);
    }
    match message.event.as_ref() {
        "media" => {
            let media = message.media.ok_or(TwilioError::Missing {
                event: "media",
                part: "media",
            })?;
            let ulaw = BASE64.decode(media.payload.as_ref()).map_err(TwilioError::NotBase64)?;
            Ok(FromServer::Media(g711::decode_ulaw(&ulaw)))
        }
        "mark" => {
            let mark = message.mark.ok_or(TwilioError::Missing {
                event: "mark",
                part: "mark",
            })?;
            Ok(FromServer::Mark(mark.name.into_owned()))
        }
        "clear" => Ok(FromServer::Clear),
        _ => Ok(FromServer::Ignored),
    }
}

/// Twilio's first message.
pub fn connected() -> String {
    json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}).to_string()
}

/// Builds the messages of one stream, numbering them as Twilio does.
#[derive(Debug, Clone)]
pub struct FarEnd {
    start: StreamStart,
    sequence: u64,
    chunk: u64,
}

impl FarEnd {
    /// The far end of a stream that has not started.
    pub fn new(start: StreamStart) -> Self {
        Self {
            start,
            sequence: 0,
            chunk: 0,
        }
    }

    /// The stream begins.
    pub fn start(&mut self) -> String {
        let start = &self.start;
        let mut body = json!({
            "streamSid": start.stream_sid,
            "callSid": start.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": start.custom_parameters,
        });
        if let (Some(account), Some(body)) = (&start.account_sid, body.as_object_mut()) {
            body.insert("accountSid".to_owned(), account.clone().into());
        }
        self.numbered("start", "start", body)
    }

    /// A piece of caller audio that begins `timestamp_ms` after the stream did.
    pub fn media(&mut self, timestamp_ms: u64, ulaw: &[u8]) -> String {
        self.sequence += 1;
        self.chunk += 1;
        let mut json = format!(
            r#"{{"event":"media","sequenceNumber":"{}","media":{{"track":"inbound","chunk":"{}","timestamp":"{timestamp_ms}","payload":""#,
            self.sequence, self.chunk
        );
        BASE64.encode_string(ulaw, &mut json);
        json.push_str(r#""},"streamSid":"#);
        push_json_string(&mut json, &self.start.stream_sid);
        json.push('}');
        json
    }

    /// The caller pressed a key.
    pub fn dtmf(&mut self, key: char) -> String {
        self.numbered(
            "dtmf",
            "dtmf",
            json!({"track": "inbound_track", "digit": key.to_string()}),
        )
    }

    /// A mark of the server has been reached.
    pub fn mark(&mut self, name: &str) -> String {
        self.numbered("mark", "mark", json!({"name": name}))
    }

    /// The caller hung up.
    pub fn stop(&mut self) -> String {
        let mut body = json!({"callSid": self.start.call_sid});
        if let (Some(account), Some(body)) = (&self.start.account_sid, body.as_object_mut()) {
            body.insert("accountSid".to_owned(), account.clone().into());
        }
        self.numbered("stop", "stop", body)
    }

    fn numbered(&mut self, event: &str, part: &str, body: serde_json::Value) -> String {
        self.sequence += 1;
        json!({
            "event": event,
            "sequenceNumber": self.sequence.to_string(),
            part: body,
            "streamSid": self.start.stream_sid,
        })
        .to_string()
    }
}
