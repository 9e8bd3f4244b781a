//! What a client sends.

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_MESSAGE_BYTES, error_frame};
use crate::conversation::Typed;
use crate::wire::client::{
    AudioIn, AudioProblem, EncodedAudio, Heard, KeyProblem, Session, Wish, cut, keys, tool_answer,
};

/// The way in. Its answers are JSON text.
#[derive(Debug)]
pub struct JsonPeer {
    audio: AudioIn,
}

/// A frame that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {bytes} bytes is larger than the {MAX_MESSAGE_BYTES} allowed")]
    Oversized {
        /// Its length.
        bytes: usize,
    },
    /// Not a JSON object with a `type`.
    #[error("not a frame: {0}; send {{\"type\": …, \"data\": {{…}}}}")]
    NotJson(#[source] serde_json::Error),
    /// A known type with data of another shape.
    #[error("{kind}: {source}")]
    BadData {
        /// The type.
        kind: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The audio cannot be used.
    #[error("audio: {0}")]
    BadAudio(#[source] AudioProblem),
    /// These keys cannot be pressed.
    #[error("InputDTMFFrame: {0}")]
    BadKeys(#[source] KeyProblem),
    /// Nothing this server does.
    #[error("unknown frame type {0:?}")]
    Unknown(String),
}

impl JsonError {
    /// Whether the message was no frame at all.
    fn is_breach(&self) -> bool {
        match self {
            Self::Oversized { .. } | Self::NotJson(_) => true,
            Self::BadData { .. } | Self::BadAudio(_) | Self::BadKeys(_) | Self::Unknown(_) => false,
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Audio {
    audio: String,
    sample_rate: u32,
    num_channels: Option<u32>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    run_immediately: Option<bool>,
    audio_response: Option<bool>,
}

#[derive(Deserialize)]
struct Keys {
    digit: String,
}

#[derive(Deserialize)]
struct ToolResult {
    tool_call_id: String,
    #[serde(default)]
    result: Value,
}

impl JsonPeer {
    /// For a client of this session.
    pub fn new(session: Session) -> Self {
        Self {
            audio: AudioIn::new(session.input_rate_hz),
        }
    }

    /// What a text message means. What cannot be done is answered with an `ErrorFrame`.
    pub fn hear(&mut self, text: &str) -> Heard<String> {
        match self.read(text) {
            Ok(Some(wish)) => Heard::wish(wish),
            Ok(None) => Heard::nothing(),
            Err(error) => Heard {
                replies: vec![error_frame(&error.to_string(), false, "")],
                wish: None,
                breach: error.is_breach().then(|| error.to_string()),
            },
        }
    }

    fn read(&mut self, text: &str) -> Result<Option<Wish>, JsonError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(JsonError::Oversized { bytes: text.len() });
        }
        let Envelope { r#type: kind, data } = serde_json::from_str(text).map_err(JsonError::NotJson)?;
        Ok(Some(match kind.as_str() {
            "audio" | "AudioRawFrame" | "InputAudioRawFrame" => self.hear_audio(&parse(kind, data)?)?,
            "TextFrame" => {
                let text: Text = parse(kind, data)?;
                Wish::Type(Typed {
                    text: text.text,
                    run_immediately: text.run_immediately.unwrap_or(true),
                    audio_response: text.audio_response.unwrap_or(true),
                })
            }
            "InputDTMFFrame" => {
                let pressed: Keys = parse(kind, data)?;
                Wish::Press(keys(pressed.digit.chars()).map_err(JsonError::BadKeys)?)
            }
            "InterruptionFrame" => Wish::Interrupt,
            "FunctionCallResultFrame" => {
                let answer: ToolResult = parse(kind, data)?;
                Wish::ToolResult {
                    call_id: answer.tool_call_id,
                    content: tool_answer(answer.result),
                }
            }
            "EndFrame" | "CancelFrame" => Wish::Leave,
            // The call began when the socket opened.
            "StartFrame" => return Ok(None),
            _ => return Err(JsonError::Unknown(cut(&kind))),
        }))
    }

    fn hear_audio(&mut self, audio: &Audio) -> Result<Wish, JsonError> {
        let encoded = EncodedAudio {
            base64: &audio.audio,
            channels: audio.num_channels.unwrap_or(1),
        };
        let samples = encoded.samples().map_err(JsonError::BadAudio)?;
        let samples = self.audio.convert(samples, audio.sample_rate);
        Ok(Wish::Audio(samples.map_err(JsonError::BadAudio)?))
    }
}

fn parse<T: serde::de::DeserializeOwned>(kind: String, data: Value) -> Result<T, JsonError> {
    serde_json::from_value(data).map_err(|source| JsonError::BadData { kind, source })
}
