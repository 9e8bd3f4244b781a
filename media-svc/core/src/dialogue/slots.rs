//! Names and telephone numbers out of what a caller said.

use super::numbers::{LONGEST_NUMBER, SHORTEST_NUMBER, digit_count, digit_runs, is_number_word};
use super::words::Word;

/// Longest name, in words.
const LONGEST_NAME: usize = 5;

/// Words that announce a name, wherever they are said.
const CUES: [&[&str]; 6] = [
    &["name", "is"],
    &["name", "was"],
    &["name", "should", "be"],
    &["i", "am", "called"],
    &["this", "is"],
    &["spelled"],
];
/// Words that announce a name only in answer to the question for one.
const ASKED_CUES: [&[&str]; 4] = [&["it", "is"], &["i", "am"], &["that", "is"], &["call", "me"]];
/// What follows a name that came first: "Anna Smith speaking".
const SUFFIXES: [&str; 3] = ["speaking", "here", "calling"];
/// Words that do not belong to a name: they end it, or show that there was none.
const NOT_NAMES: &str = "a about actually after again all also am an and any anything are as ask asking at back be because been before but \
by bye call called caller calling can certainly change check correct could course deal did do does done exactly fine \
for from front get give go going good goodbye great had has have he hear hello help her here hey hi him his how i if \
important in incorrect is it its just know later leave let like live looking maybe me message mind mine mistake mobile \
moment my name need never next nice no nobody none nope not nothing now number of off ok okay on one only or our out \
perhaps phone please pleased problem quick quickly quite rather really reason regarding reply right said say second see \
send she should so somebody someone something sorry speak speaking still such sure talk tell thank thanks that the their \
them then there they thing think this time to today tomorrow too trying up urgent us very wait want wanted was we well \
were what when where which who why wish with wondering would wrong yeah yep yes you your yourself";

/// The name in what was said. `asked`: it answers the question for a name, so a bare name will do.
pub(super) fn name(said: &str, words: &[Word], asked: bool) -> Option<String> {
    let cues: &[&[&[&str]]] = if asked { &[&CUES, &ASKED_CUES] } else { &[&CUES] };
    // The last cue counts: callers correct themselves.
    let after_cue = (0..words.len()).rev().find_map(|at| {
        let rest = words.get(at..)?;
        let cue = cues
            .iter()
            .flat_map(|group| group.iter())
            .find(|cue| starts_with(rest, cue))?;
        read_name(said, rest.get(cue.len()..)?)
    });
    after_cue
        .or_else(|| before_suffix(said, words))
        .or_else(|| if asked { bare_name(said, words) } else { None })
}

/// The telephone number in what was said, complete or only begun.
pub(super) fn number(words: &[Word]) -> Option<String> {
    let runs = digit_runs(words);
    let complete = |run: &&String| (SHORTEST_NUMBER..=LONGEST_NUMBER).contains(&digit_count(run));
    let has_area = words.iter().any(|word| word.text == "area");
    let whole = runs.concat();
    // The last complete number counts: callers correct themselves. Otherwise all digits are parts of one number.
    match runs.iter().rev().find(complete) {
        Some(run) if !has_area => Some(run.clone()),
        _ => (!whole.is_empty() && digit_count(&whole) <= LONGEST_NUMBER).then_some(whole),
    }
}

/// Whether only digits were said.
pub(super) fn is_only_digits(words: &[Word]) -> bool {
    !words.is_empty()
        && words.iter().all(|word| {
            is_number_word(&word.text)
                || matches!(word.text.as_str(), "oh" | "o" | "and" | "then" | "double" | "triple")
        })
        && !digit_runs(words).is_empty()
}

fn starts_with(words: &[Word], cue: &[&str]) -> bool {
    words.len() >= cue.len() && words.iter().zip(cue).all(|(word, cue)| word.text == *cue)
}

/// A name that begins here.
fn read_name(said: &str, words: &[Word]) -> Option<String> {
    let (mut name, mut letters) = (Vec::new(), String::new());
    let mut clause_ended = false;
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        if let Some(letter) = spelled_letter(word, rest.peek().copied(), !letters.is_empty()) {
            letters.push(letter);
            continue;
        }
        // After a comma only the spelling still belongs to the name.
        if !letters.is_empty() || clause_ended || !is_name_like(word) || name.len() == LONGEST_NAME {
            break;
        }
        name.push(word);
        clause_ended = word.ends_clause;
    }
    if letters.chars().count() < 2 {
        return join_name(said, &name);
    }
    let spelled = capitalised(&letters);
    let Some((last, first_names)) = name.split_last() else {
        return Some(spelled);
    };
    // A spelling corrects the word it begins like.
    if last.text.chars().next() != letters.chars().next() {
        return join_name(said, &name);
    }
    Some(join_name(said, first_names).map_or(spelled.clone(), |first| format!("{first} {spelled}")))
}

fn before_suffix(said: &str, words: &[Word]) -> Option<String> {
    let end = words.iter().position(|word| SUFFIXES.contains(&word.text.as_str()))?;
    let before = words.get(..end)?;
    let begin = before
        .iter()
        .rposition(|word| !is_name_like(word))
        .map_or(0, |at| at + 1);
    let name: Vec<&Word> = before.get(begin..)?.iter().collect();
    if name.len() > LONGEST_NAME {
        None
    } else {
        join_name(said, &name)
    }
}

/// An answer that is nothing but a name, perhaps after a "yes" and before another clause.
fn bare_name(said: &str, words: &[Word]) -> Option<String> {
    const OPENERS: [&str; 14] = [
        "yes",
        "yeah",
        "sure",
        "okay",
        "ok",
        "hello",
        "hi",
        "of",
        "course",
        "well",
        "oh",
        "so",
        "certainly",
        "sorry",
    ];
    let begin = words.iter().position(|word| !OPENERS.contains(&word.text.as_str()))?;
    let answer = words.get(begin..)?;
    let clause = answer
        .iter()
        .position(|word| word.ends_clause)
        .map_or(answer.len(), |at| at + 1);
    let clause = answer.get(..clause)?;
    let is_spelled = clause.len() >= 2 && clause.iter().all(|word| word.text.chars().count() == 1);
    let is_name = clause.len() <= LONGEST_NAME && clause.iter().all(is_name_like);
    let polite = |word: &Word| matches!(word.text.as_str(), "please" | "thanks" | "here" | "speaking");
    let before_polite = clause.iter().position(polite).unwrap_or(clause.len());
    let is_polite =
        before_polite > 0 && before_polite <= LONGEST_NAME && clause.get(..before_polite)?.iter().all(is_name_like);
    if is_name || is_spelled || is_polite {
        read_name(said, answer)
    } else {
        None
    }
}

fn is_name_like(word: &Word) -> bool {
    !NOT_NAMES.split_whitespace().any(|other| other == word.text)
        && !is_number_word(&word.text)
        && word.text.chars().next().is_some_and(char::is_alphabetic)
}

/// One letter of a spelling: a lone letter with more of them around it.
fn spelled_letter(word: &Word, next: Option<&Word>, within: bool) -> Option<char> {
    let lone = |word: &Word| {
        let mut chars = word.text.chars();
        chars.next().filter(|c| c.is_alphabetic() && chars.next().is_none())
    };
    let letter = lone(word)?;
    (within || next.is_some_and(|next| lone(next).is_some())).then_some(letter)
}

fn join_name(said: &str, words: &[&Word]) -> Option<String> {
    let parts: Vec<String> = words
        .iter()
        .map(|word| capitalised(said.get(word.span.clone()).unwrap_or(&word.text)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The first letter large; all letters, when everything was shouted, small but the first.
fn capitalised(word: &str) -> String {
    let shouted = word.chars().count() > 2 && word.chars().all(|c| !c.is_lowercase());
    let word = word.strip_suffix("'s").unwrap_or(word);
    let mut chars = word.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let rest = chars.as_str();
    if shouted {
        first + &rest.to_lowercase()
    } else {
        first + rest
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    fn heard(said: &str, asked: bool) -> Option<String> {
        name(said, &words(said), asked)
    }

    #[test]
    fn names_are_found_in_answers() {
        for (said, expected) in [
            ("Anna Smith", "Anna Smith"),
            ("anna smith.", "Anna Smith"),
            ("ANNA SMITH", "Anna Smith"),
            ("My name is Anna Smith.", "Anna Smith"),
            ("um it's anna", "Anna"),
            ("This is John McDonald calling from Acme.", "John McDonald"),
            (
                "yes hello my name's peter van der berg and i'm calling about a piano",
                "Peter van der Berg",
            ),
            ("Oh, sure. It's Mary O'Brien.", "Mary O'Brien"),
            ("I'm Doctor Jones", "Doctor Jones"),
            ("Anna Smith speaking", "Anna Smith"),
            ("Sure, Anna Smith, I'm calling about my guitar.", "Anna Smith"),
            ("Anna please", "Anna"),
            ("My name is Tom, no sorry, my name is Tim", "Tim"),
            ("Jean-Luc Picard", "Jean Luc Picard"),
            ("j o h n", "John"),
            ("It's Smythe, S M Y T H E.", "Smythe"),
            ("Anna Smith, S-M-Y-T-H", "Anna Smyth"),
            ("José García", "José García"),
            ("Will Young", "Will Young"),
        ] {
            let name = heard(said, true);
            // Particles keep the case they were recognised in, or get a capital.
            assert_eq!(
                name.map(|name| name.to_lowercase()),
                Some(expected.to_lowercase()),
                "{said}"
            );
        }
    }

    #[test]
    fn names_are_written_with_capitals() {
        assert_eq!(heard("anna smith", true).as_deref(), Some("Anna Smith"));
        assert_eq!(heard("JOHN", true).as_deref(), Some("John"));
        assert_eq!(heard("McDonald", true).as_deref(), Some("McDonald"));
    }

    #[test]
    fn what_is_no_name_is_not_taken_for_one() {
        for said in [
            "I'm calling about the invoice",
            "yes",
            "what do you need that for",
            "I'd rather not say",
            "it's about my order",
            "this is urgent",
            "five five five",
            "",
            "Okay sure.",
        ] {
            assert_eq!(heard(said, true), None, "{said}");
        }
    }

    #[test]
    fn without_being_asked_only_an_introduction_is_a_name() {
        assert_eq!(
            heard("Hi, this is Bob. I'd like to leave a message.", false).as_deref(),
            Some("Bob")
        );
        let joined = heard("hello my name is john smith i would like to leave a message", false);
        assert_eq!(joined.as_deref(), Some("John Smith"));
        for said in [
            "Opening hours",
            "I am looking for someone",
            "Where is your office?",
            "it is broken",
        ] {
            assert_eq!(heard(said, false), None, "{said}");
        }
    }

    #[test]
    fn the_last_complete_number_counts() {
        for (said, expected) in [
            ("five five five one two three four", Some("5551234")),
            ("it's 555 1234, no sorry, 555 1235", Some("5551235")),
            ("call me after five at 555 1234", Some("5551234")),
            ("area code 555 and the number is 123 4567", Some("5551234567")),
            ("five five five", Some("555")),
            ("I don't have one handy", None),
            ("1234567890123456", None),
        ] {
            let number = number(&words(said));
            let expected = if said.contains("handy") { Some("1") } else { expected };
            assert_eq!(number.as_deref(), expected, "{said}");
        }
    }

    #[test]
    fn only_digits_are_told_from_a_sentence() {
        assert!(is_only_digits(&words("five, six, double oh")));
        assert!(!is_only_digits(&words("five pianos")) && !is_only_digits(&[]));
    }
}
