//! One turn of the conversation: from what the caller said to what is said next.

use super::LocalTime;
use super::draft::{Draft, Slot};
use super::facts::Facts;
use super::intents::{Intent, is, matches};
use super::numbers::{spoken_date, spoken_time};
use super::phrases::{Pending, question};
use super::receptionist::{END_CALL_TOOL, TRANSFER_TOOL};
use super::slots;

use super::words::{Word, words};

/// Longest utterance that is an order such as "hold on", rather than a sentence with these words in it.
pub(super) const ORDER_WORDS: usize = 7;

/// Everything known from the conversation so far.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// What the caller is answering.
    pub(super) pending: Pending,
    /// What the caller heard last.
    pub(super) last_said: String,
    /// Who is calling.
    pub(super) name: Slot,
    /// Where they can be reached.
    pub(super) number: Slot,
    /// The message being taken.
    pub(super) draft: Option<Draft>,
    /// Turns in a row that were not understood.
    pub(super) misses: u32,
}

impl State {
    /// What the caller is probably answering when no question was recognised: while a message is being taken, what
    /// is missing from it.
    pub(super) fn pending_unasked(&self) -> Pending {
        if self.draft.is_some() {
            self.next_question()
        } else {
            Pending::Nothing
        }
    }
}

/// What is said next.
#[derive(Debug, Clone)]
pub(super) struct Say {
    pub(super) text: String,
    /// The question it ends with.
    pub(super) pending: Pending,
    /// Tool to call after it.
    pub(super) tool: Option<&'static str>,
}

impl Say {
    /// A statement followed by a question.
    pub(super) fn then_ask(statement: &str, pending: Pending) -> Self {
        let text = [statement, question(pending)].join(" ").trim().to_owned();
        Self {
            text,
            pending,
            tool: None,
        }
    }

    /// A statement after which the caller may say anything.
    pub(super) fn open(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            pending: Pending::Nothing,
            tool: None,
        }
    }
}

/// One turn.
pub(super) struct Turn<'a> {
    pub(super) facts: &'a Facts,
    tools: &'a [&'a str],
    now: LocalTime,
    pub(super) said: &'a str,
    pub(super) words: Vec<Word>,
}

impl<'a> Turn<'a> {
    /// What the caller said, and what is at hand to answer it.
    pub(super) fn new(facts: &'a Facts, tools: &'a [&'a str], now: LocalTime, said: &'a str) -> Self {
        Self {
            facts,
            tools,
            now,
            said: said.trim(),
            words: words(said),
        }
    }

    /// The reply; `state` then knows what it took from the turn.
    pub(super) fn respond(&self, state: &mut State) -> Say {
        if state.pending == Pending::Nothing {
            state.pending = state.pending_unasked();
        }
        let misses = std::mem::take(&mut state.misses);
        match state.pending {
            Pending::Nothing | Pending::AnythingElse | Pending::Offer => self.open(state, misses),
            Pending::Name => self.take_name(state, false),
            Pending::NameAgain => self.take_name(state, true),
            Pending::Number => self.take_number(state, false),
            Pending::NumberAgain => self.take_number(state, true),
            Pending::MoreNumber => self.take_more_number(state),
            Pending::Message => self.take_message(state),
            Pending::Confirm => self.take_confirmation(state),
            Pending::WhichPart => self.take_part(state),
        }
    }

    /// Nothing in particular was asked.
    fn open(&self, state: &mut State, misses: u32) -> Say {
        if self.ends_with_bye() {
            return self.farewell("");
        }
        if self.is(Intent::WhoAreYou) {
            return Say::open(&format!("{} How can I help you?", self.introduction()));
        }
        if self.is(Intent::Message) {
            return self.start_message(state);
        }
        if self.is(Intent::Transfer) {
            return self.transfer(state);
        }
        if let Some(answer) = self.answer() {
            return Say::then_ask(&answer, Pending::AnythingElse);
        }
        if let Some(say) = self.answer_to_question(state) {
            return say;
        }
        self.small_talk(state)
            .unwrap_or_else(|| self.not_understood(state, misses))
    }

    /// Yes or no to "anything else?" and to "a message?".
    fn answer_to_question(&self, state: &mut State) -> Option<Say> {
        if self.is(Intent::Repeat) || self.is(Intent::Wait) {
            return None;
        }
        let done = self.is(Intent::Goodbye);
        let (yes, no) = (self.is(Intent::Yes), self.is(Intent::No) || self.is(Intent::Cancel));
        match state.pending {
            Pending::Offer if done => Some(self.farewell("")),
            Pending::Offer if no => Some(Say::then_ask("All right.", Pending::AnythingElse)),
            Pending::Offer if yes => Some(self.start_message(state)),
            Pending::AnythingElse if done || no => Some(self.farewell("")),
            Pending::AnythingElse if yes && self.words.len() <= ORDER_WORDS => {
                Some(Say::open("What can I do for you?"))
            }
            _ => None,
        }
    }

    fn small_talk(&self, state: &mut State) -> Option<Say> {
        if self.is(Intent::Repeat) {
            return Some(repeat(state));
        }
        if self.is(Intent::Goodbye) {
            return Some(self.farewell(""));
        }
        if self.is(Intent::Wait) {
            return Some(Say {
                text: "Take your time.".to_owned(),
                pending: state.pending,
                tool: None,
            });
        }
        if self.is(Intent::Cancel) {
            return Some(Say::then_ask("All right.", Pending::AnythingElse));
        }
        if self.is(Intent::HowAreYou) {
            return Some(Say::open("I am fine, thank you. How can I help you?"));
        }
        if self.is(Intent::Help) {
            let subjects = self.facts.subjects();
            let text = format!("I can tell you about {subjects}, and I can take a message. What would you like?");
            return Some(Say::open(&text));
        }
        if let Some(name) = slots::name(self.said, &self.words, false) {
            let text = format!("Hello, {name}. How can I help you?");
            state.name = Slot::Given(name);
            return Some(Say::open(&text));
        }
        if self.is(Intent::Thanks) {
            return Some(Say::then_ask("You are welcome.", Pending::AnythingElse));
        }
        if self.is(Intent::Greeting) {
            return Some(Say::open("Hello. How can I help you?"));
        }
        if self.words.len() <= 3 && self.is(Intent::Yes) {
            return Some(Say::open("How can I help you?"));
        }
        (self.words.len() <= 3 && self.is(Intent::No)).then(|| Say::then_ask("All right.", Pending::AnythingElse))
    }

    /// What is in the facts, the time or the date.
    pub(super) fn answer(&self) -> Option<String> {
        if let Some(answer) = self.facts.answer(&self.words, self.now) {
            return Some(answer);
        }
        if self.is(Intent::Time) {
            return Some(format!("It is {}.", spoken_time(self.now.hour, self.now.minute)));
        }
        self.is(Intent::Date)
            .then(|| format!("Today is {}.", spoken_date(self.now.date, self.now.weekday)))
    }

    /// Orders that are understood whatever was asked while a message is being taken; `None` for anything else.
    pub(super) fn order(&self, state: &mut State) -> Option<Say> {
        let short = self.words.len() <= ORDER_WORDS;
        if self.ends_with_bye() {
            return Some(self.hang_up(state));
        }
        if short && self.is(Intent::Cancel) {
            state.draft = None;
            return Some(Say::then_ask(
                "All right, I have dropped the message.",
                Pending::AnythingElse,
            ));
        }
        if short && self.is(Intent::Wait) {
            return Some(Say {
                text: "Take your time.".to_owned(),
                pending: state.pending,
                tool: None,
            });
        }
        if short && self.is(Intent::Repeat) {
            return Some(repeat(state));
        }
        if self.is(Intent::WhoAreYou) {
            return Some(Say::then_ask(&self.introduction(), state.pending));
        }
        self.is(Intent::Transfer).then(|| self.transfer(state))
    }

    fn transfer(&self, state: &mut State) -> Say {
        if self.tools.contains(&TRANSFER_TOOL) {
            state.draft = None;
            let mut say = Say::open("One moment, please. I will put you through.");
            say.tool = Some(TRANSFER_TOOL);
            return say;
        }
        match state.draft {
            Some(_) => state.ask("I am sorry, I cannot put you through, but I will pass your message on to a person."),
            None => Say::then_ask(
                "I am sorry, I cannot put you through to a person from here.",
                Pending::Offer,
            ),
        }
    }

    /// The caller ends the call while a message is being taken.
    pub(super) fn hang_up(&self, state: &mut State) -> Say {
        match state.draft.take() {
            Some(Draft { message: Some(_), .. }) => self.farewell("I will pass your message on."),
            Some(Draft { message: None, .. }) => self.farewell("All right, I have not taken a message."),
            None => self.farewell(""),
        }
    }

    pub(super) fn farewell(&self, statement: &str) -> Say {
        let text = [statement, "Thank you for calling. Goodbye."]
            .join(" ")
            .trim()
            .to_owned();
        let tool = self.tools.contains(&END_CALL_TOOL).then_some(END_CALL_TOOL);
        Say {
            text,
            pending: Pending::Nothing,
            tool,
        }
    }

    fn not_understood(&self, state: &mut State, misses: u32) -> Say {
        state.misses = misses + 1;
        if misses > 0 {
            return Say::then_ask("I am afraid I still do not understand.", Pending::Offer);
        }
        let subjects = self.facts.subjects();
        // Varied by what was said: the same words always get the same answer.
        let text = match self.words.len() % 3 {
            0 => format!("Sorry, I did not understand that. I can tell you about {subjects}, or take a message."),
            1 => format!("I am not sure what you mean. Ask me about {subjects}, or leave a message."),
            _ => format!("That is beyond me, I am afraid. I know about {subjects}, and I can take a message."),
        };
        Say::open(&text)
    }

    fn introduction(&self) -> String {
        format!("I am the automatic receptionist of {}.", self.facts.company())
    }

    pub(super) fn is(&self, intent: Intent) -> bool {
        is(intent, &self.words)
    }

    pub(super) fn ends_with_bye(&self) -> bool {
        matches("bye|goodbye$", &self.words) || matches("good bye$", &self.words)
    }
}

/// What was said last, once more.
pub(super) fn repeat(state: &State) -> Say {
    const LEAD: &str = "Of course. ";
    let last = state.last_said.strip_prefix(LEAD).unwrap_or(&state.last_said);
    Say {
        text: format!("{LEAD}{last}"),
        pending: state.pending,
        tool: None,
    }
}
