//! Whole conversations, as recognisers write them.

mod answers;
mod interruptions;
mod messages;

use super::*;
use crate::conversation::Message;

/// A conversation in which everything the agent says is heard.
struct Talk {
    receptionist: Receptionist,
    messages: Vec<Message>,
    tools: Vec<&'static str>,
    /// Tool called by the last reply.
    called: Option<String>,
}

impl Talk {
    fn new() -> Self {
        let greeting = Message::Assistant {
            text: GREETING.to_owned(),
            tool_calls: Vec::new(),
        };
        Self {
            receptionist: Receptionist::new(Facts::built_in()),
            messages: vec![Message::System("You are a receptionist.".to_owned()), greeting],
            tools: vec![END_CALL_TOOL, TRANSFER_TOOL],
            called: None,
        }
    }

    fn without_tools() -> Self {
        Self {
            tools: Vec::new(),
            ..Self::new()
        }
    }

    /// The caller says something and hears all of the answer.
    fn say(&mut self, said: &str) -> String {
        let text = self.reply_to(said);
        self.hear(&text);
        text
    }

    /// The caller says something; nothing of the answer is heard yet.
    fn reply_to(&mut self, said: &str) -> String {
        self.messages.push(Message::User(said.to_owned()));
        self.reply()
    }

    fn reply(&mut self) -> String {
        let mut text = String::new();
        self.called = None;
        for part in self.receptionist.reply(&self.messages, &self.tools, thursday_morning()) {
            match part {
                ReplyPart::Text(more) => text.push_str(&more),
                ReplyPart::ToolCall(call) => self.called = Some(call.name),
            }
        }
        text
    }

    /// The caller hears this much.
    fn hear(&mut self, text: &str) {
        self.messages.push(Message::Assistant {
            text: text.to_owned(),
            tool_calls: Vec::new(),
        });
    }

    /// Says each line and checks that the answer contains what is next to it.
    #[track_caller]
    fn script(&mut self, lines: &[(&str, &str)]) {
        for (said, expected) in lines {
            let answer = self.say(said);
            assert!(
                answer.contains(expected),
                "{said:?} got {answer:?}, expected {expected:?}"
            );
        }
    }
}

fn thursday_morning() -> LocalTime {
    let date = time::Date::from_calendar_date(2026, time::Month::March, 5).unwrap();
    LocalTime {
        date,
        weekday: date.weekday(),
        hour: 9,
        minute: 5,
    }
}
