//! Providers that hear, answer and speak what a test tells them to: no models, no network, the same every time.

use std::sync::Arc;

use media_core::conversation::{Input, LlmEvent, Message, SttEvent, ToolCall, TtsEvent};
use media_svc::providers::{
    CallContext, Labels, LanguageModel, LlmRequest, Providers, STT_COMMANDS, SpeechRequest, SpeechToText, SttCommand,
    TextToSpeech,
};
use service_kit::tasks::AbortOnDrop;
use tokio::sync::mpsc;

/// Speech made of one character of text.
pub const MS_PER_CHARACTER: u32 = 50;
/// Pitch of the voice: far from the frequencies that fixed sentences could be mistaken for.
pub const TONE_HZ: f64 = 440.0;
/// Loudness of the voice.
const AMPLITUDE: f64 = 8_000.0;
/// Length of one piece of audio, as vendors send it.
const CHUNK_MS: u32 = 100;

/// What every call of a test is like. The n-th thing heard or answered is the same in every call.
#[derive(Debug, Clone, Default)]
pub struct Script {
    hears: Vec<String>,
    answers: Vec<Answer>,
}

/// One answer of the language model.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    text: String,
    /// Names and arguments.
    tools: Vec<(String, String)>,
    /// When the tools have answered.
    then: String,
}

impl Answer {
    /// Says this.
    pub fn say(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Says this when its tools have answered; without it, nothing more.
    #[must_use]
    pub fn and_then_say(mut self, text: impl Into<String>) -> Self {
        self.then = text.into();
        self
    }

    /// Also calls a tool, without arguments.
    #[must_use]
    pub fn and_call(self, tool: impl Into<String>) -> Self {
        self.and_call_with(tool, "{}")
    }

    /// Also calls a tool with these arguments (JSON).
    #[must_use]
    pub fn and_call_with(mut self, tool: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.tools.push((tool.into(), arguments.into()));
        self
    }
}

impl Script {
    /// Hears nothing and answers "Yes.".
    pub fn new() -> Self {
        Self::default()
    }

    /// The next stretch of speech is recognised as this; after the last one, nothing is understood.
    #[must_use]
    pub fn hears(mut self, text: impl Into<String>) -> Self {
        self.hears.push(text.into());
        self
    }

    /// The next answer; the last one is repeated for ever.
    #[must_use]
    pub fn answers(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// The three stages.
    pub fn providers(mut self) -> Providers {
        if self.answers.is_empty() {
            self.answers.push(Answer::say("Yes."));
        }
        let script = Arc::new(self);
        Providers {
            stt: Arc::new(Ears(Arc::clone(&script))),
            llm: Arc::new(Mind(script)),
            tts: Arc::new(Voice),
        }
    }
}

fn labels() -> Labels {
    Labels {
        provider: "scripted",
        model: "test".to_owned(),
    }
}

struct Ears(Arc<Script>);

impl SpeechToText for Ears {
    fn labels(&self) -> Labels {
        labels()
    }

    fn start(&self, call: CallContext) -> mpsc::Sender<SttCommand> {
        let (commands, mut inbox) = mpsc::channel(STT_COMMANDS);
        let (script, tasks) = (Arc::clone(&self.0), call.tasks.clone());
        tasks.spawn("scripted-stt", async move {
            let mut texts = script.hears.iter();
            loop {
                let command = tokio::select! {
                    command = inbox.recv() => command,
                    () = call.tasks.cancelled() => None,
                };
                match command {
                    None => return,
                    Some(SttCommand::End(utterance)) => {
                        let text = texts.next().cloned().unwrap_or_default();
                        // A call that is over wants no text.
                        drop(call.events.send(Input::Stt(utterance, SttEvent::Final(text))).await);
                    }
                    Some(SttCommand::Begin(_) | SttCommand::Audio(..) | SttCommand::Cancel(_)) => {}
                }
            }
        });
        commands
    }
}

struct Mind(Arc<Script>);

impl LanguageModel for Mind {
    fn labels(&self) -> Labels {
        labels()
    }

    fn generate(&self, call: CallContext, request: LlmRequest) -> AbortOnDrop {
        let said = request
            .messages
            .iter()
            .filter(|message| matches!(message, Message::User(_)))
            .count();
        let after_tool = matches!(request.messages.last(), Some(Message::ToolResult { .. }));
        let answers = &self.0.answers;
        let answer = answers.get(said.saturating_sub(1)).or(answers.last()).cloned();
        let answer = answer.unwrap_or_default();
        let answer = if after_tool { Answer::say(answer.then) } else { answer };
        let tasks = call.tasks.clone();
        tasks.spawn_owned("scripted-llm", async move {
            let words = answer
                .text
                .split_inclusive(' ')
                .map(|word| LlmEvent::Text(word.to_owned()));
            let tools = answer.tools.iter().enumerate().map(|(number, (name, arguments))| {
                LlmEvent::ToolCall(ToolCall {
                    id: format!("tool-{said}-{number}"),
                    name: name.clone(),
                    arguments: arguments.clone(),
                })
            });
            for event in words.chain(tools).chain([LlmEvent::Done]) {
                if call.events.send(Input::Llm(request.reply, event)).await.is_err() {
                    return;
                }
            }
        })
    }
}

struct Voice;

impl TextToSpeech for Voice {
    fn labels(&self) -> Labels {
        labels()
    }

    fn speak(&self, call: CallContext, request: SpeechRequest) -> AbortOnDrop {
        let tasks = call.tasks.clone();
        tasks.spawn_owned("scripted-tts", async move {
            let samples = tone(&request.text, request.sample_rate_hz);
            let chunk = usize::try_from(request.sample_rate_hz * CHUNK_MS / 1_000).unwrap_or(usize::MAX);
            let pieces = samples.chunks(chunk).map(|piece| TtsEvent::Audio(piece.to_vec()));
            for event in pieces.chain([TtsEvent::Done]) {
                if call.events.send(Input::Tts(request.speech, event)).await.is_err() {
                    return;
                }
            }
        })
    }
}

/// The sound of a text: a tone as long as the text.
#[expect(clippy::cast_possible_truncation, reason = "within the amplitude")]
pub fn tone(text: &str, sample_rate_hz: u32) -> Vec<i16> {
    let characters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let samples = characters
        .saturating_mul(MS_PER_CHARACTER)
        .saturating_mul(sample_rate_hz / 1_000);
    let step = TONE_HZ * std::f64::consts::TAU / f64::from(sample_rate_hz);
    (0..samples)
        .map(|sample| ((f64::from(sample) * step).sin() * AMPLITUDE) as i16)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_text_is_a_longer_tone() {
        assert_eq!(tone("1234567890", 8_000).len(), 4_000);
        assert_eq!(tone("12345", 24_000).len(), 6_000);
    }
}
