//! Telnyx' side of a stream, for simulated callers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::wire::far_end::{FromServer, read_json};
use crate::wire::telephony::{Codec, MediaFormat, Start, WireError};

/// Telnyx' first message.
pub fn connected() -> String {
    json!({"event": "connected", "version": "1.0.0"}).to_string()
}

/// Builds the messages of one stream, numbering them as Telnyx does.
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
        let encoding = match self.start.format.codec {
            Codec::Alaw => "PCMA",
            Codec::Ulaw | Codec::L16 => "PCMU",
        };
        let body = json!({
            "user_id": self.start.account_id,
            "call_control_id": self.start.call_id,
            "from": "+15005550006",
            "to": "+15005550001",
            "custom_parameters": self.start.parameters,
            "media_format": {"encoding": encoding, "sample_rate": self.start.format.rate_hz, "channels": 1},
        });
        self.numbered("start", "start", &body)
    }

    /// A piece of caller audio.
    pub fn media(&mut self, timestamp_ms: u64, bytes: &[u8]) -> String {
        self.chunk += 1;
        let body = json!({
            "track": "inbound",
            "chunk": self.chunk.to_string(),
            "timestamp": timestamp_ms.to_string(),
            "payload": BASE64.encode(bytes),
        });
        self.numbered("media", "media", &body)
    }

    /// The caller pressed a key.
    pub fn dtmf(&mut self, key: char) -> String {
        self.numbered("dtmf", "dtmf", &json!({"digit": key.to_string()}))
    }

    /// A mark of the server has been reached.
    pub fn mark(&mut self, name: &str) -> String {
        self.numbered("mark", "mark", &json!({"name": name}))
    }

    /// The call is over.
    pub fn stop(&mut self) -> String {
        let body = json!({"user_id": self.start.account_id, "call_control_id": self.start.call_id});
        self.numbered("stop", "stop", &body)
    }

    /// Reads one message of a server.
    ///
    /// # Errors
    /// [`WireError`] for what Telnyx would not accept.
    pub fn read(&self, text: &str) -> Result<FromServer, WireError> {
        read_json(text, None, self.start.format)
    }

    fn numbered(&mut self, event: &str, part: &str, body: &Value) -> String {
        self.sequence += 1;
        json!({
            "event": event,
            "sequence_number": self.sequence.to_string(),
            "stream_id": self.start.stream_id,
            part: body,
        })
        .to_string()
    }
}
