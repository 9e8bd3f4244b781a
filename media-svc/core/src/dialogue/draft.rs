//! A message being taken: what is known of it, what it still needs, and how it is read back.

use super::flow::{Say, State};
use super::numbers::spoken_digits;
use super::phrases::Pending;

/// Something a message needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Slot {
    /// Not asked yet, or to be asked again.
    #[default]
    Empty,
    /// As the caller said it.
    Given(String),
    /// The number the caller is calling from.
    Calling,
    /// The caller would not say.
    Declined,
}

/// A message being taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Draft {
    /// The beginning of a telephone number.
    pub(super) partial_number: String,
    /// Word for word.
    pub(super) message: Option<String>,
}

/// What can be corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Name,
    Number,
    Message,
}

impl State {
    /// What a message still needs; when nothing, its confirmation.
    pub(super) fn next_question(&self) -> Pending {
        let draft = self.draft.clone().unwrap_or_default();
        if self.name == Slot::Empty {
            Pending::Name
        } else if self.number == Slot::Empty {
            if draft.partial_number.is_empty() {
                Pending::Number
            } else {
                Pending::MoreNumber
            }
        } else if draft.message.is_none() {
            Pending::Message
        } else {
            Pending::Confirm
        }
    }

    /// A statement and the next question.
    pub(super) fn ask(&self, statement: &str) -> Say {
        let pending = self.next_question();
        let statement = match pending {
            Pending::Confirm => format!("{statement} {}", self.read_back()),
            Pending::MoreNumber => format!("{statement} I have {} so far.", spoken_digits(&self.partial_number())),
            _ => statement.to_owned(),
        };
        Say::then_ask(statement.trim(), pending)
    }

    pub(super) fn read_back(&self) -> String {
        let mut text = String::from("Let me read that back.");
        if let Slot::Given(name) = &self.name {
            text.push_str(&format!(" The message is from {name}."));
        }
        match &self.number {
            Slot::Given(number) => text.push_str(&format!(" The number is {}.", spoken_digits(number))),
            Slot::Calling => text.push_str(" The number is the one you are calling from."),
            Slot::Empty | Slot::Declined => {}
        }
        format!("{text} {}", self.read_message())
    }

    pub(super) fn read_message(&self) -> String {
        let message = self
            .draft
            .as_ref()
            .and_then(|draft| draft.message.as_deref())
            .unwrap_or_default();
        let end = if message.ends_with(['.', '!', '?']) { "" } else { "." };
        format!("The message is: {message}{end}")
    }

    pub(super) fn partial_number(&self) -> String {
        self.draft
            .as_ref()
            .map(|draft| draft.partial_number.clone())
            .unwrap_or_default()
    }

    pub(super) fn draft(&mut self) -> &mut Draft {
        self.draft.get_or_insert_default()
    }

    pub(super) fn set_number(&mut self, number: String) {
        self.number = Slot::Given(number);
        self.draft().partial_number.clear();
    }

    pub(super) fn append_to_message(&mut self, more: &str) {
        let message = self.draft().message.get_or_insert_default();
        if !message.is_empty() {
            message.push(' ');
        }
        message.push_str(more);
    }

    pub(super) fn forget(&mut self, part: Part) {
        match part {
            Part::Name => self.name = Slot::Empty,
            Part::Number => {
                self.number = Slot::Empty;
                self.draft().partial_number.clear();
            }
            Part::Message => self.draft().message = None,
        }
    }

    /// ", Anna" when the name is known.
    pub(super) fn by_name(&self) -> String {
        match &self.name {
            Slot::Given(name) => format!(", {name}"),
            Slot::Empty | Slot::Calling | Slot::Declined => String::new(),
        }
    }
}
