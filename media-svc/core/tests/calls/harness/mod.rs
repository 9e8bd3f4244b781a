//! A call in virtual time: scripted caller, model and voice around a `Conversation`.
#![allow(dead_code, reason = "each test file uses its part of the harness")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

use std::time::Duration;

use media_core::Time;
use media_core::conversation::*;
use media_core::recorder::{Channels, Playing, Recorder};

/// Output rate of the tests: 160 samples a frame.
pub const RATE_HZ: u32 = 8_000;
/// Samples of one frame.
pub const FRAME_SAMPLES: usize = 160;
/// One frame of caller audio and of agent audio.
pub const FRAME: Duration = Duration::from_millis(20);

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn settings() -> Settings {
    Settings {
        output_rate_hz: RATE_HZ,
        far_end_marks: false,
        playout_lead: ms(60),
        greeting: None,
        system_prompt: "Be brief.".to_owned(),
        tools: Vec::new(),
        screening: None,
        vad_confidence: 0.7,
        vad_min_volume: 0.01,
        vad_start: ms(200),
        vad_stop: ms(200),
        turn_stop: ms(600),
        pre_speech: ms(300),
        turn_max: Duration::from_secs(30),
        no_audio_turn_stop: ms(1_000),
        idle_prompt_after: None,
        allow_interruptions: true,
        interrupt_min_words: 0,
    }
}

/// A conversation, its clock and everything it has put out.
pub struct Call {
    pub conversation: Conversation,
    pub now: Time,
    pub log: Vec<(Time, Output)>,
    /// Answers every `Speak` with this much audio a character, at once.
    pub voice: Option<Duration>,
    /// Whether the far end echoes marks, and how late.
    pub echo_marks: Option<Duration>,
    echoes: Vec<(Time, MarkId)>,
    heard_to: Time,
    recorder: Recorder,
    playing: Playing,
    /// What the recorder has given out.
    recorded: Vec<u8>,
}

impl Call {
    /// A connected call with a voice that needs 50 ms a character.
    pub fn new(settings: Settings) -> Self {
        let mut call = Self::unconnected(settings);
        call.input(Input::Connected);
        call
    }

    pub fn unconnected(settings: Settings) -> Self {
        Self {
            conversation: Conversation::new(settings),
            now: Time::ZERO,
            log: Vec::new(),
            voice: Some(ms(50)),
            echo_marks: None,
            echoes: Vec::new(),
            heard_to: Time::ZERO,
            recorder: Recorder::new(RATE_HZ, Channels::Stereo),
            playing: Playing::default(),
            recorded: Vec::new(),
        }
    }

    /// Gives one input now and takes all outputs; the scripted voice answers.
    pub fn input(&mut self, input: Input) {
        self.conversation.handle_input(self.now, input);
        let mut spoken = Vec::new();
        while let Some(output) = self.conversation.poll_output() {
            match &output {
                Output::Speak { speech, text, .. } => spoken.push((*speech, text.chars().count())),
                Output::Play(frame) => {
                    self.heard_to = self.heard_to.max(self.now) + FRAME;
                    let delay = self.conversation.far_end_delay();
                    let due = self.playing.sent(self.now, FRAME, delay);
                    self.recorder.agent(due, frame);
                }
                Output::Mark(mark) => {
                    if let Some(delay) = self.echo_marks {
                        self.echoes.push((self.heard_to + delay, *mark));
                    }
                }
                Output::ClearPlayback { unheard } => {
                    self.heard_to = self.now;
                    self.recorder.agent_cut(unheard * FRAME_SAMPLES as u64);
                    self.playing.cleared(self.now);
                }
                _ => {}
            }
            self.log.push((self.now, output));
        }
        while let Some(chunk) = self.recorder.take_chunk(self.now) {
            self.recorded.extend_from_slice(&chunk.pcm);
        }
        if let Some(pace) = self.voice {
            for (speech, chars) in spoken {
                let samples = pace.as_millis() as usize * chars * RATE_HZ as usize / 1_000;
                self.input(Input::Tts(speech, TtsEvent::Audio(vec![1_000; samples])));
                self.input(Input::Tts(speech, TtsEvent::Done));
            }
        }
    }

    /// Lets time pass, with ticks at the deadlines and marks coming back.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            let deadline = self.conversation.poll_deadline();
            let echo = self.echoes.first().map(|echo| echo.0);
            let next = [deadline, echo]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= until);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if echo == Some(next) {
                let (_, mark) = self.echoes.remove(0);
                self.input(Input::Played(mark));
            } else {
                self.input(Input::Tick);
                let after = self.conversation.poll_deadline();
                assert!(
                    after.is_none_or(|after| after > self.now),
                    "deadline {after:?} stays at {:?}",
                    self.now
                );
            }
        }
        self.now = until;
    }

    /// Caller audio that is speech.
    pub fn speech(&mut self, length: Duration) {
        self.audio(length, 0.95, 0.2);
    }

    /// Caller audio that is silence.
    pub fn silence(&mut self, length: Duration) {
        self.audio(length, 0.01, 0.001);
    }

    pub fn audio(&mut self, length: Duration, probability: f32, volume: f32) {
        for _ in 0..length.as_millis() / FRAME.as_millis() {
            self.advance(FRAME);
            self.input(Input::Voice(VoiceFrame {
                probability,
                volume,
                duration: FRAME,
            }));
        }
    }

    /// The caller says something: one second of speech, silence until the turn ends, the final text.
    pub fn say(&mut self, text: &str) {
        self.speech(ms(1_000));
        self.silence(ms(600));
        self.understood(text);
    }

    /// The final text of the utterance ended last.
    pub fn understood(&mut self, text: &str) {
        let utterance = self.last_ended();
        self.input(Input::Stt(utterance, SttEvent::Final(text.to_owned())));
    }

    pub fn interim(&mut self, text: &str) {
        let utterance = self.last_begun();
        self.input(Input::Stt(utterance, SttEvent::Interim(text.to_owned())));
    }

    /// The model's whole answer to the last request.
    pub fn answer(&mut self, text: &str) {
        let reply = self.last_reply();
        self.input(Input::Llm(reply, LlmEvent::Text(text.to_owned())));
        self.input(Input::Llm(reply, LlmEvent::Done));
    }

    pub fn call_tool(&mut self, id: &str, name: &str) -> ReplyId {
        let reply = self.last_reply();
        let call = ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: "{}".to_owned(),
        };
        self.input(Input::Llm(reply, LlmEvent::ToolCall(call)));
        reply
    }

    pub fn last_begun(&self) -> UtteranceId {
        self.find_last(|output| match output {
            Output::BeginUtterance { utterance, .. } => Some(*utterance),
            _ => None,
        })
        .expect("an utterance was begun")
    }

    pub fn last_ended(&self) -> UtteranceId {
        self.find_last(|output| match output {
            Output::EndUtterance(utterance) => Some(*utterance),
            _ => None,
        })
        .expect("an utterance was ended")
    }

    pub fn last_reply(&self) -> ReplyId {
        self.find_last(|output| match output {
            Output::Generate { reply, .. } => Some(*reply),
            _ => None,
        })
        .expect("the model was asked")
    }

    /// Messages of the last request to the model, without the system prompt.
    pub fn asked(&self) -> Vec<Message> {
        let messages = self.find_last(|output| match output {
            Output::Generate { messages, .. } => Some(messages.clone()),
            _ => None,
        });
        let mut messages = messages.expect("the model was asked");
        assert_eq!(messages.remove(0), Message::System("Be brief.".to_owned()));
        messages
    }

    pub fn requests(&self) -> usize {
        self.count(|output| matches!(output, Output::Generate { .. }))
    }

    /// Whether the far end was told to drop what it had not played.
    pub fn is_cut(&self) -> bool {
        self.count(|output| matches!(output, Output::ClearPlayback { .. })) > 0
    }

    /// The agent's side of the recording, at the end of the call.
    pub fn recorded(mut self) -> Vec<i16> {
        let end = self.now.max(self.recorder.agent_end());
        while let Some(chunk) = self.recorder.finish(end) {
            self.recorded.extend_from_slice(&chunk.pcm);
        }
        let agent = self.recorded.chunks_exact(4);
        agent.map(|frame| i16::from_le_bytes([frame[2], frame[3]])).collect()
    }

    pub fn count(&self, wanted: impl Fn(&Output) -> bool) -> usize {
        self.log.iter().filter(|(_, output)| wanted(output)).count()
    }

    /// When the first output like this came.
    pub fn at(&self, wanted: impl Fn(&Output) -> bool) -> Option<Time> {
        self.log.iter().find(|(_, output)| wanted(output)).map(|(at, _)| *at)
    }

    pub fn has(&self, wanted: &Output) -> bool {
        self.log.iter().any(|(_, output)| output == wanted)
    }

    pub fn find_last<T>(&self, wanted: impl Fn(&Output) -> Option<T>) -> Option<T> {
        self.log.iter().rev().find_map(|(_, output)| wanted(output))
    }

    /// Texts sent to synthesis.
    pub fn spoken(&self) -> Vec<String> {
        let texts = self.log.iter().filter_map(|(_, output)| match output {
            Output::Speak { text, .. } => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }

    pub fn last_speech(&self) -> SpeechId {
        self.find_last(|output| match output {
            Output::Speak { speech, .. } => Some(*speech),
            _ => None,
        })
        .expect("something was to be spoken")
    }

    /// Times and samples of frames sent.
    pub fn frames(&self) -> Vec<(Time, Vec<i16>)> {
        let frames = self.log.iter().filter_map(|(at, output)| match output {
            Output::Play(samples) => Some((*at, samples.clone())),
            _ => None,
        });
        frames.collect()
    }

    /// The transcript: role, text, whether interrupted. Checks that rows are numbered without gaps.
    pub fn rows(&self) -> Vec<(Role, String, bool)> {
        let records = self.log.iter().filter_map(|(_, output)| match output {
            Output::Turn(record) => Some(record.clone()),
            _ => None,
        });
        let check = |(index, record): (usize, TurnRecord)| {
            assert_eq!(record.seq as usize, index);
            (record.role, record.text, record.interrupted)
        };
        records.enumerate().map(check).collect()
    }
}

pub fn user(text: &str) -> Message {
    Message::User(text.to_owned())
}

pub fn agent(text: &str) -> Message {
    Message::Assistant {
        text: text.to_owned(),
        tool_calls: Vec::new(),
    }
}

pub fn user_row(text: &str) -> (Role, String, bool) {
    (Role::User, text.to_owned(), false)
}

pub fn agent_row(text: &str) -> (Role, String, bool) {
    (Role::Assistant, text.to_owned(), false)
}

pub fn cut_row(text: &str) -> (Role, String, bool) {
    (Role::Assistant, text.to_owned(), true)
}
