//! Exotel's side of a stream, for simulated callers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::wire::far_end::{FromServer, read_json};
use crate::wire::telephony::{MediaFormat, Start, WireError};

/// Exotel takes messages of whole multiples of this many bytes.
const BLOCK_BYTES: usize = 320;

/// Exotel's first message.
pub fn connected() -> String {
    json!({"event": "connected"}).to_string()
}

/// Builds the messages of one stream, numbering them as Exotel does.
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
        let rate = self.start.format.rate_hz.to_string();
        let body = json!({
            "stream_sid": self.start.stream_id,
            "call_sid": self.start.call_id,
            "account_sid": self.start.account_id,
            "from": "+919876543210",
            "to": "+918047491899",
            "custom_parameters": self.start.parameters,
            "media_format": {"encoding": "audio/x-raw", "sample_rate": rate, "bit_rate": "16"},
        });
        self.numbered("start", "start", &body)
    }

    /// A piece of caller audio.
    pub fn media(&mut self, timestamp_ms: u64, bytes: &[u8]) -> String {
        self.chunk += 1;
        let body = json!({
            "chunk": self.chunk.to_string(),
            "timestamp": timestamp_ms.to_string(),
            "payload": BASE64.encode(bytes),
        });
        self.numbered("media", "media", &body)
    }

    /// The caller pressed a key.
    pub fn dtmf(&mut self, key: char) -> String {
        self.numbered("dtmf", "dtmf", &json!({"digit": key.to_string(), "duration": "100"}))
    }

    /// A mark of the server has been reached.
    pub fn mark(&mut self, name: &str) -> String {
        self.numbered("mark", "mark", &json!({"name": name}))
    }

    /// The call is over.
    pub fn stop(&mut self) -> String {
        let body = json!({
            "call_sid": self.start.call_id,
            "account_sid": self.start.account_id,
            "reason": "callended",
        });
        self.numbered("stop", "stop", &body)
    }

    /// Reads one message of a server.
    ///
    /// # Errors
    /// [`WireError`] for what Exotel would not accept: audio that is shorter than 100 ms or no multiple of 320 bytes
    /// is among it.
    pub fn read(&self, text: &str) -> Result<FromServer, WireError> {
        let read = read_json(text, Some(("stream_sid", &self.start.stream_id)), self.start.format)?;
        if let FromServer::Media(samples) = &read {
            let bytes = samples.len() * 2;
            if bytes % BLOCK_BYTES != 0 || samples.len() < self.start.format.samples(100) {
                return Err(WireError::OddLength { bytes });
            }
        }
        Ok(read)
    }

    fn numbered(&mut self, event: &str, part: &str, body: &Value) -> String {
        self.sequence += 1;
        json!({
            "event": event,
            "sequence_number": self.sequence.to_string(),
            "stream_sid": self.start.stream_id,
            part: body,
        })
        .to_string()
    }
}
