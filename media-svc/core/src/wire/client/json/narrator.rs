//! What a client is sent.

use serde_json::{Value, json};

use super::{error_frame, frame};
use crate::conversation::{EndReason, Notice, SpeechId, ToolCall};
use crate::wire::client::{Session, audio, json_or_text};
use crate::wire::rtvi;

/// Tool calls without an answer that are remembered by name; a model has few at a time.
const OPEN_TOOLS: usize = 64;

/// Translates the notices of one conversation. It remembers the tools that run, because later frames name them.
#[derive(Debug, Default)]
pub struct JsonNarrator {
    tools: Vec<ToolCall>,
}

impl JsonNarrator {
    /// The first frame of a socket.
    pub fn opening(session: &Session) -> String {
        let data = json!({
            "session_id": session.id,
            "version": session.version,
            "audio_in_sample_rate": session.input_rate_hz,
            "audio_out_sample_rate": session.output_rate_hz,
        });
        frame("StartFrame", data)
    }

    /// Mono audio of the agent.
    pub fn audio(samples: &[i16], rate_hz: u32) -> String {
        let data = json!({ "audio": audio::encode(samples), "sample_rate": rate_hz, "num_channels": 1 });
        frame("audio", data)
    }

    /// The frame for one notice, if there is one for it. `timestamp` is the time of day in ISO 8601.
    pub fn frame(&mut self, notice: Notice, timestamp: &str) -> Option<String> {
        let none = || json!({});
        let (kind, data) = match notice {
            Notice::UserStartedSpeaking => ("UserStartedSpeakingFrame", none()),
            Notice::UserStoppedSpeaking => ("UserStoppedSpeakingFrame", none()),
            Notice::UserTranscript { text, is_final } => (
                "TranscriptionFrame",
                json!({ "text": text, "user_id": "", "timestamp": timestamp, "finalized": is_final }),
            ),
            Notice::ReplyStarted => ("LLMFullResponseStartFrame", none()),
            Notice::ReplyText(text) => ("LLMTextFrame", json!({ "text": text })),
            Notice::ReplyDone => ("LLMFullResponseEndFrame", none()),
            Notice::AgentStartedSpeaking => ("BotStartedSpeakingFrame", none()),
            Notice::AgentStoppedSpeaking => ("BotStoppedSpeakingFrame", none()),
            Notice::Speaking { speech, text } => sentence(speech, text, true),
            Notice::Written { speech, text } => sentence(speech, text, false),
            Notice::Interrupted { heard } => ("InterruptionFrame", json!({ "heard": heard })),
            Notice::ToolStarted(call) => {
                self.remember(call);
                return None;
            }
            Notice::ToolRunning { call_id } => {
                let call = self.tools.iter().find(|call| call.id == call_id)?;
                let data = json!({
                    "tool_call_id": call.id,
                    "function_name": call.name,
                    "arguments": json_or_text(&call.arguments),
                });
                ("FunctionCallInProgressFrame", data)
            }
            Notice::ToolDone { call_id, content } => {
                let function_name = self.forget(&call_id);
                let result = json_or_text(&content);
                let data = json!({ "tool_call_id": call_id, "function_name": function_name, "result": result });
                ("FunctionCallResultFrame", data)
            }
            Notice::ToolCancelled { call_id } => {
                let function_name = self.forget(&call_id);
                let data = json!({ "tool_call_id": call_id, "function_name": function_name });
                ("FunctionCallCancelFrame", data)
            }
            Notice::TurnTiming(timing) => (
                "MetricsFrame",
                serde_json::to_value(rtvi::metrics(timing)).unwrap_or_default(),
            ),
            Notice::StageFailed { stage, error } => return Some(error_frame(&error, false, stage)),
            // What is queued is told when it is heard, and so there is nothing to withdraw; how many words of it were heard,
            // is RTVI's to tell. The question is in its transcriptions. Nobody answers a socket but the agent.
            Notice::SpeechQueued { .. }
            | Notice::Withdrawn
            | Notice::Spoken { .. }
            | Notice::Asked(_)
            | Notice::AnsweredBy(_) => return None,
        };
        Some(frame(kind, data))
    }

    /// The last frames of a call: an error where it failed, and the end.
    pub fn end(reason: &EndReason) -> Vec<String> {
        let failed = match reason {
            EndReason::ProviderFailed(error) | EndReason::TransportFailed(error) => Some(error_frame(error, true, "")),
            EndReason::CallerHungUp
            | EndReason::AgentHungUp
            | EndReason::Requested
            | EndReason::Drained
            | EndReason::TimeLimit
            | EndReason::Transferred
            | EndReason::AnsweringMachine => None,
        };
        let end = frame("EndFrame", json!({ "reason": reason.as_str() }));
        failed.into_iter().chain([end]).collect()
    }

    fn remember(&mut self, call: ToolCall) {
        if self.tools.len() >= OPEN_TOOLS {
            self.tools.remove(0);
        }
        self.tools.push(call);
    }

    fn forget(&mut self, call_id: &str) -> Option<String> {
        let known = self.tools.iter().position(|call| call.id == call_id)?;
        Some(self.tools.remove(known).name)
    }
}

fn sentence(speech: SpeechId, text: String, spoken: bool) -> (&'static str, Value) {
    let data = json!({ "text": text, "aggregated_by": "sentence", "segment_id": speech.0, "spoken": spoken });
    ("AggregatedTextFrame", data)
}
