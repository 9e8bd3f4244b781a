//! Genesys' side of a session, for simulated callers.

use serde_json::{Value, json};

use super::NULL_UUID;
use crate::wire::far_end::{FromServer, missing};
use crate::wire::telephony::{Channels, MediaFormat, Start, WireError};

/// Builds the messages of one session, numbering them as Genesys does, and checks the numbers of the answers.
#[derive(Debug, Clone)]
pub struct FarEnd {
    start: Start,
    seq: u64,
    server_seq: u64,
}

impl FarEnd {
    /// The far end of a session that is not open.
    pub fn new(start: Start) -> Self {
        Self {
            start,
            seq: 0,
            server_seq: 0,
        }
    }

    /// The session is to be opened.
    pub fn open(&mut self) -> String {
        let participant = json!({
            "id": "883efee8-3d6c-4537-b500-6d7ca4b92fa0",
            "ani": self.start.parameters.get("from").map_or("+15005550006", String::as_str),
            "aniName": "John Doe",
            "dnis": "+15005550001",
        });
        let channels: &[&[&str]] = match self.start.channels {
            Channels::Caller => &[&["external"]],
            Channels::Both => &[&["external", "internal"]],
        };
        let media: Vec<Value> = channels
            .iter()
            .map(|channels| json!({"type": "audio", "format": "PCMU", "channels": channels, "rate": 8000}))
            .collect();
        let parameters = json!({
            "organizationId": self.start.account_id,
            "conversationId": self.start.call_id,
            "participant": participant,
            "media": media,
            "inputVariables": self.start.parameters,
        });
        self.message("open", &parameters)
    }

    /// A connection that only tests whether anybody answers.
    pub fn probe(&mut self) -> String {
        let parameters = json!({
            "organizationId": self.start.account_id,
            "conversationId": NULL_UUID,
            "participant": {"id": NULL_UUID, "ani": "", "aniName": "", "dnis": ""},
            "media": [{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}],
        });
        self.message("open", &parameters)
    }

    /// Audio of both parties where both were offered: the other one is silent.
    pub fn audio(&self, samples: &[i16]) -> Vec<u8> {
        let codec = MediaFormat::ULAW_8K.codec;
        let mut caller = Vec::with_capacity(samples.len() * 2);
        codec.encode(samples, &mut caller);
        match self.start.channels {
            Channels::Caller => caller,
            Channels::Both => caller.into_iter().flat_map(|byte| [byte, 0xFF]).collect(),
        }
    }

    /// The caller pressed a key.
    pub fn dtmf(&mut self, key: char) -> String {
        self.message("dtmf", &json!({"digit": key.to_string()}))
    }

    /// Is anybody there?
    pub fn ping(&mut self) -> String {
        self.message("ping", &json!({"rtt": "PT0.021S"}))
    }

    /// The session is to be closed: `end`, `disconnect` or `error`.
    pub fn close(&mut self, reason: &str) -> String {
        self.message("close", &json!({"reason": reason}))
    }

    /// Reads one text message of a server.
    ///
    /// # Errors
    /// [`WireError`] for what Genesys would not accept: a wrong number or session is among it.
    pub fn read(&mut self, text: &str) -> Result<FromServer, WireError> {
        let message: Value = serde_json::from_str(text).map_err(WireError::NotJson)?;
        let number = |name: &str| message.get(name).and_then(Value::as_u64).ok_or(missing("seq"));
        let (seq, client_seq) = (number("seq")?, number("clientseq")?);
        if seq != self.server_seq + 1 {
            return Err(WireError::OutOfSequence {
                seq,
                last: self.server_seq,
            });
        }
        if client_seq > self.seq {
            return Err(WireError::OutOfSequence {
                seq: client_seq,
                last: self.seq,
            });
        }
        let same = message.get("id").and_then(Value::as_str) == Some(&self.start.stream_id);
        if !same || message.get("version").and_then(Value::as_str) != Some("2") {
            return Err(WireError::WrongStream);
        }
        self.server_seq = seq;
        match message.get("type").and_then(Value::as_str).unwrap_or_default() {
            "opened" => Ok(FromServer::Opened),
            "closed" => Ok(FromServer::Closed),
            "disconnect" => Ok(FromServer::Disconnect),
            "event" if text.contains(r#""type":"barge_in""#) => Ok(FromServer::Clear),
            _ => Ok(FromServer::Ignored),
        }
    }

    fn message(&mut self, kind: &str, parameters: &Value) -> String {
        self.seq += 1;
        json!({
            "version": "2",
            "id": self.start.stream_id,
            "type": kind,
            "seq": self.seq,
            "serverseq": self.server_seq,
            "position": "PT0S",
            "parameters": parameters,
        })
        .to_string()
    }
}
