//! Plivo's side of a stream, for simulated callers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::wire::far_end::{FromServer, missing, payload};
use crate::wire::telephony::{Codec, MediaFormat, Start, WireError};

/// Builds the messages of one stream, numbering them as Plivo does.
#[derive(Debug, Clone)]
pub struct FarEnd {
    start: Start,
    sequence: u64,
    chunk: u64,
}

impl FarEnd {
    /// The far end of a stream that has not started.
    pub fn new(start: Start) -> Self {
        Self {
            start,
            sequence: 0,
            chunk: 0,
        }
    }

    /// Audio of the stream.
    pub fn format(&self) -> MediaFormat {
        self.start.format
    }

    /// The stream begins.
    pub fn start(&mut self) -> String {
        self.sequence += 1;
        let headers: Vec<String> = self
            .start
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        json!({
            "event": "start",
            "sequenceNumber": self.sequence,
            "start": {
                "callId": self.start.call_id,
                "streamId": self.start.stream_id,
                "accountId": self.start.account_id,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": content_type(self.start.format), "sampleRate": self.start.format.rate_hz},
            },
            "extra_headers": headers.join(";"),
        })
        .to_string()
    }

    /// A piece of caller audio.
    pub fn media(&mut self, timestamp_ms: u64, bytes: &[u8]) -> String {
        self.chunk += 1;
        let body = json!({
            "track": "inbound",
            "timestamp": timestamp_ms.to_string(),
            "chunk": self.chunk,
            "payload": BASE64.encode(bytes),
        });
        self.numbered("media", "media", body)
    }

    /// The caller pressed a key.
    pub fn dtmf(&mut self, key: char) -> String {
        let body = json!({"track": "inbound", "digit": key.to_string()});
        self.numbered("dtmf", "dtmf", body)
    }

    /// A checkpoint of the server has been reached.
    pub fn played(&mut self, name: &str) -> String {
        self.numbered("playedStream", "name", name.into())
    }

    /// Reads one message of a server.
    ///
    /// # Errors
    /// [`WireError`] for what Plivo would not accept; audio of another content type than the stream's is among it.
    pub fn read(&self, text: &str) -> Result<FromServer, WireError> {
        let message: Value = serde_json::from_str(text).map_err(WireError::NotJson)?;
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        if text("streamId") != Some(&self.start.stream_id) {
            return Err(WireError::WrongStream);
        }
        match text("event").unwrap_or_default() {
            "playAudio" => {
                let media = message.get("media").ok_or(missing("media"))?;
                let said = media.get("contentType").and_then(Value::as_str).unwrap_or_default();
                let rate = media.get("sampleRate").and_then(Value::as_u64).unwrap_or(0);
                if (said, rate) != (content_type(self.start.format), self.start.format.rate_hz.into()) {
                    return Err(WireError::WrongFormat {
                        encoding: said.to_owned(),
                        sample_rate: rate,
                        channels: 1,
                        expected: content_type(self.start.format),
                    });
                }
                payload(&message, self.start.format)
            }
            "checkpoint" => Ok(FromServer::Mark(text("name").ok_or(missing("checkpoint"))?.to_owned())),
            "clearAudio" => Ok(FromServer::Clear),
            _ => Ok(FromServer::Ignored),
        }
    }

    fn numbered(&mut self, event: &str, part: &str, body: Value) -> String {
        self.sequence += 1;
        json!({
            "event": event,
            "sequenceNumber": self.sequence,
            "streamId": self.start.stream_id,
            part: body,
        })
        .to_string()
    }
}

fn content_type(format: MediaFormat) -> &'static str {
    match format.codec {
        Codec::Ulaw | Codec::Alaw => "audio/x-mulaw",
        Codec::L16 => "audio/x-l16",
    }
}
