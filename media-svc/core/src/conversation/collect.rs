//! Keys that the agent has asked for: digits until a terminator, a length or a pause, as the answer of a tool.

use std::time::Duration;

use super::caller::UserTurn;
use super::ending::Phase;
use super::reply::Model;
use super::turn::{Agent, AgentTurn};
use super::{Conversation, Notice, Origin, Output, ReplyId, Spoken};
use crate::Time;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlan {
    /// Digits that are enough.
    pub max_digits: usize,
    /// Key that ends the input and is not part of it.
    pub terminator: Option<char>,
    /// Longest pause: before the first key, counted from when the question has been heard, and between two keys.
    pub timeout: Duration,
}

/// A tool that waits for keys.
#[derive(Debug)]
pub(super) struct Collecting {
    reply: ReplyId,
    call_id: String,
    plan: KeyPlan,
    digits: String,
    first_at: Time,
    /// Since when the next key is waited for; not before the question has been heard.
    waiting_since: Option<Time>,
}

/// Why the input is complete.
#[derive(Debug, Clone, Copy)]
enum Complete {
    Terminator,
    Length,
    Timeout,
}

impl Complete {
    fn as_str(self) -> &'static str {
        match self {
            Self::Terminator => "terminator",
            Self::Length => "length",
            Self::Timeout => "timeout",
        }
    }
}

impl Collecting {
    pub(super) fn due(&self) -> Option<Time> {
        Some(self.waiting_since? + self.plan.timeout)
    }

    pub(super) fn is_unheard(&self) -> bool {
        self.waiting_since.is_none()
    }

    fn press(&mut self, key: char, at: Time) -> Option<Complete> {
        if self.plan.terminator == Some(key) {
            return Some(Complete::Terminator);
        }
        if self.digits.is_empty() {
            self.first_at = at;
        }
        self.digits.push(key);
        if self.waiting_since.is_some() {
            self.waiting_since = Some(at);
        }
        (self.digits.len() >= self.plan.max_digits).then_some(Complete::Length)
    }
}

/// Stands before pressed keys in transcript and history, and `]` behind them.
pub(crate) const KEYS_PRESSED: &str = "[keys pressed: ";

/// Pressed keys as a turn.
pub(super) fn key_turn(from: Time, keys: &str, to: Time) -> UserTurn {
    UserTurn::new(from, format!("{KEYS_PRESSED}{keys}]"), None).made_of(Origin::Keys { from, to })
}

impl Conversation {
    /// Waits for keys on behalf of a tool; what was pressed while the agent was asking counts.
    pub(super) fn on_collect_keys(&mut self, reply: ReplyId, call_id: String, plan: KeyPlan) {
        if !matches!(self.phase, Phase::Live) || !self.awaits_tool(reply, &call_id) {
            return;
        }
        if let Some(earlier) = self.collecting.take() {
            self.on_tool_result(earlier.reply, earlier.call_id, "replaced by a later request".to_owned());
        }
        let (ahead, since) = self.keys.take();
        self.collecting = Some(Collecting {
            reply,
            call_id,
            plan,
            digits: String::new(),
            first_at: self.now,
            waiting_since: None,
        });
        for key in ahead.chars() {
            // What is more than was asked for may be meant for what comes next.
            if !self.collect(key, since) {
                self.on_key(key);
            }
        }
    }

    /// Gives a key pressed at this time to the tool that waits for keys; false when there is none.
    pub(super) fn collect(&mut self, key: char, at: Time) -> bool {
        let Some(collecting) = self.collecting.as_mut() else {
            return false;
        };
        if let Some(complete) = collecting.press(key, at) {
            self.collected(complete);
        }
        true
    }

    pub(super) fn expire_collecting(&mut self) {
        let due = self.collecting.as_ref().and_then(Collecting::due);
        if due.is_some_and(|due| due <= self.now) {
            self.collected(Complete::Timeout);
        }
    }

    /// The pause before the first key begins when the question has been heard.
    pub(super) fn wait_for_keys_when_heard(&mut self) {
        let (now, heard) = (self.now, self.has_said_everything());
        if let Some(collecting) = self.collecting.as_mut().filter(|_| heard) {
            collecting.waiting_since.get_or_insert(now);
        }
    }

    /// The agent was cut off: what was pressed so far is a message of its own.
    pub(super) fn stop_collecting(&mut self) {
        if let Some(collecting) = self.collecting.take()
            && !collecting.digits.is_empty()
        {
            self.add_pending(key_turn(collecting.first_at, &collecting.digits, self.now));
        }
    }

    fn collected(&mut self, complete: Complete) {
        let Some(done) = self.collecting.take() else { return };
        let result = serde_json::json!({ "digits": done.digits, "ended_by": complete.as_str() }).to_string();
        self.idle.reset();
        if done.digits.is_empty() {
            self.on_tool_result(done.reply, done.call_id, result);
            return;
        }
        let row = key_turn(done.first_at, &done.digits, self.now);
        if !self.answer_call(done.reply, &done.call_id, &result) {
            self.record(Spoken::by_caller(row, self.now));
            return;
        }
        self.notify(Notice::ToolDone {
            call_id: done.call_id,
            content: result,
        });
        if !self.all_tools_answered() {
            self.record(Spoken::by_caller(row, self.now));
            self.next_round();
            return;
        }
        // The question is over, heard to its end or not; the keys come after it, and then the agent goes on.
        let Agent::Talking(mut turn) = std::mem::replace(&mut self.agent, Agent::Listening) else {
            return;
        };
        if let Some(user) = turn.answering.take() {
            self.settle_user(user);
        }
        let frames = self.marks.heard(&turn.speech.schedule, self.now);
        let cut_off = !turn.speech.is_sent() || frames < turn.speech.schedule.frames();
        if turn.audible_at.is_some() && cut_off {
            let unheard = turn.speech.schedule.frames().saturating_sub(frames);
            self.emit(Output::ClearPlayback { unheard });
            self.pacer.cleared(self.now);
        }
        for speech in turn.speech.running() {
            self.emit(Output::CancelSpeech(speech));
        }
        self.close_turn(*turn, frames, cut_off);
        self.record(Spoken::by_caller(row, self.now));
        let model = self.generate("", &AgentTurn::new(None, Model::Complete));
        self.agent = Agent::Talking(Box::new(AgentTurn::new(None, model)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_complete_an_input_has_a_word_for_the_model() {
        let words = [Complete::Terminator, Complete::Length, Complete::Timeout].map(Complete::as_str);
        assert_eq!(words, ["terminator", "length", "timeout"]);
    }
}
