//! From what a conversation reports to what a client is sent.

use serde_json::Value;

use super::{BotOutput, Measurement, Metrics, ServerMessage, SpokenProgress, SpokenStatus};
use crate::conversation::{Notice, SpeechId, ToolCall, TurnTiming};

/// Translates the notices of one conversation. It remembers only what later messages refer to: whether synthesis is
/// under way, and the sentence being heard.
#[derive(Debug, Default)]
pub struct Narrator {
    synthesising: bool,
    speaking: Option<(SpeechId, String)>,
}

impl Narrator {
    /// The messages for one notice, in order. `timestamp` is the time of day in ISO 8601.
    pub fn messages(&mut self, notice: Notice, timestamp: &str) -> Vec<ServerMessage> {
        match notice {
            Notice::UserStartedSpeaking => vec![ServerMessage::UserStartedSpeaking],
            Notice::UserStoppedSpeaking => vec![ServerMessage::UserStoppedSpeaking],
            Notice::UserTranscript { text, is_final } => transcript(text, is_final, timestamp),
            Notice::ReplyStarted => vec![ServerMessage::BotLlmStarted],
            Notice::ReplyText(text) => vec![ServerMessage::BotLlmText { text }],
            Notice::ReplyDone => vec![ServerMessage::BotLlmStopped],
            Notice::SpeechQueued { speech, text } => {
                let output = ServerMessage::BotOutput(output(speech, text, SpokenStatus::New));
                if std::mem::replace(&mut self.synthesising, true) {
                    vec![output]
                } else {
                    vec![ServerMessage::BotTtsStarted, output]
                }
            }
            Notice::AgentStartedSpeaking => vec![ServerMessage::BotStartedSpeaking],
            Notice::Speaking { speech, text } => {
                let mut messages = self.finish_sentence();
                self.speaking = Some((speech, text.clone()));
                messages.push(ServerMessage::BotTtsText { text: text.clone() });
                messages.push(ServerMessage::BotOutput(output(speech, text, SpokenStatus::InProgress)));
                messages
            }
            Notice::Interrupted { .. } => {
                // What was being said was not heard to its end: it never becomes completed.
                self.speaking = None;
                Vec::new()
            }
            Notice::AgentStoppedSpeaking => {
                let mut messages = self.finish_sentence();
                if std::mem::take(&mut self.synthesising) {
                    messages.push(ServerMessage::BotTtsStopped);
                }
                messages.push(ServerMessage::BotStoppedSpeaking);
                messages
            }
            // Phone calls only: there is nobody to tell.
            Notice::AnsweredBy(_) => Vec::new(),
            Notice::ToolStarted(call) => tool_started(call),
            Notice::ToolDone { call_id, content } => {
                let result = json_or_text(content);
                vec![ServerMessage::LlmFunctionCallStopped {
                    tool_call_id: call_id,
                    cancelled: false,
                    result,
                }]
            }
            Notice::TurnTiming(timing) => vec![ServerMessage::Metrics(metrics(timing))],
            Notice::StageFailed { stage, error } => {
                vec![ServerMessage::Error {
                    error: format!("{stage}: {error}"),
                    fatal: false,
                }]
            }
        }
    }

    fn finish_sentence(&mut self) -> Vec<ServerMessage> {
        let done = self.speaking.take();
        done.map(|(speech, text)| ServerMessage::BotOutput(output(speech, text, SpokenStatus::Completed)))
            .into_iter()
            .collect()
    }
}

fn transcript(text: String, is_final: bool, timestamp: &str) -> Vec<ServerMessage> {
    let transcription = ServerMessage::UserTranscription {
        text: text.clone(),
        r#final: is_final,
        timestamp: timestamp.to_owned(),
        user_id: String::new(),
    };
    if is_final {
        vec![transcription, ServerMessage::UserLlmText { text }]
    } else {
        vec![transcription]
    }
}

fn output(speech: SpeechId, text: String, spoken_status: SpokenStatus) -> BotOutput {
    let (spoken, rest) = match spoken_status {
        SpokenStatus::New | SpokenStatus::InProgress => (String::new(), text.clone()),
        SpokenStatus::Completed => (text.clone(), String::new()),
    };
    BotOutput {
        text,
        aggregated_by: "sentence",
        segment_id: speech.0,
        will_be_spoken: true,
        spoken_status,
        spoken_progress: SpokenProgress {
            accumulated_text: spoken,
            remaining_text: rest,
        },
    }
}

fn tool_started(call: ToolCall) -> Vec<ServerMessage> {
    let ToolCall { id, name, arguments } = call;
    vec![
        ServerMessage::LlmFunctionCallStarted {
            function_name: name.clone(),
        },
        ServerMessage::LlmFunctionCallInProgress {
            tool_call_id: id,
            function_name: name,
            arguments: json_or_text(arguments),
        },
    ]
}

fn json_or_text(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// The stages follow one another, so the time of each is the difference to the one before it.
fn metrics(timing: TurnTiming) -> Metrics {
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
