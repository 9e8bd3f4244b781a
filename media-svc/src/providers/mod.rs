//! Speech-to-text, language model and text-to-speech behind three small traits; a file a vendor.
//!
//! A provider never blocks a call: it runs in supervised tasks of the call's scope, takes commands from bounded
//! channels and reports into the call's one bounded input queue.

mod build;
pub mod local;
pub mod metrics;
pub mod openai;

use std::sync::Arc;

pub use build::{Agent, build};
use media_core::conversation::{Input, Message, ReplyId, SpeechId, Tool, UtteranceId};
use service_kit::tasks::{AbortOnDrop, TaskScope};
use tokio::sync::mpsc;

/// Commands waiting for recognition: 30 s of 20 ms frames. When full the provider has stalled for that long; the
/// call cancels the utterance and reports the stage as failed.
pub const STT_COMMANDS: usize = 1_500;

/// What a provider needs of its call.
#[derive(Clone)]
pub struct CallContext {
    /// Session id, for logs.
    pub session_id: Arc<str>,
    /// Scope that ends with the call.
    pub tasks: TaskScope,
    /// The call's input queue. Providers `send().await`: a busy call holds them back.
    pub events: mpsc::Sender<Input>,
}

/// What goes to a recognition stream. Audio is mono 16 kHz.
#[derive(Debug, Clone)]
pub enum SttCommand {
    /// A new utterance begins.
    Begin(UtteranceId),
    /// More audio of it.
    Audio(UtteranceId, Vec<i16>),
    /// It is complete: answer with `Final` or `Failed`.
    End(UtteranceId),
    /// Forget it.
    Cancel(UtteranceId),
}

/// Speech-to-text.
pub trait SpeechToText: Send + Sync {
    /// Provider and model as metric labels.
    fn labels(&self) -> Labels;
    /// Starts recognition for a call; it lives until the sender is dropped or the call's scope ends.
    fn start(&self, call: CallContext) -> mpsc::Sender<SttCommand>;
}

/// A language model.
pub trait LanguageModel: Send + Sync {
    /// Provider and model as metric labels.
    fn labels(&self) -> Labels;
    /// Streams one reply as `Input::Llm`; exactly one `Done` or `Failed` ends it. Dropping the guard cancels.
    fn generate(&self, call: CallContext, request: LlmRequest) -> AbortOnDrop;
}

/// One request to a language model.
#[derive(Debug, Clone)]
pub struct LlmRequest {
    /// Reply that events are reported for.
    pub reply: ReplyId,
    /// History, system prompt first.
    pub messages: Vec<Message>,
    /// Tools on offer.
    pub tools: Vec<Tool>,
}

/// Text-to-speech.
pub trait TextToSpeech: Send + Sync {
    /// Provider and model as metric labels.
    fn labels(&self) -> Labels;
    /// Streams one piece of text as `Input::Tts`; exactly one `Done` or `Failed` ends it. Dropping the guard cancels.
    fn speak(&self, call: CallContext, request: SpeechRequest) -> AbortOnDrop;
}

/// One piece of text to speak.
#[derive(Debug, Clone)]
pub struct SpeechRequest {
    /// Piece that events are reported for.
    pub speech: SpeechId,
    /// Text.
    pub text: String,
    /// Rate the call wants; the provider resamples to it.
    pub sample_rate_hz: u32,
}

/// Metric labels of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// `local`, `openai`, …
    pub provider: &'static str,
    /// Model name.
    pub model: String,
}

/// The three stages of one agent.
#[derive(Clone)]
pub struct Providers {
    /// Recognition.
    pub stt: Arc<dyn SpeechToText>,
    /// Answers.
    pub llm: Arc<dyn LanguageModel>,
    /// Voice.
    pub tts: Arc<dyn TextToSpeech>,
}
