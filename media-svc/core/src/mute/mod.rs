//! Which audio of a recording must be silent, because its words are taken out of the transcript, and which audio is known
//! to be safe.
//!
//! What is sensitive is known only when a turn is complete: its text is looked at as a whole. Until then its audio is
//! *held*: [`Mute::settled`] tells how far the recording may be given out, [`Mute::apply`] silences what must be. Both count
//! in samples of one side, not in time, so that neither jitter nor lost packets move a span.
//!
//! - What the caller says is held from the beginning of an utterance until its turn is written. Where recognition told
//!   when each word was said, the words of a span are silenced, with [`WORD_MARGIN`] around them; else the whole
//!   utterance. An utterance without a final text is silenced as a whole.
//! - Keys are held from [`KEY_MARGIN`] before they are pressed; if the text of their turn is redacted, or has not come
//!   within [`LONGEST_KEYS`], the caller is silent until as long after the last one.
//! - What the agent says is held until its turn is over; every sentence with a span in it is silenced as a whole:
//!   nothing tells when synthesis says which word.
//! - What is held longer than [`LONGEST_HOLD`] is decided with what is known by then, on the safe side.

mod agent;
mod caller;
mod lane;
#[cfg(test)]
mod tests;
mod words;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use self::agent::Agent;
use self::caller::Caller;
use self::lane::Lane;
use crate::Time;
use crate::conversation::{Notice, Role, SttEvent, TurnRecord, UtteranceId, is_key};
use crate::recorder::Sides;
use crate::redact::Redactor;

/// Silence before the first and behind the last word of a span: word times are estimates.
pub const WORD_MARGIN: Duration = Duration::from_millis(250);
/// The same around pressed keys: their tones are reported up to about this late.
pub const KEY_MARGIN: Duration = Duration::from_secs(1);
/// Longest that keys wait for their turn: not all of them get one (a tool's second request for keys forgets the first).
pub const LONGEST_KEYS: Duration = Duration::from_secs(30);
/// Longest that audio is held: a turn of the caller or the agent is usually a matter of seconds.
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// Caller audio that has stopped for this long holds nothing up: a muted client sends none for minutes.
const NO_AUDIO: Duration = Duration::from_secs(2);

/// What of one call's recording is to be silent.
#[derive(Debug)]
pub struct Mute {
    sample_rate_hz: u32,
    redactor: Arc<Redactor>,
    /// How far back an utterance may begin, in samples.
    look_back: u64,
    caller: Caller,
    agent: Agent,
    caller_lane: Lane,
    agent_lane: Lane,
    /// Samples of the caller so far, and when the last ones came.
    heard: u64,
    heard_at: Time,
    /// Frames taken in and given out.
    held_until: u64,
    given: u64,
    closed: bool,
}

impl Mute {
    /// For a recording at this rate. `longest_pre_roll` is how far back an utterance may begin.
    pub fn new(sample_rate_hz: u32, redactor: Arc<Redactor>, longest_pre_roll: Duration) -> Self {
        let look_back = samples(longest_pre_roll.max(KEY_MARGIN), sample_rate_hz);
        Self {
            sample_rate_hz,
            redactor,
            look_back,
            caller: Caller::new(sample_rate_hz),
            agent: Agent::new(sample_rate_hz),
            caller_lane: Lane::default(),
            agent_lane: Lane::default(),
            heard: 0,
            heard_at: Time::ZERO,
            held_until: 0,
            given: 0,
            closed: false,
        }
    }

    /// The caller's samples are this many by now.
    pub fn heard(&mut self, now: Time, samples: u64) {
        self.heard = samples;
        self.heard_at = now;
    }

    /// Audio for recognition begins with what the caller was heard to say after `position` of audio.
    pub fn utterance_begins(&mut self, utterance: UtteranceId, position: Duration) {
        let from = samples(position, self.sample_rate_hz);
        let silent = self.caller.begin(utterance, from);
        self.silence_caller(silent);
    }

    /// It is complete.
    pub fn utterance_ends(&mut self, utterance: UtteranceId) {
        self.caller.end(utterance, self.heard);
    }

    /// No text will come for it, or none is waited for.
    pub fn utterance_lost(&mut self, utterance: UtteranceId) {
        let silent = self.caller.lose(utterance, self.heard);
        self.silence_caller(silent);
    }

    /// What recognition says.
    pub fn recognised(&mut self, utterance: UtteranceId, event: &SttEvent) {
        match event {
            SttEvent::Interim(_) => {}
            SttEvent::Words(words) => self.caller.words(utterance, words),
            SttEvent::Final(text) => self.caller.text(utterance, text),
            SttEvent::Failed(_) => self.utterance_lost(utterance),
        }
    }

    /// A key was pressed.
    pub fn key(&mut self, now: Time, key: char) {
        if is_key(key) {
            self.caller.key(now, self.heard);
        }
    }

    /// What the conversation lets know; `spoken` samples of the agent were given to the recorder before.
    pub fn noticed(&mut self, notice: &Notice, spoken: u64) {
        match notice {
            Notice::UserStoppedSpeaking => {
                let silent = self.caller.stopped(self.heard);
                self.silence_caller(silent);
            }
            Notice::AgentStartedSpeaking => self.agent.start(spoken),
            Notice::Speaking { text, .. } => self.agent.speak(spoken, text),
            Notice::AgentStoppedSpeaking => {
                let silent = self.agent.stop(spoken, &self.redactor);
                self.silence_agent(silent);
            }
            Notice::UserStartedSpeaking
            | Notice::UserTranscript { .. }
            | Notice::Asked(_)
            | Notice::ReplyStarted
            | Notice::ReplyText(_)
            | Notice::ReplyDone
            | Notice::SpeechQueued { .. }
            | Notice::Spoken { .. }
            | Notice::Written { .. }
            | Notice::Interrupted { .. }
            | Notice::Withdrawn
            | Notice::ToolStarted(_)
            | Notice::ToolRunning { .. }
            | Notice::ToolCancelled { .. }
            | Notice::ToolDone { .. }
            | Notice::AnsweredBy(_)
            | Notice::TurnTiming(_)
            | Notice::StageFailed { .. } => {}
        }
    }

    /// A turn is complete; its text as it was, not redacted, and what of it goes.
    pub fn turn(&mut self, turn: &TurnRecord, redacted: &[Range<usize>]) {
        match turn.role {
            Role::User => {
                let silent = self.caller.turn(turn, redacted);
                self.silence_caller(silent);
            }
            Role::Assistant => self.agent.heard(&turn.text),
        }
    }

    /// The recorder has given out more. Frames follow each other.
    pub fn push(&mut self, sides: &Sides) {
        self.caller_lane.push(&sides.caller.stretches);
        self.agent_lane.push(&sides.agent.stretches);
        self.held_until = sides.first_frame + sides.caller.samples.len() as u64;
    }

    /// The call is over: everything that has no text is silent, the rest is settled. Once is enough.
    pub fn close(&mut self, spoken: u64) {
        if self.closed {
            return;
        }
        let silent = self.caller.close(self.heard, &self.redactor);
        self.silence_caller(silent);
        let silent = self.agent.stop(spoken, &self.redactor);
        self.silence_agent(silent);
        self.closed = true;
    }

    /// Frames of the recording that may be given out by now, from its beginning.
    pub fn settled(&mut self, now: Time) -> u64 {
        if self.closed {
            return self.held_until;
        }
        let forgotten = self.caller.forget_keys(now.saturating_sub(LONGEST_KEYS));
        self.silence_caller(forgotten);
        if self.held_until.saturating_sub(self.given) > samples(LONGEST_HOLD, self.sample_rate_hz) {
            self.give_up();
        }
        let may_reach_back = now.saturating_sub(self.heard_at) < NO_AUDIO;
        let quiet = self
            .heard
            .saturating_sub(if may_reach_back { self.look_back } else { 0 });
        let caller = self.caller.holds_from().map_or(quiet, |held| held.min(quiet));
        let held = [
            self.caller_lane.frame_of(caller),
            self.agent.holds_from().and_then(|held| self.agent_lane.frame_of(held)),
        ];
        held.into_iter()
            .flatten()
            .fold(self.held_until, u64::min)
            .max(self.given)
    }

    /// Silences what must be in the next frames of both sides, which must be settled. They are then given out.
    pub fn apply(&mut self, first_frame: u64, caller: &mut [i16], agent: &mut [i16]) {
        self.caller_lane.apply(first_frame, caller);
        self.agent_lane.apply(first_frame, agent);
        self.given = first_frame + caller.len() as u64;
    }

    /// Goes past frames that were lost.
    pub fn skip(&mut self, frames: u64) {
        self.given += frames;
        self.caller_lane.forget(self.given);
        self.agent_lane.forget(self.given);
    }

    /// The next frame to give out.
    pub fn given(&self) -> u64 {
        self.given
    }

    fn give_up(&mut self) {
        let before = self
            .heard
            .saturating_sub(samples(LONGEST_HOLD / 2, self.sample_rate_hz));
        let silent = self.caller.give_up(before, self.heard, &self.redactor);
        self.silence_caller(silent);
        let silent = self.agent.give_up(&self.redactor);
        self.silence_agent(silent);
    }

    fn silence_caller(&mut self, silent: impl IntoIterator<Item = Range<u64>>) {
        silent.into_iter().for_each(|range| self.caller_lane.silence(range));
    }

    fn silence_agent(&mut self, silent: impl IntoIterator<Item = Range<u64>>) {
        silent.into_iter().for_each(|range| self.agent_lane.silence(range));
    }
}

/// A length of audio in samples.
fn samples(length: Duration, sample_rate_hz: u32) -> u64 {
    let samples = length.as_nanos() * u128::from(sample_rate_hz) / 1_000_000_000;
    u64::try_from(samples).unwrap_or(u64::MAX)
}
