//! The language model behind an answer: its text becomes speech, its tool calls become rounds.

use std::time::Duration;

use super::collect::Collecting;
use super::ending::Phase;
use super::timing::APOLOGY;
use super::turn::{Agent, AgentTurn, Call, Round};
use super::{Conversation, LlmEvent, Notice, Output, ReplyId, ToolCall};
use crate::Time;
use crate::text::SentenceSplitter;

/// Requests to the model within one turn; a model that still calls tools then is going in circles.
const MAX_ROUNDS: usize = 8;
/// How long the model may be silent; a local one may have to be loaded first.
const MODEL_TIMEOUT: Duration = Duration::from_secs(30);

/// What the model is doing for a turn.
#[derive(Debug)]
pub(super) enum Model {
    /// Nothing more will come from it.
    Complete,
    /// It is writing.
    Generating {
        reply: ReplyId,
        splitter: SentenceSplitter,
        last_event_at: Time,
        began: bool,
    },
    /// It has asked for tools that have not all answered.
    AwaitingTools { reply: ReplyId },
}

impl AgentTurn {
    pub(super) fn reply_deadline(&self) -> Option<Time> {
        match &self.model {
            Model::Generating { last_event_at, .. } => Some(*last_event_at + MODEL_TIMEOUT),
            Model::Complete | Model::AwaitingTools { .. } => None,
        }
    }

    fn current_round(&mut self) -> Option<&mut Round> {
        self.rounds.last_mut()
    }
}

impl Conversation {
    /// Asks the model with everything that was said, `user` and `turn` so far included.
    pub(super) fn generate(&mut self, user: &str, turn: &AgentTurn) -> Model {
        let mut history = self.history.clone();
        history.user(user);
        for (index, round) in turn.rounds.iter().enumerate() {
            history.agent(turn.speech.text(index), round);
        }
        let messages = history.into_messages(&self.settings.system_prompt);
        let reply = self.ids.reply();
        self.emit(Output::Generate { reply, messages });
        Model::Generating {
            reply,
            splitter: SentenceSplitter::new(),
            last_event_at: self.now,
            began: false,
        }
    }

    pub(super) fn on_llm(&mut self, id: ReplyId, event: LlmEvent) {
        let now = self.now;
        let tools = &self.settings.tools;
        let held = matches!(&event, LlmEvent::ToolCall(call)
            if tools.iter().any(|tool| tool.name == call.name && tool.after_speech));
        let Some(turn) = self.talking() else { return };
        let Model::Generating {
            reply,
            splitter,
            last_event_at,
            began,
        } = &mut turn.model
        else {
            return;
        };
        if *reply != id {
            return;
        }
        *last_event_at = now;
        let begins = !std::mem::replace(began, true);
        match event {
            LlmEvent::Text(text) => {
                let pieces = splitter.push(&text);
                turn.first_token_at.get_or_insert(now);
                self.reply_begins(begins);
                self.notify(Notice::ReplyText(text));
                self.queue(Some(id), pieces);
            }
            LlmEvent::ToolCall(call) => {
                turn.first_token_at.get_or_insert(now);
                if let Some(round) = turn.current_round() {
                    round.calls.push(Call {
                        call: call.clone(),
                        result: None,
                    });
                }
                if held {
                    turn.held.push((id, call.clone()));
                }
                self.reply_begins(begins);
                self.notify(Notice::ToolStarted(call.clone()));
                if !held {
                    self.run_tool(id, call);
                }
            }
            LlmEvent::Done => {
                let rest = splitter.finish();
                let calls = turn.current_round().is_some_and(|round| !round.calls.is_empty());
                turn.model = if calls {
                    Model::AwaitingTools { reply: id }
                } else {
                    Model::Complete
                };
                if !begins {
                    self.notify(Notice::ReplyDone);
                }
                self.queue(Some(id), rest.into_iter().collect());
                self.next_round();
            }
            LlmEvent::Failed(error) => self.fail_reply(error),
        }
    }

    pub(super) fn on_tool_result(&mut self, id: ReplyId, call_id: String, content: String) {
        if self.answer_call(id, &call_id, &content) {
            self.notify(Notice::ToolDone { call_id, content });
            self.next_round();
        } else if self.history.late_result(&call_id, &content) {
            self.notify(Notice::ToolDone { call_id, content });
        }
    }

    /// Gives up on a model that has gone silent.
    pub(super) fn expire_reply(&mut self) {
        let now = self.now;
        let Some(turn) = self.talking() else { return };
        let Model::Generating { reply, .. } = turn.model else {
            return;
        };
        if turn.reply_deadline().is_some_and(|due| due <= now) {
            self.emit(Output::CancelReply(reply));
            self.fail_reply(format!("no answer for {} s", MODEL_TIMEOUT.as_secs()));
        }
    }

    fn reply_begins(&mut self, begins: bool) {
        if begins {
            self.notify(Notice::ReplyStarted);
        }
    }

    /// Runs the tools that have waited for the agent's words to be heard.
    pub(super) fn run_held_tools(&mut self) {
        if !matches!(self.phase, Phase::Live) || !self.has_said_everything() {
            return;
        }
        let held = self.talking().map(|turn| std::mem::take(&mut turn.held));
        for (reply, call) in held.unwrap_or_default() {
            self.run_tool(reply, call);
        }
    }

    fn run_tool(&mut self, reply: ReplyId, call: ToolCall) {
        let call_id = call.id.clone();
        self.notify(Notice::ToolRunning { call_id });
        self.emit(Output::CallTool { reply, call });
    }

    /// Whether the model waits for its tools and the caller has heard all that it has said before.
    pub(super) fn has_said_everything(&self) -> bool {
        let Agent::Talking(turn) = &self.agent else {
            return false;
        };
        matches!(turn.model, Model::AwaitingTools { .. })
            && turn.speech.is_sent()
            && self.marks.heard(&turn.speech.schedule, self.now) >= turn.speech.schedule.frames()
    }

    /// Whether something happens as soon as the words said so far were heard.
    pub(super) fn waits_to_be_heard(&self) -> bool {
        let Agent::Talking(turn) = &self.agent else {
            return false;
        };
        let waits = !turn.held.is_empty() || self.collecting.as_ref().is_some_and(Collecting::is_unheard);
        waits && turn.speech.is_sent() && matches!(turn.model, Model::AwaitingTools { .. })
    }

    /// Whether this call of the reply under way has no answer yet.
    pub(super) fn awaits_tool(&mut self, id: ReplyId, call_id: &str) -> bool {
        self.open_call(id, call_id).is_some()
    }

    /// Whether the reply under way waits for no tool any more.
    pub(super) fn all_tools_answered(&self) -> bool {
        let Agent::Talking(turn) = &self.agent else {
            return false;
        };
        let answered = |round: &Round| round.calls.iter().all(|call| call.result.is_some());
        matches!(turn.model, Model::AwaitingTools { .. }) && turn.rounds.last().is_some_and(answered)
    }

    fn open_call(&mut self, id: ReplyId, call_id: &str) -> Option<&mut Call> {
        let turn = self.talking()?;
        let current = match turn.model {
            Model::Generating { reply, .. } | Model::AwaitingTools { reply } => reply == id,
            Model::Complete => false,
        };
        let round = turn.current_round().filter(|_| current)?;
        let mut calls = round.calls.iter_mut();
        calls.find(|call| call.call.id == call_id && call.result.is_none())
    }

    /// Finds the open call of the reply under way and answers it.
    pub(super) fn answer_call(&mut self, id: ReplyId, call_id: &str, content: &str) -> bool {
        let open = self.open_call(id, call_id);
        let Some(call) = open else { return false };
        call.result = Some(content.to_owned());
        true
    }

    /// Asks the model again when all its tools have answered; a call that is ending has no next round.
    pub(super) fn next_round(&mut self) {
        let leaving = matches!(self.phase, Phase::Leaving { .. });
        let Agent::Talking(turn) = &mut self.agent else { return };
        let Model::AwaitingTools { .. } = turn.model else {
            return;
        };
        if leaving {
            turn.model = Model::Complete;
            return;
        }
        if !turn
            .rounds
            .last()
            .is_some_and(|round| round.calls.iter().all(|call| call.result.is_some()))
        {
            return;
        }
        if turn.rounds.len() >= MAX_ROUNDS {
            self.fail_reply(format!("more than {MAX_ROUNDS} rounds of tool calls in one turn"));
            return;
        }
        let Agent::Talking(mut turn) = std::mem::replace(&mut self.agent, Agent::Listening) else {
            return;
        };
        let user = turn
            .answering
            .as_ref()
            .map(|user| user.unsaid.clone())
            .unwrap_or_default();
        turn.model = self.generate(&user, &turn);
        turn.rounds.push(Round::default());
        self.agent = Agent::Talking(turn);
    }

    /// The model will say no more: apologise behind what it has said.
    fn fail_reply(&mut self, error: String) {
        if let Some(turn) = self.talking() {
            turn.model = Model::Complete;
            // Tool calls of this round may never be answered; the apology comes after them.
            turn.rounds.push(Round::default());
        }
        self.stage_failed("llm", error);
        if matches!(self.phase, Phase::Live) {
            self.say(APOLOGY, None);
        }
    }
}
