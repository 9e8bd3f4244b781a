//! Taking a message: who is calling, where they can be reached, what they have to say, and whether that is correct.

use super::draft::{Draft, Part, Slot};
use super::flow::{ORDER_WORDS, Say, State, Turn};
use super::intents::{Intent, matches};
use super::numbers::{LONGEST_NUMBER, SHORTEST_NUMBER, digit_count};
use super::phrases::Pending;
use super::slots;
use super::words::Word;

/// Longest utterance that corrects something, rather than being dictated.
const CORRECTION_WORDS: usize = 12;
/// Longest utterance in the middle of a dictation that is not part of it.
const INTERJECTION_WORDS: usize = 4;

/// Words of which a plain "yes" is made.
const AFFIRMATIVE: &str = "a absolutely all and be believe bye correct day definitely exactly fine good got goodbye great have i indeed is it \
just lot lovely message mhm much nice ok okay perfect please right so sounds sure thank thanks that the think this very \
was wonderful would yeah yep yes you yup for now today looks thats true";

impl Turn<'_> {
    /// The caller wants to leave a message, and may have said who they are.
    pub(super) fn start_message(&self, state: &mut State) -> Say {
        state.draft = Some(Draft::default());
        // What was not told the last time may be told now.
        if state.name == Slot::Declined {
            state.name = Slot::Empty;
        }
        if let Some(name) = slots::name(self.said, &self.words, false) {
            state.name = Slot::Given(name);
        }
        if let Some(number) = self.complete_number() {
            state.set_number(number);
        }
        state.ask(&format!("Of course{}.", state.by_name()))
    }

    pub(super) fn take_name(&self, state: &mut State, again: bool) -> Say {
        state.draft();
        if let Some(say) = self.order(state) {
            return say;
        }
        let number = self.complete_number();
        let has_number = number.is_some();
        if let Some(number) = number {
            state.set_number(number);
        }
        if let Some(name) = slots::name(self.said, &self.words, true) {
            state.name = Slot::Given(name);
            return state.ask(&format!("Thank you{}.", state.by_name()));
        }
        if let Some(answer) = self.answer() {
            return Say::then_ask(&answer, Pending::Name);
        }
        if self.is(Intent::Decline) {
            state.name = Slot::Declined;
            return state.ask("That is all right.");
        }
        if has_number {
            return state.ask("Thank you.");
        }
        if again {
            state.name = Slot::Declined;
            return state.ask("Let us go on without a name.");
        }
        Say::then_ask("", Pending::NameAgain)
    }

    pub(super) fn take_number(&self, state: &mut State, again: bool) -> Say {
        state.draft();
        if let Some(say) = self.order(state) {
            return say;
        }
        if self.corrects_name(state) {
            return state.ask(&format!("Thank you{}.", state.by_name()));
        }
        if let Some(number) = slots::number(&self.words) {
            let digits = digit_count(&number);
            if digits >= SHORTEST_NUMBER {
                state.set_number(number);
                return state.ask("Thank you.");
            }
            if digits > 1 || slots::is_only_digits(&self.words) {
                state.draft().partial_number = number;
                return state.ask("");
            }
        }
        if matches("i am calling|phoning|ringing from|on", &self.words)
            || matches("this|same number", &self.words)
            || matches("you have|got|see my|the|it number", &self.words)
            || matches("you already have|got it", &self.words)
        {
            state.number = Slot::Calling;
            return state.ask("Good.");
        }
        if let Some(answer) = self.answer() {
            return Say::then_ask(&answer, Pending::Number);
        }
        if self.is(Intent::Decline) {
            state.number = Slot::Declined;
            return state.ask("That is all right.");
        }
        if again {
            state.number = Slot::Declined;
            return state.ask("Let us go on without a number.");
        }
        Say::then_ask("", Pending::NumberAgain)
    }

    pub(super) fn take_more_number(&self, state: &mut State) -> Say {
        if let Some(say) = self.order(state) {
            return say;
        }
        let partial = state.partial_number();
        let Some(more) = slots::number(&self.words) else {
            let done = self.is(Intent::Yes) || self.is(Intent::No) || self.is(Intent::Goodbye);
            if done && !partial.is_empty() {
                state.set_number(partial);
                return state.ask("Thank you.");
            }
            state.forget(Part::Number);
            return Say::then_ask("", Pending::NumberAgain);
        };
        // Some begin again from the first digit.
        let from_the_start = more.starts_with(&partial) && digit_count(&more) >= SHORTEST_NUMBER + 2;
        let number = if from_the_start {
            more
        } else {
            format!("{partial}{more}")
        };
        if digit_count(&number) >= SHORTEST_NUMBER {
            state.set_number(number);
            return state.ask("Thank you.");
        }
        state.draft().partial_number = number;
        state.ask("")
    }

    /// A dictation is taken word for word; only short utterances that are plainly something else are not.
    pub(super) fn take_message(&self, state: &mut State) -> Say {
        let interjection = self.words.len() <= INTERJECTION_WORDS;
        if interjection && self.words.len() <= 3 && self.is(Intent::Goodbye) {
            return self.hang_up(state);
        }
        if self.words.is_empty()
            || interjection && (self.is(Intent::Greeting) || self.words.len() <= 2 && self.is_affirmative())
        {
            return Say::then_ask("I am listening.", Pending::Message);
        }
        let order = [Intent::Cancel, Intent::Wait, Intent::Repeat]
            .iter()
            .any(|&intent| self.is(intent));
        if interjection
            && order
            && let Some(say) = self.order(state)
        {
            return say;
        }
        // More digits after a pause belong to the number.
        if slots::is_only_digits(&self.words)
            && let (Slot::Given(known), Some(more)) = (&state.number, slots::number(&self.words))
            && digit_count(known) + digit_count(&more) <= LONGEST_NUMBER
        {
            let number = format!("{known}{more}");
            state.set_number(number);
            return state.ask("I have added that to the number.");
        }
        if matches("^no|sorry|actually|correction", &self.words) && self.words.len() <= CORRECTION_WORDS {
            if self.corrects_name(state) || self.corrects_number(state) {
                return state.ask("Thank you, I have changed that.");
            }
            if self.is(Intent::Wrong)
                && let Some(part @ (Part::Name | Part::Number)) = self.part()
            {
                state.forget(part);
                return state.ask("All right.");
            }
        }
        state.append_to_message(self.said);
        state.ask("Thank you.")
    }

    pub(super) fn take_confirmation(&self, state: &mut State) -> Say {
        if self.words.is_empty() {
            return Say::then_ask("", Pending::Confirm);
        }
        let short = self.words.len() <= ORDER_WORDS;
        if self.ends_with_bye() && (short || self.is_affirmative()) {
            return self.hang_up(state);
        }
        if short && self.is(Intent::Repeat) {
            return state.ask("Of course.");
        }
        let order = self.is(Intent::Cancel) || self.is(Intent::Wait);
        if self.words.len() <= INTERJECTION_WORDS
            && order
            && let Some(say) = self.order(state)
        {
            return say;
        }
        if let Some(say) = self.correct(state) {
            return say;
        }
        if self.is_affirmative() {
            return self.accept(state);
        }
        let denies = matches("^no|nope|nah", &self.words) && !matches("^no need|rush|hurry|problem", &self.words);
        if denies || short && self.is(Intent::Wrong) {
            return Say::then_ask("", Pending::WhichPart);
        }
        self.add_to_message(state)
    }

    /// A yes with a question after it, or more of the message.
    fn add_to_message(&self, state: &mut State) -> Say {
        let yes = matches("^yes|yeah|yep|correct|right", &self.words);
        if yes
            && self.said.ends_with('?')
            && let Some(answer) = self.answer()
        {
            state.draft = None;
            let text = format!("Thank you, I will pass your message on. {answer}");
            return Say::then_ask(&text, Pending::AnythingElse);
        }
        let leading = if yes { self.leading_yes() } else { 0 };
        let from = self.words.get(leading).map_or(0, |word| word.span.start);
        let more = if yes {
            self.said.get(from..).unwrap_or(self.said)
        } else {
            self.said
        };
        state.append_to_message(more);
        Say::then_ask(&format!("I'll add that. {}", state.read_message()), Pending::Confirm)
    }

    /// How many words "yes, that is right" takes before more follows.
    fn leading_yes(&self) -> usize {
        let plain = |word: &&Word| {
            matches!(
                word.text.as_str(),
                "yes" | "yeah" | "yep" | "okay" | "ok" | "correct" | "right"
            )
        };
        let yes = self.words.iter().take_while(plain).count();
        let rest: Vec<&str> = self
            .words
            .iter()
            .skip(yes)
            .take(3)
            .map(|word| word.text.as_str())
            .collect();
        let confirms = matches!(
            rest.as_slice(),
            ["that" | "it", "is", "correct" | "right" | "fine" | "good" | "it"]
        );
        yes + if confirms { rest.len() } else { 0 }
    }

    fn accept(&self, state: &mut State) -> Say {
        state.draft = None;
        let thanks = format!("Thank you{}. I will pass your message on.", state.by_name());
        if self.ends_with_bye() {
            self.farewell(&thanks)
        } else {
            Say::then_ask(&thanks, Pending::AnythingElse)
        }
    }

    pub(super) fn take_part(&self, state: &mut State) -> Say {
        if let Some(say) = self.correct(state) {
            return say;
        }
        if let Some(part) = self.part() {
            state.forget(part);
            return state.ask("All right.");
        }
        if matches("everything|all|both|start", &self.words) {
            state.forget(Part::Name);
            state.forget(Part::Number);
            state.forget(Part::Message);
            return state.ask("All right, let us start again.");
        }
        if let Some(say) = self.order(state) {
            return say;
        }
        if let Some(number) = self.complete_number() {
            state.set_number(number);
            return state.ask("Thank you.");
        }
        if self.is(Intent::No) || self.is_affirmative() {
            return self.accept(state);
        }
        if let Some(name) = slots::name(self.said, &self.words, true) {
            state.name = Slot::Given(name);
            return state.ask("Thank you.");
        }
        Say::then_ask("Sorry, I did not understand.", Pending::WhichPart)
    }

    /// A correction of what was read back: with the right words, or only of a part that is wrong.
    fn correct(&self, state: &mut State) -> Option<Say> {
        if let Some(message) = self.new_message() {
            state.draft().message = Some(message);
            return Some(state.ask("Thank you, I have changed that."));
        }
        if self.words.len() > CORRECTION_WORDS {
            return None;
        }
        let (name, number) = (self.corrects_name(state), self.corrects_number(state));
        if name || number {
            return Some(state.ask("Thank you, I have changed that."));
        }
        let wrong = self.is(Intent::Wrong) || matches("^no|nope|not", &self.words);
        let part = self.part().filter(|_| wrong)?;
        state.forget(part);
        Some(state.ask("All right."))
    }

    fn corrects_name(&self, state: &mut State) -> bool {
        // "My wife's name is Carol" is no correction.
        let own = matches("^name", &self.words)
            || self.words.windows(2).any(|pair| match pair {
                [before, name] => {
                    name.text == "name"
                        && matches!(
                            before.text.as_str(),
                            "my" | "the" | "no" | "first" | "last" | "correct" | "right"
                        )
                }
                _ => false,
            });
        let name = if own {
            slots::name(self.said, &self.words, false)
        } else {
            None
        };
        let found = name.is_some();
        if let Some(name) = name {
            state.name = Slot::Given(name);
        }
        found
    }

    fn corrects_number(&self, state: &mut State) -> bool {
        let announced = matches("number|phone", &self.words)
            || matches("^no|nope|not|actually|sorry|it", &self.words)
            || slots::is_only_digits(&self.words);
        let number = if announced { self.complete_number() } else { None };
        let found = number.is_some();
        if let Some(number) = number {
            state.set_number(number);
        }
        found
    }

    /// "The message should be …": what follows, word for word.
    fn new_message(&self) -> Option<String> {
        const CUES: [&[&str]; 4] = [
            &["message", "is"],
            &["message", "should", "be"],
            &["message", "should", "say"],
            &["message", "should", "read"],
        ];
        let after = self.words.iter().enumerate().find_map(|(at, _)| {
            let rest = self.words.get(at..)?;
            let cue = CUES.iter().find(|cue| {
                rest.iter()
                    .map(|word| word.text.as_str())
                    .take(cue.len())
                    .eq(cue.iter().copied())
            })?;
            rest.get(cue.len()..)
        })?;
        let first = after.first()?;
        let judged = [
            "wrong",
            "not",
            "incorrect",
            "correct",
            "right",
            "fine",
            "good",
            "okay",
            "ok",
            "perfect",
        ];
        if judged.contains(&first.text.as_str()) {
            return None;
        }
        self.said.get(first.span.start..).map(str::to_owned)
    }

    fn part(&self) -> Option<Part> {
        self.words.iter().find_map(|word| match word.text.as_str() {
            "name" => Some(Part::Name),
            "number" | "phone" => Some(Part::Number),
            "message" | "text" => Some(Part::Message),
            _ => None,
        })
    }

    fn complete_number(&self) -> Option<String> {
        slots::number(&self.words).filter(|number| digit_count(number) >= SHORTEST_NUMBER)
    }

    /// Whether all that was said is "yes", "that's right, thank you" or the like.
    fn is_affirmative(&self) -> bool {
        (self.is(Intent::Yes) || self.is(Intent::Thanks) || self.is(Intent::Goodbye))
            && self.words.iter().all(|word| is_affirmative(&word.text))
    }
}

fn is_affirmative(word: &str) -> bool {
    AFFIRMATIVE.split_whitespace().any(|other| other == word)
}
