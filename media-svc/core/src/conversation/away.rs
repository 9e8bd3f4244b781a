//! A caller who is being put through to somebody else: gone when they are taken, and back when nobody takes them.

use std::time::Duration;

use super::ending::Phase;
use super::turn::{Agent, AgentTurn, Call, Round};
use super::{Conversation, EndReason, Input, Notice, ReplyId, ToolCall};
use crate::Time;
use crate::conversation::reply::Model;
use crate::dialogue::TRANSFER_TOOL;

/// What the model is told when a caller comes back and nobody has said why.
const NOBODY_TOOK_THEM: &str = "nobody took the call";
/// Id of the tool call by which the model learns of a transfer that it has not asked for itself.
const ASKED_FROM_OUTSIDE: &str = "transfer_by_operator";

/// A transfer that is under way.
#[derive(Debug)]
pub(super) struct Away {
    /// The tool call behind it.
    tool: Option<(ReplyId, String)>,
    /// When somebody must have taken the caller.
    until: Time,
}

impl Conversation {
    pub(super) fn on_put_through(&mut self, tool: Option<(ReplyId, String)>, wait: Duration) {
        if !matches!(self.phase, Phase::Live) {
            return;
        }
        self.away = Some(Away {
            tool,
            until: self.now + wait,
        });
        self.pacer.ran_dry();
    }

    /// Whether nobody would hear what is played now.
    pub(super) fn is_unheard(&self) -> bool {
        self.line_is_cut || self.away.is_some()
    }

    /// Whether this is something the caller does while they are somewhere else.
    pub(super) fn misses(&self, input: &Input) -> bool {
        self.away.is_some()
            && matches!(
                input,
                Input::Voice(_) | Input::Dtmf(_) | Input::Text(_) | Input::Interrupt | Input::Beep
            )
    }

    pub(super) fn away_until(&self) -> Option<Time> {
        self.away.as_ref().map(|away| away.until)
    }

    /// Whoever rings so long without a word about it has been answered.
    pub(super) fn expire_away(&mut self) {
        if self.away_until().is_some_and(|until| until <= self.now) {
            self.away = None;
            self.finish(EndReason::Transferred);
        }
    }

    pub(super) fn on_line_back(&mut self) {
        self.line_is_cut = false;
        self.on_not_put_through(NOBODY_TOOK_THEM);
    }

    /// Goes on with the caller, who is told by the agent why they are back.
    pub(super) fn on_not_put_through(&mut self, why: &str) {
        let Some(away) = self.away.take() else { return };
        let content = format!("error: the caller could not be put through: {why}");
        match away.tool {
            Some((reply, call_id)) if self.answer_call(reply, &call_id, &content) => {
                self.notify(Notice::ToolDone { call_id, content });
                self.next_round();
            }
            Some((_, call_id)) => {
                self.cut();
                if self.history.late_result(&call_id, &content) {
                    self.notify(Notice::ToolDone { call_id, content });
                }
                self.take_up_again();
            }
            None => {
                self.cut();
                self.history.agent(String::new(), &transferred_from_outside(content));
                self.take_up_again();
            }
        }
    }

    /// The agent speaks first; a question that is still open is answered in its stead.
    fn take_up_again(&mut self) {
        let silent = matches!(self.phase, Phase::Live) && matches!(self.agent, Agent::Listening);
        if silent && !self.has_question() {
            let model = self.generate("", &AgentTurn::new(None, Model::Complete));
            self.agent = Agent::Talking(Box::new(AgentTurn::new(None, model)));
        }
    }
}

/// As if the agent had tried it.
fn transferred_from_outside(content: String) -> Round {
    let call = ToolCall {
        id: ASKED_FROM_OUTSIDE.to_owned(),
        name: TRANSFER_TOOL.to_owned(),
        arguments: "{}".to_owned(),
    };
    Round {
        calls: vec![Call {
            call,
            result: Some(content),
        }],
    }
}
