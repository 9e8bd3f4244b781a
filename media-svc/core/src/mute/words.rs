//! When the words of a piece of text were said.

use std::ops::Range;
use std::time::Duration;

use crate::conversation::Word;

/// By how much a word may end behind the audio it was found in, and still be believed.
const BEYOND_THE_END: Duration = Duration::from_secs(1);

/// From when to when these bytes of the text were said, in an utterance of this length. `None`: the words do not say, be it
/// that they are not those of the text or that their times cannot be right.
pub(super) fn said(text: &str, words: &[Word], bytes: &Range<usize>, length: Duration) -> Option<Range<Duration>> {
    let credible = words
        .iter()
        .all(|word| word.from <= word.to && word.to <= length + BEYOND_THE_END)
        && words.is_sorted_by_key(|word| word.from);
    if !credible {
        return None;
    }
    let places = places(text, words)?;
    let said = words.iter().zip(places);
    said.filter(|(_, place)| place.start < bytes.end && bytes.start < place.end)
        .map(|(word, _)| word.from..word.to)
        .reduce(|all, word| all.start.min(word.start)..all.end.max(word.end))
}

/// Where each word stands in the text. Everything in the text but punctuation must be some word.
fn places(text: &str, words: &[Word]) -> Option<Vec<Range<usize>>> {
    let mut at = 0;
    let mut places = Vec::with_capacity(words.len());
    for word in words {
        let word = word.text.trim_matches(|c: char| !c.is_alphanumeric());
        if word.is_empty() {
            places.push(at..at);
            continue;
        }
        let rest = text.get(at..)?;
        let from = at + rest.find(char::is_alphanumeric)?;
        let to = from + word.len();
        if !text.get(from..to)?.eq_ignore_ascii_case(word) {
            return None;
        }
        places.push(from..to);
        at = to;
    }
    (!text.get(at..)?.contains(char::is_alphanumeric)).then_some(places)
}
