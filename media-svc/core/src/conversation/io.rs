//! What goes into a conversation and what comes out of it.

use std::ops::Range;
use std::time::Duration;

use super::collect::KeyPlan;
use super::notice::{Notice, TurnTiming};
use super::screening::{AnsweredBy, Screening};
use crate::Time;

/// One stretch of caller speech sent to recognition. Counts up from 1 within a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtteranceId(pub u64);

/// One request to the language model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// One piece of text (usually a sentence) sent to speech synthesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpeechId(pub u64);

/// A position in the outgoing audio that the far end is asked to report when it has been played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkId(pub u64);

/// How a conversation behaves. Durations, not seconds: the driver converts the configuration once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Sample rate of outgoing audio; speech synthesis is resampled to it before it gets here.
    pub output_rate_hz: u32,
    /// Whether the far end echoes marks (telephony); without, the clock tells what was heard.
    pub far_end_marks: bool,
    /// How far outgoing audio may run ahead of real time.
    pub playout_lead: Duration,
    /// First sentence of the agent, if it speaks first.
    pub greeting: Option<String>,
    /// System prompt, template variables already filled in.
    pub system_prompt: String,
    /// Tools the model may call.
    pub tools: Vec<Tool>,
    /// Present when it is not known yet who has answered: then the greeting waits for a person.
    pub screening: Option<Screening>,
    /// Speech probability that counts as voice, 0–1.
    pub vad_confidence: f32,
    /// Volume below which nothing counts as voice, 0–1.
    pub vad_min_volume: f32,
    /// Voice needed before speech has started.
    pub vad_start: Duration,
    /// Silence needed before speech has stopped (recognition may begin to finish).
    pub vad_stop: Duration,
    /// Silence that ends the turn.
    pub turn_stop: Duration,
    /// Audio kept from before speech was detected.
    pub pre_speech: Duration,
    /// Longest turn before it is closed anyway.
    pub turn_max: Duration,
    /// No audio at all for this long ends an open turn (a muted client sends nothing).
    pub no_audio_turn_stop: Duration,
    /// Caller silence after which the agent asks whether they are there.
    pub idle_prompt_after: Option<Duration>,
    /// Whether the caller may cut the agent off.
    pub allow_interruptions: bool,
    /// Recognised words needed to cut the agent off; 0 = voice alone is enough.
    pub interrupt_min_words: u32,
}

/// A tool offered to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Function name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: serde_json::Value,
    /// Whether it runs only when what the agent has just said was heard; a barge-in before that prevents it.
    pub after_speech: bool,
}

/// One message of the history given to a language model.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Instructions.
    System(String),
    /// What the caller said.
    User(String),
    /// What the agent said and the caller heard, and the tools it called.
    Assistant {
        /// Spoken text; may be empty when only tools were called.
        text: String,
        /// Tool calls of this message.
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool answered.
    ToolResult {
        /// Id of the call answered.
        call_id: String,
        /// JSON or plain text.
        content: String,
    },
}

/// A model's wish to run a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Id given by the model.
    pub id: String,
    /// Function name.
    pub name: String,
    /// Arguments as JSON text, as the model wrote them.
    pub arguments: String,
}

/// What a conversation reacts to.
#[derive(Debug, Clone)]
pub enum Input {
    /// The transport is up in both directions; the greeting may start.
    Connected,
    /// The voice activity detector judged one more piece of caller audio.
    Voice(VoiceFrame),
    /// From speech recognition.
    Stt(UtteranceId, SttEvent),
    /// From the language model.
    Llm(ReplyId, LlmEvent),
    /// From speech synthesis.
    Tts(SpeechId, TtsEvent),
    /// A tool has answered.
    ToolResult {
        /// Reply whose tool call this was.
        reply: ReplyId,
        /// Id of the tool call.
        call_id: String,
        /// JSON or plain text.
        content: String,
    },
    /// The far end has played everything up to this mark.
    Played(MarkId),
    /// A telephone key was pressed.
    Dtmf(char),
    /// A tool wants the keys that are pressed next; its result follows by itself.
    CollectKeys {
        /// Reply whose tool call this is.
        reply: ReplyId,
        /// Id of the tool call.
        call_id: String,
        /// What is waited for.
        plan: KeyPlan,
    },
    /// Play these keys to the far end as tones, after what is being said. Nothing interrupts them.
    SendKeys(String),
    /// The phone provider knows who has answered.
    AnsweredBy(AnsweredBy),
    /// The beep of an answering machine has ended.
    Beep,
    /// The caller typed instead of spoke.
    Text(Typed),
    /// The caller wants the agent to be silent now; what was not heard is not said any more.
    Interrupt,
    /// End the call. With last words: after what is already put into words, they are said, heard, and `HangUp` follows.
    /// Without: `Requested`, `TimeLimit`, `Transferred`, `CallerHungUp` and `TransportFailed` hang up at once, the others when what is
    /// being said has been heard. A reply that is still being written is finished for `AgentHungUp` (the model may say
    /// goodbye and call the tool in any order) and stopped for the others; no further reply is asked for.
    EndRequested {
        /// Why.
        reason: EndReason,
        /// Polite last sentence.
        last_words: Option<String>,
    },
    /// The network to the far end was cut, and may come back: nothing is played until it has, so that what the caller
    /// misses is said when they can hear it.
    LineCut,
    /// The far end is there again; what was being said goes on. A caller who was being put through has not been, then.
    LineBack,
    /// The caller is being put through to somebody else: until it is known what came of it, they hear nothing of the
    /// agent, and the agent hears nothing of them. `EndRequested` with `Transferred` when somebody has taken them.
    PutThrough {
        /// The tool call behind it; it is answered when nobody takes the caller.
        tool: Option<(ReplyId, String)>,
        /// If nothing has been said for so long, somebody has taken them, and the call ends.
        wait: Duration,
    },
    /// Nobody has taken the caller, in words for the agent; the line is there, or will be back.
    NotPutThrough(String),
    /// The caller was not put through after all, and whoever wanted it knows why: the conversation goes on.
    TransferWithdrawn,
    /// The far end is gone. `HangUp` follows: at once, or as soon as what the caller was just saying is recognised (at
    /// most 1.5 s later, by `Tick`), so that the last words of a call are not missing from its transcript.
    CallerGone(EndReason),
    /// The deadline given by `poll_deadline` has passed.
    Tick,
}

/// Verdict on one frame of caller audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoiceFrame {
    /// Probability of speech, 0–1.
    pub probability: f32,
    /// Loudness, 0–1 (root mean square over full scale).
    pub volume: f32,
    /// Length of audio judged.
    pub duration: Duration,
}

/// Text that a caller typed, and how it is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// What was typed.
    pub text: String,
    /// Cut the agent off and answer; else the text only joins what the caller says next, and is answered with that.
    pub run_immediately: bool,
    /// Speak the answer; else it is text alone.
    pub audio_response: bool,
}

impl<T: Into<String>> From<T> for Typed {
    /// To be answered at once and aloud.
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            run_immediately: true,
            audio_response: true,
        }
    }
}

/// What recognition reports for an utterance.
#[derive(Debug, Clone, PartialEq)]
pub enum SttEvent {
    /// Text so far; may change.
    Interim(String),
    /// When each word of the final text was said; just before it, from recognition that knows. Not needed for the
    /// conversation.
    Words(Vec<Word>),
    /// Final text; empty when nothing was understood. Exactly one `Final` or `Failed` follows every `EndUtterance`.
    Final(String),
    /// No text will come.
    Failed(String),
}

/// A recognised word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As in the text, with or without the punctuation around it.
    pub text: String,
    /// From the beginning of the utterance's audio until the word begins.
    pub from: Duration,
    /// The same until it ends.
    pub to: Duration,
}

/// What the language model reports for a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum LlmEvent {
    /// More text.
    Text(String),
    /// A complete tool call.
    ToolCall(ToolCall),
    /// The reply is complete.
    Done,
    /// The reply ends here.
    Failed(String),
}

/// What speech synthesis reports for a piece of text.
#[derive(Debug, Clone, PartialEq)]
pub enum TtsEvent {
    /// More audio, mono, at `Settings::output_rate_hz`.
    Audio(Vec<i16>),
    /// All audio has been sent.
    Done,
    /// No more audio will come.
    Failed(String),
}

/// What a conversation asks of its driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a recognition stream and send it audio from `pre_roll` ago onwards.
    BeginUtterance {
        /// New id.
        utterance: UtteranceId,
        /// Audio from before now to include.
        pre_roll: Duration,
    },
    /// No more audio belongs to the utterance: finish it.
    EndUtterance(UtteranceId),
    /// Forget the utterance; no more events for it are wanted.
    CancelUtterance(UtteranceId),
    /// Ask the language model.
    Generate {
        /// New id.
        reply: ReplyId,
        /// Whole history, system prompt first.
        messages: Vec<Message>,
    },
    /// Stop the language model.
    CancelReply(ReplyId),
    /// Synthesise a piece of text.
    Speak {
        /// New id.
        speech: SpeechId,
        /// Reply it belongs to; `None` for the greeting and fixed sentences.
        reply: Option<ReplyId>,
        /// Text.
        text: String,
    },
    /// Stop synthesising.
    CancelSpeech(SpeechId),
    /// Send this frame (20 ms mono at `output_rate_hz`) now.
    Play(Vec<i16>),
    /// Ask the far end to report when everything sent so far is played.
    Mark(MarkId),
    /// Make the far end drop what it has not played yet.
    ClearPlayback {
        /// The last frames sent, which were not heard: the transcript is without them as well.
        unheard: u64,
    },
    /// Run a tool; answer with `Input::ToolResult`.
    CallTool {
        /// Reply that asked.
        reply: ReplyId,
        /// The call.
        call: ToolCall,
    },
    /// A turn is complete: one transcript row.
    Turn(TurnRecord),
    /// Something an observer may show. Not needed for the call itself.
    Notice(Notice),
    /// Nobody talks any more: a line that carries nothing but sound can be closed, and a phone provider told. `HangUp`
    /// follows when the caller's last words are known, [`LAST_TEXT_WAIT`](super::LAST_TEXT_WAIT) later at most.
    Leave(EndReason),
    /// End the call. Nothing comes after this.
    HangUp(EndReason),
}

/// One row of the transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRecord {
    /// 0-based, in the order spoken.
    pub seq: u32,
    /// Who spoke.
    pub role: Role,
    /// What was said; for the agent, what the caller heard.
    pub text: String,
    /// When the turn began.
    pub started_at: Time,
    /// When its last word was spoken; for the agent, heard.
    pub ended_at: Time,
    /// The agent was cut off.
    pub interrupted: bool,
    /// Latencies, of an answer to something that was spoken.
    pub timing: Option<TurnTiming>,
    /// What of the text was spoken, and what pressed; of a turn of the caller.
    pub parts: Vec<TurnPart>,
}

/// A piece of a turn's text and how it came in. What was typed is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnPart {
    /// Bytes of the text.
    pub text: Range<usize>,
    /// Where it came from.
    pub origin: Origin,
}

/// Where a piece of what the caller said came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was spoken.
    Utterance(UtteranceId),
    /// Keys were pressed.
    Keys {
        /// When the first one was.
        from: Time,
        /// When it was complete.
        to: Time,
    },
}

/// A side of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The caller.
    User,
    /// The agent.
    Assistant,
}

impl Role {
    /// As written to the transcript table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// Why a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The far end hung up or closed its socket.
    CallerHungUp,
    /// The agent ended the call by a tool.
    AgentHungUp,
    /// Ended through the API.
    Requested,
    /// The node is shutting down.
    Drained,
    /// The far end broke the protocol or fell silent.
    TransportFailed(String),
    /// A provider is down and there is no fallback.
    ProviderFailed(String),
    /// Session limit reached.
    TimeLimit,
    /// The caller was connected with somebody else.
    Transferred,
    /// An answering machine took the call.
    AnsweringMachine,
}

impl EndReason {
    /// A short machine-readable word for logs, metrics and the archive.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::CallerHungUp => "caller_hung_up",
            Self::AgentHungUp => "agent_hung_up",
            Self::Requested => "requested",
            Self::Drained => "drained",
            Self::TransportFailed(_) => "transport_failed",
            Self::ProviderFailed(_) => "provider_failed",
            Self::TimeLimit => "time_limit",
            Self::Transferred => "transferred",
            Self::AnsweringMachine => "answering_machine",
        }
    }
}
