//! Recognised speech as words that can be compared: lower case, no punctuation, contractions written out.

use std::ops::Range;

/// Sounds that mean nothing.
const FILLERS: [&str; 11] = ["um", "uh", "uhm", "er", "erm", "hm", "hmm", "mm", "ah", "eh", "huh"];

/// Contractions as recognisers write them without the apostrophe.
const UNMARKED: [(&str, &str, &str); 18] = [
    ("whats", "what", "is"),
    ("thats", "that", "is"),
    ("wheres", "where", "is"),
    ("whos", "who", "is"),
    ("hows", "how", "is"),
    ("im", "i", "am"),
    ("ive", "i", "have"),
    ("dont", "do", "not"),
    ("doesnt", "does", "not"),
    ("didnt", "did", "not"),
    ("isnt", "is", "not"),
    ("cant", "can", "not"),
    ("cannot", "can", "not"),
    ("wont", "will", "not"),
    ("couldnt", "could", "not"),
    ("youre", "you", "are"),
    ("wanna", "want", "to"),
    ("gimme", "give", "me"),
];

/// Words whose `'s` is "is" rather than a possessive.
const BEFORE_IS: [&str; 16] = [
    "what", "that", "it", "name", "number", "message", "who", "where", "when", "how", "there", "here", "he", "she",
    "this", "today",
];

/// One word and where it stands in what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Lower case, letters and digits only, with inner apostrophes of names and a leading plus of numbers.
    pub(super) text: String,
    /// Bytes of the original, without surrounding punctuation.
    pub(super) span: Range<usize>,
    /// Whether punctuation follows: the end of a clause.
    pub(super) ends_clause: bool,
}

/// Splits what was said into words, without fillers.
pub(super) fn words(said: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut token_start = None;
    // A sentinel space ends the last token.
    for (at, c) in said.char_indices().chain([(said.len(), ' ')]) {
        let inside = !c.is_whitespace() && !matches!(c, '-' | '–' | '—' | '/');
        match (token_start, inside) {
            (None, true) => token_start = Some(at),
            (Some(start), false) => {
                push_token(said, start..at, &mut found);
                token_start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    found
}

/// The words alone, for comparing texts.
pub(super) fn texts(said: &str) -> Vec<String> {
    words(said).into_iter().map(|word| word.text).collect()
}

fn push_token(said: &str, range: Range<usize>, found: &mut Vec<Word>) {
    let token = said.get(range.clone()).unwrap_or_default();
    let is_part = |c: char| c.is_alphanumeric() || c == '+';
    let Some(first) = token.find(is_part) else {
        mark_clause_end(token, found);
        return;
    };
    let core = token
        .get(first..)
        .unwrap_or_default()
        .trim_end_matches(|c: char| !c.is_alphanumeric());
    let span = range.start + first..range.start + first + core.len();
    let after = token.get(first + core.len()..).unwrap_or_default();
    let ends_clause = after.contains([',', '.', '!', '?', ';', ':', '…']);
    let lower: String = core
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            '’' | '‘' | '\'' => Some('\''),
            c if is_part(c) => Some(c),
            _ => None,
        })
        .collect();
    if lower.is_empty() || FILLERS.contains(&lower.as_str()) {
        mark_clause_end(after, found);
        return;
    }
    let (head, tail) = expand(&lower);
    let has_tail = tail.is_some();
    found.push(Word {
        text: head,
        span: span.clone(),
        ends_clause: ends_clause && !has_tail,
    });
    if let Some(tail) = tail {
        found.push(Word {
            text: tail.to_owned(),
            span,
            ends_clause,
        });
    }
}

fn mark_clause_end(punctuation: &str, found: &mut [Word]) {
    if let Some(last) = found.last_mut()
        && punctuation.contains([',', '.', '!', '?', ';', ':', '…'])
    {
        last.ends_clause = true;
    }
}

fn expand(word: &str) -> (String, Option<&'static str>) {
    if let Some((_, head, tail)) = UNMARKED.iter().find(|(short, ..)| *short == word) {
        return ((*head).to_owned(), Some(tail));
    }
    let Some((head, suffix)) = word.rsplit_once('\'') else {
        return (word.to_owned(), None);
    };
    match suffix {
        "s" if BEFORE_IS.contains(&head) => (head.to_owned(), Some("is")),
        // A possessive.
        "s" | "" => (head.to_owned(), None),
        "m" => (head.to_owned(), Some("am")),
        "d" => (head.to_owned(), Some("would")),
        "ll" => (head.to_owned(), Some("will")),
        "re" => (head.to_owned(), Some("are")),
        "ve" => (head.to_owned(), Some("have")),
        "t" => match head {
            "can" => ("can".to_owned(), Some("not")),
            "won" => ("will".to_owned(), Some("not")),
            _ => (head.strip_suffix('n').unwrap_or(head).to_owned(), Some("not")),
        },
        _ => (word.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_compared_without_case_punctuation_fillers_and_contractions() {
        for (said, expected) in [
            ("What's your ADDRESS?", "what is your address"),
            (
                "um, I'd like to, uh, leave a message.",
                "i would like to leave a message",
            ),
            ("I can't, won't and don't", "i can not will not and do not"),
            ("It’s twenty-three", "it is twenty three"),
            ("Anna's number's 555-1234", "anna number is 555 1234"),
            ("O'Brien, A-N-N", "o'brien a n n"),
            ("  ... +44 20!", "+44 20"),
            ("im done thats all", "i am done that is all"),
            ("a + b", "a b"),
            ("", ""),
        ] {
            assert_eq!(texts(said).join(" "), expected, "{said}");
        }
    }

    #[test]
    fn a_word_knows_where_it_stood_and_whether_a_clause_ended() {
        let words = words("Hi, I'm José .");
        let clause_ends: Vec<bool> = words.iter().map(|word| word.ends_clause).collect();
        assert_eq!(clause_ends, [true, false, false, true]);
        assert_eq!(&"Hi, I'm José ."[words[3].span.clone()], "José");
    }

    proptest! {
        #[test]
        fn any_text_has_words_within_it(said in "\\PC{0,60}") {
            for word in words(&said) {
                prop_assert!(said.get(word.span).is_some());
                prop_assert!(!word.text.is_empty());
            }
        }
    }
}
