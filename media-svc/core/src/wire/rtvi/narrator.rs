//! From what a conversation reports to what a client is sent.

use serde_json::Value;

use super::{BotOutput, Measurement, Metrics, ServerMessage, SpokenProgress, SpokenStatus};
use crate::conversation::{EndReason, Notice, SpeechId, ToolCall, TurnTiming};
use crate::wire::client::json_or_text;

/// Tool calls without an answer that are remembered by name; a model has few at a time.
const OPEN_TOOLS: usize = 64;

/// Translates the notices of one conversation. It remembers only what later messages refer to: whether synthesis is
/// under way, the sentence being heard, and the tools that run.
#[derive(Debug, Default)]
pub struct Narrator {
    synthesising: bool,
    speaking: Option<Sentence>,
    tools: Vec<ToolCall>,
}

/// The sentence being heard.
#[derive(Debug)]
struct Sentence {
    speech: SpeechId,
    text: String,
}

impl Narrator {
    /// The messages for one notice, in order. `timestamp` is the time of day in ISO 8601.
    pub fn messages(&mut self, notice: Notice, timestamp: &str) -> Vec<ServerMessage> {
        match notice {
            Notice::UserStartedSpeaking => vec![ServerMessage::UserStartedSpeaking],
            Notice::UserStoppedSpeaking => vec![ServerMessage::UserStoppedSpeaking],
            Notice::UserTranscript { text, is_final } => vec![ServerMessage::UserTranscription {
                text,
                r#final: is_final,
                timestamp: timestamp.to_owned(),
                user_id: String::new(),
            }],
            Notice::Asked(text) => vec![ServerMessage::UserLlmText { text }],
            Notice::ReplyStarted => vec![ServerMessage::BotLlmStarted],
            Notice::ReplyText(text) => vec![ServerMessage::BotLlmText { text }],
            Notice::ReplyDone => vec![ServerMessage::BotLlmStopped],
            Notice::SpeechQueued { speech, text } => {
                let output = output(speech, text, "", SpokenStatus::New);
                if std::mem::replace(&mut self.synthesising, true) {
                    vec![output]
                } else {
                    vec![ServerMessage::BotTtsStarted, output]
                }
            }
            Notice::Written { speech, text } => vec![written(speech, text)],
            Notice::AgentStartedSpeaking => vec![ServerMessage::BotStartedSpeaking],
            Notice::Speaking { speech, text } => {
                let mut messages = self.finish_sentence();
                messages.push(ServerMessage::BotTtsText { text: text.clone() });
                messages.push(output(speech, text.clone(), "", SpokenStatus::InProgress));
                self.speaking = Some(Sentence { speech, text });
                messages
            }
            Notice::Spoken { speech, heard } => {
                let sentence = self.speaking.as_ref().filter(|sentence| sentence.speech == speech);
                sentence
                    .map(|sentence| output(speech, sentence.text.clone(), &heard, SpokenStatus::InProgress))
                    .into_iter()
                    .collect()
            }
            Notice::Interrupted { .. } => {
                // What was being said was not heard to its end: it never becomes completed.
                self.speaking = None;
                vec![ServerMessage::BotInterrupted]
            }
            // To a client it is the same as an interruption before the first word.
            Notice::Withdrawn => {
                let stopped = self.stop_synthesising();
                [ServerMessage::BotInterrupted].into_iter().chain(stopped).collect()
            }
            Notice::AgentStoppedSpeaking => {
                let mut messages = self.finish_sentence();
                messages.extend(self.stop_synthesising());
                messages.push(ServerMessage::BotStoppedSpeaking);
                messages
            }
            // Phone calls only: there is nobody to tell.
            Notice::AnsweredBy(_) => Vec::new(),
            Notice::ToolStarted(call) => {
                let function_name = call.name.clone();
                self.remember(call);
                vec![ServerMessage::LlmFunctionCallStarted { function_name }]
            }
            Notice::ToolRunning { call_id } => {
                let call = self.tools.iter().find(|call| call.id == call_id);
                call.map(in_progress).into_iter().collect()
            }
            Notice::ToolDone { call_id, content } => vec![self.tool_stopped(call_id, Some(json_or_text(&content)))],
            Notice::ToolCancelled { call_id } => vec![self.tool_stopped(call_id, None)],
            Notice::TurnTiming(timing) => vec![ServerMessage::Metrics(metrics(timing))],
            Notice::StageFailed { stage, error } => {
                vec![ServerMessage::Error {
                    error: format!("{stage}: {error}"),
                    fatal: false,
                }]
            }
        }
    }

    /// The messages for the end of the call: an error where it failed.
    pub fn end(&self, reason: &EndReason) -> Option<ServerMessage> {
        let error = match reason {
            EndReason::ProviderFailed(error) | EndReason::TransportFailed(error) => error.clone(),
            EndReason::CallerHungUp
            | EndReason::AgentHungUp
            | EndReason::Requested
            | EndReason::Drained
            | EndReason::TimeLimit
            | EndReason::Transferred
            | EndReason::AnsweringMachine => return None,
        };
        Some(ServerMessage::Error { error, fatal: true })
    }

    fn finish_sentence(&mut self) -> Vec<ServerMessage> {
        let done = self.speaking.take();
        done.map(|Sentence { speech, text }| output(speech, text.clone(), &text, SpokenStatus::Completed))
            .into_iter()
            .collect()
    }

    fn stop_synthesising(&mut self) -> Option<ServerMessage> {
        std::mem::take(&mut self.synthesising).then_some(ServerMessage::BotTtsStopped)
    }

    fn remember(&mut self, call: ToolCall) {
        if self.tools.len() >= OPEN_TOOLS {
            self.tools.remove(0);
        }
        self.tools.push(call);
    }

    /// The tool has answered, or was given up.
    fn tool_stopped(&mut self, tool_call_id: String, result: Option<Value>) -> ServerMessage {
        let known = self.tools.iter().position(|call| call.id == tool_call_id);
        ServerMessage::LlmFunctionCallStopped {
            function_name: known.map(|index| self.tools.remove(index).name),
            tool_call_id,
            cancelled: result.is_none(),
            result,
        }
    }
}

fn output(speech: SpeechId, text: String, spoken: &str, spoken_status: SpokenStatus) -> ServerMessage {
    let rest = text.strip_prefix(spoken).unwrap_or_default().to_owned();
    ServerMessage::BotOutput(BotOutput {
        text,
        aggregated_by: "sentence",
        segment_id: speech.0,
        will_be_spoken: true,
        spoken_status,
        spoken_progress: Some(SpokenProgress {
            accumulated_text: spoken.to_owned(),
            remaining_text: rest,
        }),
    })
}

fn written(speech: SpeechId, text: String) -> ServerMessage {
    ServerMessage::BotOutput(BotOutput {
        text,
        aggregated_by: "sentence",
        segment_id: speech.0,
        will_be_spoken: false,
        spoken_status: SpokenStatus::New,
        spoken_progress: None,
    })
}

fn in_progress(call: &ToolCall) -> ServerMessage {
    ServerMessage::LlmFunctionCallInProgress {
        tool_call_id: call.id.clone(),
        function_name: call.name.clone(),
        arguments: json_or_text(&call.arguments),
    }
}

/// The stages follow one another, so the time of each is the difference to the one before it.
pub(in crate::wire) fn metrics(timing: TurnTiming) -> Metrics {
    let seconds = |processor, time: std::time::Duration| Measurement {
        processor,
        value: time.as_secs_f64(),
    };
    Metrics {
        ttfb: vec![
            seconds("stt", timing.transcript),
            seconds("llm", timing.first_token.saturating_sub(timing.transcript)),
            seconds("tts", timing.first_audio.saturating_sub(timing.first_token)),
        ],
        processing: vec![
            seconds("endpoint", timing.endpoint),
            seconds("turn", timing.first_audio),
        ],
    }
}
