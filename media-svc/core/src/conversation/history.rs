//! What the model is told has been said so far.

use super::Message;
use super::turn::Round;
use crate::text;

/// Stands for the answer of a tool that had not answered when the conversation went on.
const NO_RESULT_YET: &str = "{\"status\":\"no result yet\"}";

/// Messages in the order of the conversation, without the system prompt. Of the agent only what was heard is here.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    messages: Vec<Message>,
}

impl History {
    /// Adds what the caller said; to a message of theirs that has had no answer, if that is the last one.
    pub(super) fn user(&mut self, said: &str) {
        if said.is_empty() {
            return;
        }
        if let Some(Message::User(last)) = self.messages.last_mut() {
            *last = text::join(last, said);
        } else {
            self.messages.push(Message::User(said.to_owned()));
        }
    }

    /// Adds one round of the agent: what it said, what tools it called and what they answered.
    pub(super) fn agent(&mut self, said: String, round: &Round) {
        if said.is_empty() && round.calls.is_empty() {
            return;
        }
        let tool_calls = round.calls.iter().map(|call| call.call.clone()).collect();
        self.messages.push(Message::Assistant { text: said, tool_calls });
        for call in &round.calls {
            let content = call.result.clone().unwrap_or_else(|| NO_RESULT_YET.to_owned());
            self.messages.push(Message::ToolResult {
                call_id: call.call.id.clone(),
                content,
            });
        }
    }

    /// Fills in the answer of a tool that came after its turn was over; returns whether one was missing.
    pub(super) fn late_result(&mut self, id: &str, answer: &str) -> bool {
        for message in self.messages.iter_mut().rev() {
            if let Message::ToolResult { call_id, content } = message
                && call_id == id
                && content == NO_RESULT_YET
            {
                answer.clone_into(content);
                return true;
            }
        }
        false
    }

    /// Everything, system prompt first.
    pub(super) fn into_messages(self, system_prompt: &str) -> Vec<Message> {
        let mut messages = Vec::with_capacity(self.messages.len() + 1);
        if !system_prompt.is_empty() {
            messages.push(Message::System(system_prompt.to_owned()));
        }
        messages.extend(self.messages);
        messages
    }
}
