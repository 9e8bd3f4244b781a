//! Takes what must not be kept out of a transcript: card numbers, phone numbers, e-mail addresses, and what the
//! operator's own patterns match.
//!
//! Numbers are found as recognisers write them: in digits of any script or in English words (`four one one one`, `double five`,
//! `forty-one eleven`), grouped in any way, with hesitations in between. Where it is not certain what a number is, it
//! goes: a transcript that lost an order number is repaired by asking, one that kept a card number is not.
//!
//! Each text is looked at alone: a number that is said in two turns is two short numbers. Only a card number is recognised
//! in the turn that completes it ([`Unfinished`]); what of it was said before that is gone by then.

mod decimal;
mod digits;
mod email;
#[cfg(test)]
mod tests;
mod unfinished;

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;

pub use unfinished::Unfinished;

/// What is taken out. Of things that overlap, the first of this list gives the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Payment cards: 13 to 19 digits whose check digit fits (ISO/IEC 7812-1, Luhn).
    Card,
    /// E-mail addresses, written or spoken (`ada at example dot com`).
    Email,
    /// Phone numbers: seven and more digits in a row (ITU-T E.164 has at most 15; longer ones are no words either).
    Phone,
}

impl Kind {
    fn mark(self) -> &'static str {
        match self {
            Self::Card => "[card]",
            Self::Email => "[email]",
            Self::Phone => "[phone]",
        }
    }
}

/// What stands for a match of a configured pattern.
const PATTERN_MARK: &str = "[redacted]";

/// Removes from texts what it is told to.
#[derive(Debug, Clone)]
pub struct Redactor {
    kinds: Vec<Kind>,
    patterns: Vec<Regex>,
}

/// Bytes of a text that go, and who said so (`None`: a pattern; it gives the name last).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: usize,
    to: usize,
    kind: Option<Kind>,
}

impl Redactor {
    /// `None` when there is nothing to look for.
    pub fn new(kinds: Vec<Kind>, patterns: Vec<Regex>) -> Option<Self> {
        (!kinds.is_empty() || !patterns.is_empty()).then_some(Self { kinds, patterns })
    }

    /// The text with marks like `[card]` in place of what was found. Doing it again changes nothing, unless a configured
    /// pattern matches the marks.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.find(text).taken_out_of(text)
    }

    /// What of a text goes.
    pub fn find(&self, text: &str) -> Found {
        Found::new(self.look_for_all(text))
    }

    /// What of a caller's next turn goes: also the end of a card number that an earlier one began.
    pub fn find_in_turn(&self, unfinished: &mut Unfinished, text: &str) -> Found {
        let mut spans = self.look_for_all(text);
        if self.kinds.contains(&Kind::Card) {
            let kind = Some(Kind::Card);
            let ends = unfinished.go_on(text).into_iter();
            spans.extend(ends.map(|(from, to)| Span { from, to, kind }));
        }
        Found::new(spans)
    }

    /// What goes of the beginning of a text that was cut off there: also what only the whole shows to be something.
    pub fn find_in_beginning(&self, whole: &str, beginning: &str) -> Found {
        let mut spans = self.look_for_all(beginning);
        if whole.starts_with(beginning) {
            let end = beginning.len();
            let cut = self.look_for_all(whole).into_iter().filter(|span| span.from < end);
            spans.extend(cut.map(|span| Span {
                to: span.to.min(end),
                ..span
            }));
        }
        Found::new(spans)
    }

    fn look_for_all(&self, text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        for kind in &self.kinds {
            let found = match kind {
                Kind::Card => digits::cards(text),
                Kind::Email => email::find(text),
                Kind::Phone => digits::phones(text),
            };
            let kind = Some(*kind);
            spans.extend(found.into_iter().map(|(from, to)| Span { from, to, kind }));
        }
        for pattern in &self.patterns {
            let matches = pattern.find_iter(text).filter(|found| !found.is_empty());
            spans.extend(matches.map(|found| Span {
                from: found.start(),
                to: found.end(),
                kind: None,
            }));
        }
        spans
    }
}

/// What of a text goes, in order and apart from each other.
#[derive(Debug)]
pub struct Found(Vec<Span>);

impl Found {
    fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_by_key(|span| (span.from, span.to));
        Self(merged(spans))
    }

    /// The bytes of the text it was found in.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        self.0.iter().map(|span| span.from..span.to).collect()
    }

    /// The text it was found in, with a mark in place of each.
    pub fn taken_out_of<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.0.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut redacted = String::with_capacity(text.len());
        let mut copied = 0;
        for span in &self.0 {
            redacted.push_str(text.get(copied..span.from).unwrap_or_default());
            redacted.push_str(span.kind.map_or(PATTERN_MARK, Kind::mark));
            copied = span.to;
        }
        redacted.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(redacted)
    }
}

/// Joins spans that overlap; they come in order.
fn merged(spans: Vec<Span>) -> Vec<Span> {
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.from < last.to => {
                last.to = last.to.max(span.to);
                last.kind = last.kind.into_iter().chain(span.kind).min();
            }
            Some(_) | None => merged.push(span),
        }
    }
    merged
}
