//! The `local` language model: a deterministic receptionist.
//!
//! It greets, takes a name, a number and a message, answers what is in a short facts file, tells the time and the date,
//! repeats, corrects, hands over to a person, says goodbye, and says so when it does not understand. It keeps no state:
//! everything follows from the messages of the conversation, so any server can answer any turn.

mod draft;
mod facts;
mod flow;
mod intents;
mod numbers;
mod phrases;
mod receptionist;
mod slots;
mod taking;
mod words;

pub use facts::{Facts, FactsError};
pub use receptionist::{END_CALL_TOOL, Receptionist, TRANSFER_TOOL};

use crate::conversation::ToolCall;

/// What the receptionist says first.
pub const GREETING: &str = "Hello, this is the Voxray front desk. How can I help you?";

/// The time of day where the company is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalTime {
    /// Date.
    pub date: time::Date,
    /// Day of the week of that date.
    pub weekday: time::Weekday,
    /// 0–23.
    pub hour: u8,
    /// 0–59.
    pub minute: u8,
}

impl From<time::OffsetDateTime> for LocalTime {
    fn from(now: time::OffsetDateTime) -> Self {
        Self {
            date: now.date(),
            weekday: now.weekday(),
            hour: now.hour(),
            minute: now.minute(),
        }
    }
}

/// One piece of a reply, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyPart {
    /// Say this.
    Text(String),
    /// Run this tool.
    ToolCall(ToolCall),
}

#[cfg(test)]
mod tests;
