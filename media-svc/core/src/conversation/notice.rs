//! What observers of a conversation are told.

use std::time::Duration;

use super::io::{SpeechId, ToolCall};
use super::screening::AnsweredBy;

/// What observers (client SDKs, the console, the demo) are told.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Speech began.
    UserStartedSpeaking,
    /// The turn's silence was found.
    UserStoppedSpeaking,
    /// Recognised text.
    UserTranscript {
        /// Text so far, or the final text.
        text: String,
        /// Whether it can still change.
        is_final: bool,
    },
    /// The model is asked to answer this: everything the caller has said since the last answer.
    Asked(String),
    /// The model began to answer.
    ReplyStarted,
    /// More text from the model.
    ReplyText(String),
    /// The model is done. Missing when it failed or was stopped.
    ReplyDone,
    /// A sentence goes to synthesis.
    SpeechQueued {
        /// Piece.
        speech: SpeechId,
        /// Its text.
        text: String,
    },
    /// The first audio of a turn goes out.
    AgentStartedSpeaking,
    /// The last audio was played or cut off.
    AgentStoppedSpeaking,
    /// This sentence is being heard.
    Speaking {
        /// Piece.
        speech: SpeechId,
        /// Its text.
        text: String,
    },
    /// Of the sentence being heard, this much was; told as each of its words is complete.
    Spoken {
        /// Piece.
        speech: SpeechId,
        /// The beginning of its text.
        heard: String,
    },
    /// A sentence of an answer that is not spoken, because the question was to be answered in text alone.
    Written {
        /// Piece.
        speech: SpeechId,
        /// Its text.
        text: String,
    },
    /// The caller cut the agent off; this much of the turn was heard.
    Interrupted {
        /// Heard text.
        heard: String,
    },
    /// Nothing of what went to synthesis in this turn was or will be heard: the caller cut in before its first sound, or
    /// synthesis failed. The caller's question, if there is one, may be answered anew.
    Withdrawn,
    /// The model wants a tool.
    ToolStarted(ToolCall),
    /// The tool runs. It may have waited until what was said before was heard.
    ToolRunning {
        /// Id of the call.
        call_id: String,
    },
    /// The tool never ran: the caller cut in before what was said with it was heard.
    ToolCancelled {
        /// Id of the call.
        call_id: String,
    },
    /// A tool has answered.
    ToolDone {
        /// Id of the call.
        call_id: String,
        /// Its answer.
        content: String,
    },
    /// Who has answered the call, as far as is known.
    AnsweredBy(AnsweredBy),
    /// Latencies of one answered turn.
    TurnTiming(TurnTiming),
    /// A stage failed; the call goes on.
    StageFailed {
        /// `stt`, `llm`, `tts`.
        stage: &'static str,
        /// What the provider said.
        error: String,
    },
}

/// Latencies of one turn, each measured from the end of caller speech (the last frame that was voice).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TurnTiming {
    /// Until the turn was judged over (the chosen silence).
    pub endpoint: Duration,
    /// Until the final transcript.
    pub transcript: Duration,
    /// Until the model's first token.
    pub first_token: Duration,
    /// Until the first agent audio was sent.
    pub first_audio: Duration,
}
