//! Takes what must not be kept out of a transcript: card numbers, phone numbers, e-mail addresses, and what the
//! operator's own patterns match.
//!
//! Numbers are found as recognisers write them: in digits or in English words (`four one one one`, `double five`,
//! `forty-one eleven`), grouped in any way, with hesitations in between. Where it is not certain what a number is, it
//! goes: a transcript that lost an order number is repaired by asking, one that kept a card number is not.
//!
//! Each text is looked at alone: a number that is said in two turns is two short numbers.

mod digits;
mod email;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;

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
        let mut spans = self.find(text);
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        spans.sort_by_key(|span| (span.from, span.to));
        let mut redacted = String::with_capacity(text.len());
        let mut copied = 0;
        for span in merged(spans) {
            redacted.push_str(text.get(copied..span.from).unwrap_or_default());
            redacted.push_str(span.kind.map_or(PATTERN_MARK, Kind::mark));
            copied = span.to;
        }
        redacted.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(redacted)
    }

    /// The bytes of a text that [`Self::redact`] replaces, in order and apart from each other.
    pub fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = self.find(text);
        spans.sort_by_key(|span| (span.from, span.to));
        merged(spans).into_iter().map(|span| span.from..span.to).collect()
    }

    fn find(&self, text: &str) -> Vec<Span> {
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
