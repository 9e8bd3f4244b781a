//! What the caller does: speech, keys, typed text, and the user turns these make.

use std::time::Duration;

use super::collect::key_turn;
use super::ending::Phase;
use super::endpoint::Edge;
use super::timing::{APOLOGY, SpeechEnd};
use super::turn::Agent;
use super::{Conversation, Notice, Origin, Output, SttEvent, TurnPart, Typed, UtteranceId, VoiceFrame};
use crate::Time;
use crate::text::join;

/// Pause after which pressed keys are complete.
const KEY_PAUSE: Duration = Duration::from_secs(2);
/// Keys that make a message by themselves; nobody has a longer number.
const MAX_KEYS: usize = 64;

/// What the caller has said and the agent has not answered yet. More may join it.
#[derive(Debug)]
pub(super) struct UserTurn {
    pub(super) started_at: Time,
    /// All of it, for the transcript.
    pub(super) text: String,
    /// The part that is not in the history yet.
    pub(super) unsaid: String,
    /// How the text came in.
    pub(super) parts: Vec<TurnPart>,
    pub(super) end: Option<SpeechEnd>,
    /// To be answered in text alone.
    pub(super) silent: bool,
    /// Not answered before the caller says more.
    pub(super) waits: bool,
}

impl UserTurn {
    pub(super) fn new(started_at: Time, text: String, end: Option<SpeechEnd>) -> Self {
        Self {
            started_at,
            unsaid: text.clone(),
            text,
            parts: Vec::new(),
            end,
            silent: false,
            waits: false,
        }
    }

    /// The same, where all of it came in like this.
    pub(super) fn from(mut self, origin: Origin) -> Self {
        let text = 0..self.text.len();
        self.parts = vec![TurnPart { text, origin }];
        self
    }

    /// One turn of this and what was said later.
    pub(super) fn join(self, later: Option<Self>) -> Self {
        let Some(later) = later else { return self };
        let text = join(&self.text, &later.text);
        // Neither has space around it: the later one is the end of both.
        let shift = text.len().saturating_sub(later.text.len());
        let shifted = later.parts.into_iter().map(|part| TurnPart {
            text: part.text.start + shift..part.text.end + shift,
            origin: part.origin,
        });
        Self {
            started_at: self.started_at.min(later.started_at),
            text,
            parts: self.parts.into_iter().chain(shifted).collect(),
            unsaid: if self.unsaid.is_empty() {
                later.unsaid
            } else {
                join(&self.unsaid, &later.unsaid)
            },
            end: later.end.or(self.end),
            silent: later.silent,
            waits: self.waits && later.waits,
        }
    }
}

/// Keys pressed and not handed on yet.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pressed: String,
    first_at: Time,
    last_at: Time,
}

impl Keys {
    pub(super) fn due(&self) -> Option<Time> {
        (!self.pressed.is_empty()).then(|| self.last_at + KEY_PAUSE)
    }

    /// Takes what was pressed so far and since when, for somebody who has waited for it.
    pub(super) fn take(&mut self) -> (String, Time) {
        let keys = std::mem::take(self);
        (keys.pressed, keys.first_at)
    }
}

impl Conversation {
    pub(super) fn on_voice(&mut self, frame: VoiceFrame) {
        if let Some(edge) = self.endpoint.voice(self.now, frame, &self.settings) {
            self.on_edge(edge);
        }
    }

    pub(super) fn on_edge(&mut self, edge: Edge) {
        match edge {
            Edge::Started {
                pre_roll,
                started_at,
                continues,
            } => {
                let utterance = self.ids.utterance();
                self.recognition
                    .begin(utterance, started_at, self.now, pre_roll, continues);
                self.emit(Output::BeginUtterance { utterance, pre_roll });
                self.notify(Notice::UserStartedSpeaking);
                // A voice that never stopped is not addressed at what the agent is saying.
                if !continues {
                    self.give_way(0);
                }
            }
            Edge::Stopped { last_voice_at } => {
                if let Some(utterance) = self.recognition.end(last_voice_at, self.now) {
                    self.emit(Output::EndUtterance(utterance));
                }
                self.notify(Notice::UserStoppedSpeaking);
            }
        }
    }

    pub(super) fn on_stt(&mut self, id: UtteranceId, event: SttEvent) {
        let Some(utterance) = self.recognition.get(id) else {
            return;
        };
        let (open, continues) = (utterance.is_open(), utterance.continues);
        match event {
            SttEvent::Interim(text) => {
                self.recognition.interim(id, &text);
                if !continues {
                    self.give_way(count_words(&text));
                }
                if !text.trim().is_empty() {
                    self.notify(Notice::UserTranscript { text, is_final: false });
                }
            }
            SttEvent::Words(_) => return,
            // Too early to be the whole utterance: the text so far.
            SttEvent::Final(text) if open => self.recognition.interim(id, &text),
            SttEvent::Final(text) => {
                if !continues {
                    self.give_way(count_words(&text));
                }
                self.recognition.resolve(id, Some(text), self.now);
            }
            SttEvent::Failed(error) => {
                self.stage_failed("stt", error);
                self.retry_if_open(id);
                self.recognition.resolve(id, None, self.now);
            }
        }
        self.take_understood();
    }

    /// Uses the text so far where recognition does not come to an end.
    pub(super) fn expire_recognition(&mut self) {
        while let Some(late) = self.recognition.overdue(self.now) {
            self.emit(Output::CancelUtterance(late));
            self.stage_failed(
                "stt",
                format!(
                    "no final text for {} s",
                    super::recognition::RECOGNITION_TIMEOUT.as_secs()
                ),
            );
            self.recognition.resolve(late, None, self.now);
        }
        self.take_understood();
    }

    pub(super) fn on_key(&mut self, key: char) {
        let key = key.to_ascii_uppercase();
        if !matches!(key, '0'..='9' | '*' | '#' | 'A'..='D') {
            return;
        }
        self.idle.reset();
        if self.collect(key, self.now) {
            return;
        }
        if self.keys.pressed.is_empty() {
            self.keys.first_at = self.now;
        }
        self.keys.pressed.push(key);
        self.keys.last_at = self.now;
        if key == '#' || self.keys.pressed.len() >= MAX_KEYS {
            self.take_keys();
        }
    }

    pub(super) fn expire_keys(&mut self) {
        if self.keys.due().is_some_and(|due| due <= self.now) {
            self.take_keys();
        }
    }

    /// Makes a user message of the keys pressed so far. Keys interrupt nothing: they are answered in turn.
    pub(super) fn take_keys(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if !keys.pressed.is_empty() {
            self.add_pending(key_turn(keys.first_at, &keys.pressed, keys.last_at));
        }
    }

    pub(super) fn on_text(&mut self, typed: Typed) {
        let text = typed.text.trim();
        if text.is_empty() {
            return;
        }
        let mut turn = UserTurn::new(self.now, text.to_owned(), None);
        turn.silent = !typed.audio_response;
        turn.waits = !typed.run_immediately;
        self.add_pending(turn);
        let may_cut = self.answers_in_silence() || self.settings.allow_interruptions;
        if typed.run_immediately && matches!(self.phase, Phase::Live) && may_cut {
            self.cut();
        }
    }

    /// Silences the agent. A question nothing was heard in answer to stays open, and is answered with the next.
    pub(super) fn on_interrupt(&mut self) {
        self.idle.reset();
        if !matches!(self.phase, Phase::Live) || matches!(self.agent, Agent::Listening) || self.sends_keys() {
            return;
        }
        self.cut();
        if let Some(user) = &mut self.pending {
            user.waits = true;
        }
    }

    /// Whether the caller has said something that is to be answered.
    pub(super) fn has_question(&self) -> bool {
        self.pending.as_ref().is_some_and(|user| !user.waits)
    }

    /// Whether the caller is in the middle of a turn that has to be waited for.
    pub(super) fn caller_holds_turn(&self) -> bool {
        self.endpoint.is_speaking() && !self.recognition.continues_forced_turn()
    }

    /// Stops the agent if the caller's speech, with this many words recognised, is reason enough.
    fn give_way(&mut self, words: u32) {
        if !matches!(self.phase, Phase::Live) || matches!(self.agent, Agent::Listening) || self.sends_keys() {
            return;
        }
        // An answer nobody has heard yet is to a question that was not complete.
        let may_interrupt = self.settings.allow_interruptions && words >= self.settings.interrupt_min_words;
        if self.answers_in_silence() || may_interrupt {
            self.cut();
        }
    }

    /// Recognition broke off while the caller speaks: starts it again, once, with the audio not understood yet.
    fn retry_if_open(&mut self, id: UtteranceId) {
        let Some(failed) = self
            .recognition
            .get(id)
            .filter(|failed| failed.is_open() && !failed.retried)
        else {
            return;
        };
        let since = self.now.saturating_sub(failed.begun_at);
        let pre_roll = if failed.has_text() {
            Duration::ZERO
        } else {
            failed.pre_roll + since
        };
        let (started_at, continues) = (failed.started_at, failed.continues);
        let utterance = self.ids.utterance();
        self.recognition.resolve(id, None, self.now);
        self.recognition
            .begin(utterance, started_at, self.now, pre_roll, continues);
        self.recognition.mark_retried();
        self.emit(Output::BeginUtterance { utterance, pre_roll });
    }

    /// Takes over texts that are settled, in the order spoken.
    pub(super) fn take_understood(&mut self) {
        while let Some(understood) = self.recognition.take_understood() {
            if !understood.text.is_empty() {
                let text = understood.text.clone();
                self.notify(Notice::UserTranscript { text, is_final: true });
                let origin = Origin::Utterance(understood.id);
                let turn = UserTurn::new(understood.started_at, understood.text, understood.end);
                self.add_pending(turn.from(origin));
                if self.answers_in_silence() && matches!(self.phase, Phase::Live) {
                    self.cut();
                }
            } else if understood.failed && self.nothing_else_to_say() {
                self.say(APOLOGY, None);
            }
        }
    }

    fn nothing_else_to_say(&self) -> bool {
        matches!(self.phase, Phase::Live)
            && matches!(self.agent, Agent::Listening)
            && !self.has_question()
            && self.recognition.is_empty()
            && !self.endpoint.is_speaking()
    }

    pub(super) fn add_pending(&mut self, user: UserTurn) {
        self.idle.reset();
        self.pending = Some(match self.pending.take() {
            Some(earlier) => earlier.join(Some(user)),
            None => user,
        });
    }
}

fn count_words(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}
