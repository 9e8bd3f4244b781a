//! What a client is sent.

use serde::Serialize;
use serde_json::Value;

use super::LABEL;

/// One message to a client; serialises as its `type` and `data`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// Answer to `client-ready`, with its id.
    BotReady {
        /// Protocol version.
        version: String,
        /// What serves.
        about: About,
    },
    /// Something went wrong.
    Error {
        /// What.
        error: String,
        /// Whether the session ends by it.
        fatal: bool,
    },
    /// A request failed; carries its id.
    ErrorResponse {
        /// Why.
        error: String,
    },
    /// Answer to `client-message`, with its id.
    ServerResponse {
        /// Type of the request.
        t: String,
        /// The answer.
        d: Value,
    },
    /// Anything the application wants to say.
    ServerMessage(Value),
    /// The user began to speak.
    UserStartedSpeaking,
    /// The user stopped speaking.
    UserStoppedSpeaking,
    /// The first audio of an answer goes out.
    BotStartedSpeaking,
    /// The last audio of an answer was played or cut off.
    BotStoppedSpeaking,
    /// What was being said was cut off: a client drops what it has not played.
    BotInterrupted,
    /// Recognised speech.
    UserTranscription {
        /// Text so far, or all of it.
        text: String,
        /// Whether it is all of it.
        r#final: bool,
        /// When, ISO 8601.
        timestamp: String,
        /// By whom.
        user_id: String,
    },
    /// What the language model is asked.
    UserLlmText {
        /// The text.
        text: String,
    },
    /// A piece of the answer and how much of it has been spoken.
    BotOutput(BotOutput),
    /// The language model began to answer.
    BotLlmStarted,
    /// More text of the language model.
    BotLlmText {
        /// The text.
        text: String,
    },
    /// The language model is done.
    BotLlmStopped,
    /// Speech synthesis began.
    BotTtsStarted,
    /// Text that is being spoken.
    BotTtsText {
        /// The text.
        text: String,
    },
    /// Speech synthesis is done.
    BotTtsStopped,
    /// The model wants a tool.
    LlmFunctionCallStarted {
        /// Its name.
        function_name: String,
    },
    /// The tool runs.
    LlmFunctionCallInProgress {
        /// Id of the call.
        tool_call_id: String,
        /// Its name.
        function_name: String,
        /// Its arguments.
        arguments: Value,
    },
    /// The tool has answered.
    LlmFunctionCallStopped {
        /// Id of the call.
        tool_call_id: String,
        /// Its name, where it is still known.
        #[serde(skip_serializing_if = "Option::is_none")]
        function_name: Option<String>,
        /// Whether it was given up.
        cancelled: bool,
        /// Its answer.
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<Value>,
    },
    /// How long the stages took.
    Metrics(Metrics),
}

impl ServerMessage {
    /// The whole message as JSON; answers carry the id of what they answer.
    pub fn to_json(&self, id: Option<&str>) -> String {
        #[derive(Serialize)]
        struct Envelope<'a> {
            label: &'static str,
            #[serde(flatten)]
            message: &'a ServerMessage,
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
        }
        let envelope = Envelope {
            label: LABEL,
            message: self,
            id,
        };
        // Nothing in it can fail to serialise: no map has keys that are no strings.
        serde_json::to_string(&envelope).unwrap_or_default()
    }

    /// The answer to `client-ready`.
    pub fn bot_ready(library: &str, version: &str) -> Self {
        let about = About {
            library: library.to_owned(),
            library_version: version.to_owned(),
        };
        Self::BotReady {
            version: super::PROTOCOL_VERSION.to_owned(),
            about,
        }
    }
}

/// What serves a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// Name.
    pub library: String,
    /// Version.
    pub library_version: String,
}

/// A piece of the answer; sent again whenever its state changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BotOutput {
    /// The whole piece.
    pub text: String,
    /// How the answer was cut: `sentence`.
    pub aggregated_by: &'static str,
    /// Names the piece.
    pub segment_id: u64,
    /// Whether it goes to speech synthesis.
    pub will_be_spoken: bool,
    /// How far it is.
    pub spoken_status: SpokenStatus,
    /// Where in the text it is, if it is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoken_progress: Option<SpokenProgress>,
}

/// How far a piece is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpokenStatus {
    /// Not yet begun.
    New,
    /// Being heard.
    InProgress,
    /// Heard to its end.
    Completed,
}

/// What of a piece was spoken and what was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpokenProgress {
    /// Spoken.
    pub accumulated_text: String,
    /// Not yet spoken.
    pub remaining_text: String,
}

/// How long the stages of a turn took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Time to first byte of each stage.
    pub ttfb: Vec<Measurement>,
    /// Time until each stage was done.
    pub processing: Vec<Measurement>,
}

/// One measured time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The stage.
    pub processor: &'static str,
    /// Seconds.
    pub value: f64,
}
