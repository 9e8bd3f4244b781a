//! Vonage's side of a stream, for simulated callers.

use serde_json::{Value, json};

use crate::wire::far_end::{FromServer, missing};
use crate::wire::telephony::{MediaFormat, Start, WireError};

/// Builds the messages of one stream.
#[derive(Debug, Clone)]
pub struct FarEnd {
    start: Start,
}

impl FarEnd {
    /// The far end of a stream that has not started.
    pub fn new(start: Start) -> Self {
        Self { start }
    }

    /// Audio of the stream.
    pub fn format(&self) -> MediaFormat {
        self.start.format
    }

    /// The stream begins; headers of the NCCO are among the fields.
    pub fn connected(&self) -> String {
        let mut message = json!({
            "event": "websocket:connected",
            "content-type": format!("audio/l16;rate={}", self.start.format.rate_hz),
        });
        if let Some(fields) = message.as_object_mut() {
            let headers = self.start.parameters.iter();
            fields.extend(headers.map(|(name, value)| (name.clone(), value.clone().into())));
        }
        message.to_string()
    }

    /// The caller pressed a key.
    pub fn dtmf(&self, key: char) -> String {
        json!({"event": "websocket:dtmf", "digit": key.to_string(), "duration": 260}).to_string()
    }

    /// Everything before a notification was played.
    pub fn notify(&self, name: &str) -> String {
        json!({"event": "websocket:notify", "payload": {"name": name}}).to_string()
    }

    /// Reads one text message of a server.
    ///
    /// # Errors
    /// [`WireError`] for what Vonage would not accept.
    pub fn read(&self, text: &str) -> Result<FromServer, WireError> {
        let message: Value = serde_json::from_str(text).map_err(WireError::NotJson)?;
        match message.get("action").and_then(Value::as_str).unwrap_or_default() {
            "clear" => Ok(FromServer::Clear),
            "notify" => {
                let payload = message.get("payload").ok_or(missing("payload"))?;
                let name = payload.get("name").and_then(Value::as_str);
                Ok(FromServer::Mark(name.ok_or(missing("payload"))?.to_owned()))
            }
            _ => Ok(FromServer::Ignored),
        }
    }
}
