//! Twilio's side of a stream, for simulated callers: builds what Twilio sends and reads what it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::wire::far_end::{FromServer, read_json};
use crate::wire::telephony::envelope::push_json_string;
use crate::wire::telephony::{Start, WireError};

/// Twilio's first message.
pub fn connected() -> String {
    json!({"event": "connected", "protocol": "Call", "version": "1.0.0"}).to_string()
}

/// Builds the messages of one stream, numbering them as Twilio does.
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

    /// The stream begins.
    pub fn start(&mut self) -> String {
        let start = &self.start;
        let mut body = json!({
            "streamSid": start.stream_id,
            "callSid": start.call_id,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": start.parameters,
        });
        if let (Some(account), Some(body)) = (&start.account_id, body.as_object_mut()) {
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
        push_json_string(&mut json, &self.start.stream_id);
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
        let mut body = json!({"callSid": self.start.call_id});
        if let (Some(account), Some(body)) = (&self.start.account_id, body.as_object_mut()) {
            body.insert("accountSid".to_owned(), account.clone().into());
        }
        self.numbered("stop", "stop", body)
    }

    /// Reads one message of a server.
    ///
    /// # Errors
    /// [`WireError`]; a message for another stream, which Twilio would not act on, is one.
    pub fn read(&self, text: &str) -> Result<FromServer, WireError> {
        read_json(text, Some(("streamSid", &self.start.stream_id)), self.start.format)
    }

    fn numbered(&mut self, event: &str, part: &str, body: serde_json::Value) -> String {
        self.sequence += 1;
        json!({
            "event": event,
            "sequenceNumber": self.sequence.to_string(),
            part: body,
            "streamSid": self.start.stream_id,
        })
        .to_string()
    }
}
