//! A receptionist's reply, from the messages of a conversation.

use super::facts::Facts;
use super::flow::{Say, State, Turn};
use super::phrases::{Pending, asked, is_cut_from, question};
use super::{GREETING, LocalTime, ReplyPart};
use crate::conversation::{Message, ToolCall};

/// Tool that the receptionist calls to end the call after its farewell, when it is offered.
pub const END_CALL_TOOL: &str = "end_call";
/// Tool that the receptionist calls to hand over to a person, when it is offered.
pub const TRANSFER_TOOL: &str = "transfer_call";

/// Words in a tool's answer by which it has failed.
const FAILURES: [&str; 8] = [
    "error",
    "fail",
    "refused",
    "unable",
    "could not",
    "cannot",
    "timeout",
    "timed out",
];

/// A deterministic front desk. It has no state: the same messages always get the same reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Receptionist {
    facts: Facts,
}

impl Receptionist {
    /// A receptionist who knows these facts.
    pub fn new(facts: Facts) -> Self {
        Self { facts }
    }

    /// The reply to a conversation so far.
    ///
    /// `tools` are the names of the tools on offer; of these, [`END_CALL_TOOL`] and [`TRANSFER_TOOL`] are used. `now`
    /// is only asked for the time, the date and opening hours. Assistant messages may hold less than what was said,
    /// as after a barge-in. The reply is empty when nothing is left to say, as after an `end_call` has been answered.
    pub fn reply(&self, messages: &[Message], tools: &[&str], now: LocalTime) -> Vec<ReplyPart> {
        if let Some(Message::ToolResult { call_id, content }) = messages.last() {
            return after_tool(messages, call_id, content);
        }
        let mut history = History::new(messages);
        let mut state = State::default();
        let mut say = Say {
            text: GREETING.to_owned(),
            pending: Pending::Nothing,
            tool: None,
        };
        for exchange in &mut history.exchanges {
            exchange.apply_to(&mut state, &say);
            say = Turn::new(&self.facts, tools, now, &exchange.said).respond(&mut state);
        }
        parts(say, messages.len())
    }
}

/// What the agent was heard to say and what the caller then said. A reply of which nothing was heard leaves two
/// messages of the caller in a row: together they are one.
#[derive(Debug, Default)]
struct Exchange {
    heard: Vec<String>,
    said: String,
}

impl Exchange {
    /// Finds out which question the caller answers, given what would have been said.
    fn apply_to(&self, state: &mut State, intended: &Say) {
        for heard in &self.heard {
            if is_cut_from(heard, &intended.text) {
                state.pending = intended.pending;
                state.last_said = intended.text.clone();
            } else {
                // Said by someone else, or at another time of day: known by its question, if it has one.
                state.pending = asked(heard).unwrap_or(state.pending_unasked());
                state.last_said = heard.clone();
            }
        }
        if self.heard.is_empty() {
            state.pending = Pending::Nothing;
        }
    }
}

struct History {
    exchanges: Vec<Exchange>,
}

impl History {
    fn new(messages: &[Message]) -> Self {
        let mut exchanges = Vec::new();
        let mut current = Exchange::default();
        for message in messages {
            match message {
                Message::System(_) | Message::ToolResult { .. } => {}
                Message::Assistant { text, .. } => {
                    if text.trim().is_empty() {
                        continue;
                    }
                    if !current.said.is_empty() {
                        exchanges.push(std::mem::take(&mut current));
                    }
                    current.heard.push(text.clone());
                }
                Message::User(text) => {
                    if !current.said.is_empty() {
                        current.said.push(' ');
                    }
                    current.said.push_str(text.trim());
                }
            }
        }
        // A reply is asked for although the caller has said nothing new: to the same words, as at first.
        if !current.said.is_empty() {
            exchanges.push(current);
        }
        Self { exchanges }
    }
}

fn parts(say: Say, unique: usize) -> Vec<ReplyPart> {
    let mut parts = vec![ReplyPart::Text(say.text)];
    if let Some(tool) = say.tool {
        let call = ToolCall {
            id: format!("call_{unique}"),
            name: tool.to_owned(),
            arguments: "{}".to_owned(),
        };
        parts.push(ReplyPart::ToolCall(call));
    }
    parts
}

/// A tool has answered: a call that was ended or handed over needs no more words, a failed transfer does.
fn after_tool(messages: &[Message], call_id: &str, content: &str) -> Vec<ReplyPart> {
    let was_transfer = messages.iter().rev().any(|message| match message {
        Message::Assistant { tool_calls, .. } => tool_calls
            .iter()
            .any(|call| call.id == call_id && call.name == TRANSFER_TOOL),
        Message::System(_) | Message::User(_) | Message::ToolResult { .. } => false,
    });
    let content = content.to_lowercase();
    if was_transfer && FAILURES.iter().any(|word| content.contains(word)) {
        let text = format!("I am sorry, I could not put you through. {}", question(Pending::Offer));
        vec![ReplyPart::Text(text)]
    } else {
        Vec::new()
    }
}
