//! What a client sends.

use serde::Deserialize;
use serde_json::Value;

use super::LABEL;
use crate::wire::client::{AudioProblem, EncodedAudio, KeyProblem, keys};

/// Longest message that is read, in bytes: a second of 48 kHz stereo as base64, with room to spare.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;

/// One message of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientMessage {
    /// Chosen by the client; answers carry it again. Empty when the client gave none.
    pub id: String,
    /// What it says.
    pub body: ClientMessageBody,
}

/// What a message says, by its `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessageBody {
    /// `client-ready`: answer `bot-ready` with the same id, audio may follow.
    ClientReady {
        /// Protocol version of the client, if it said so.
        version: Option<String>,
        /// Library and platform of the client, as sent.
        about: Value,
    },
    /// `disconnect-bot`: end the session.
    DisconnectBot,
    /// `client-message`: answer `server-response` or `error-response`, which a client waits ten seconds for.
    Custom {
        /// Type chosen by the application.
        t: String,
        /// Data chosen by the application.
        d: Value,
    },
    /// `send-text`: the user typed.
    SendText(SendText),
    /// `dtmf`: keys pressed.
    Dtmf(Vec<char>),
    /// `llm-function-call-result`: the client ran a tool.
    FunctionCallResult(FunctionCallResult),
    /// `raw-audio`: mono samples; stereo is mixed down.
    RawAudio {
        /// Samples.
        samples: Vec<i16>,
        /// Their rate.
        sample_rate_hz: u32,
    },
    /// Anything else: answer `error-response`.
    Unknown {
        /// The type.
        kind: String,
    },
}

/// Text typed by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendText {
    /// What was typed.
    pub content: String,
    /// Cut the agent off and answer now, rather than after it has finished.
    pub run_immediately: bool,
    /// Speak the answer as well.
    pub audio_response: bool,
}

/// Answer of a tool that runs at the client.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FunctionCallResult {
    /// The tool.
    pub function_name: String,
    /// Id of the call answered.
    pub tool_call_id: String,
    /// Arguments it was called with.
    #[serde(default)]
    pub arguments: Value,
    /// Its answer.
    #[serde(default)]
    pub result: Value,
}

/// A message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RtviError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {bytes} bytes is larger than the {MAX_MESSAGE_BYTES} allowed")]
    Oversized {
        /// Its length.
        bytes: usize,
    },
    /// Not a JSON object with a `type`.
    #[error("not an RTVI message: {0}")]
    NotJson(#[source] serde_json::Error),
    /// JSON, but labelled as something else.
    #[error("not an RTVI message: its label is not \"{LABEL}\"")]
    WrongLabel,
    /// A known type with data of another shape.
    #[error("`{kind}`: {source}")]
    BadData {
        /// Id to answer with `error-response`.
        id: String,
        /// The type.
        kind: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The audio cannot be read.
    #[error("`raw-audio`: {problem}")]
    BadAudio {
        /// Id to answer with `error-response`.
        id: String,
        /// What is wrong.
        #[source]
        problem: AudioProblem,
    },
    /// These keys cannot be pressed.
    #[error("`dtmf`: {problem}")]
    BadKeys {
        /// Id to answer with `error-response`.
        id: String,
        /// What is wrong.
        #[source]
        problem: KeyProblem,
    },
}

impl RtviError {
    /// The id to answer with `error-response`, if the message had one that could be read.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::BadData { id, .. } | Self::BadAudio { id, .. } | Self::BadKeys { id, .. } => Some(id),
            Self::Oversized { .. } | Self::NotJson(_) | Self::WrongLabel => None,
        }
    }
}

/// Reads one message of a client.
///
/// # Errors
/// [`RtviError`]; where it has an id, answer with `error-response`.
pub fn read(text: &str) -> Result<ClientMessage, RtviError> {
    #[derive(Deserialize)]
    struct Envelope {
        label: Option<String>,
        r#type: String,
        id: Option<Value>,
        #[serde(default)]
        data: Value,
    }
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(RtviError::Oversized { bytes: text.len() });
    }
    let envelope: Envelope = serde_json::from_str(text).map_err(RtviError::NotJson)?;
    if envelope.label.is_some_and(|label| label != LABEL) {
        return Err(RtviError::WrongLabel);
    }
    let id = match envelope.id {
        Some(Value::String(id)) => id,
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let body = read_body(&id, envelope.r#type, envelope.data)?;
    Ok(ClientMessage { id, body })
}

fn read_body(id: &str, kind: String, data: Value) -> Result<ClientMessageBody, RtviError> {
    #[derive(Deserialize)]
    struct Custom {
        t: String,
        #[serde(default)]
        d: Value,
    }
    #[derive(Deserialize)]
    struct Buttons {
        /// Since protocol 2.1.
        #[serde(default)]
        buttons: Vec<char>,
        /// Protocol 2.0.
        button: Option<char>,
    }
    #[derive(Deserialize)]
    struct Text {
        content: String,
        options: Option<Options>,
    }
    #[derive(Deserialize)]
    struct Options {
        run_immediately: Option<bool>,
        audio_response: Option<bool>,
    }

    Ok(match kind.as_str() {
        "client-ready" => ClientMessageBody::ClientReady {
            version: data.get("version").and_then(Value::as_str).map(str::to_owned),
            about: data.get("about").cloned().unwrap_or_default(),
        },
        "disconnect-bot" => ClientMessageBody::DisconnectBot,
        "client-message" => {
            let Custom { t, d } = parse(id, kind, data)?;
            ClientMessageBody::Custom { t, d }
        }
        "send-text" => {
            let Text { content, options } = parse(id, kind, data)?;
            let option = |get: fn(&Options) -> Option<bool>| options.as_ref().and_then(get).unwrap_or(true);
            let run_immediately = option(|options| options.run_immediately);
            let audio_response = option(|options| options.audio_response);
            ClientMessageBody::SendText(SendText {
                content,
                run_immediately,
                audio_response,
            })
        }
        "dtmf" => {
            let Buttons { buttons, button } = parse(id, kind, data)?;
            let keys = keys(button.into_iter().chain(buttons)).map_err(|problem| RtviError::BadKeys {
                id: id.to_owned(),
                problem,
            })?;
            ClientMessageBody::Dtmf(keys)
        }
        "llm-function-call-result" => ClientMessageBody::FunctionCallResult(parse(id, kind, data)?),
        "raw-audio" => {
            let audio: RawAudio = parse(id, kind, data)?;
            let sample_rate_hz = audio.sample_rate;
            let encoded = EncodedAudio {
                base64: &audio.base64_audio,
                channels: audio.num_channels,
            };
            let samples = encoded.samples().map_err(|problem| RtviError::BadAudio {
                id: id.to_owned(),
                problem,
            })?;
            ClientMessageBody::RawAudio {
                samples,
                sample_rate_hz,
            }
        }
        _ => ClientMessageBody::Unknown { kind },
    })
}

fn parse<T: serde::de::DeserializeOwned>(id: &str, kind: String, data: Value) -> Result<T, RtviError> {
    serde_json::from_value(data).map_err(|source| RtviError::BadData {
        id: id.to_owned(),
        kind,
        source,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAudio {
    base64_audio: String,
    sample_rate: u32,
    num_channels: u32,
}
