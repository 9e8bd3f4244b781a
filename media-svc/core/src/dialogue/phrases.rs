//! What the receptionist asks, and how it knows its own questions again.

use super::words::texts;

/// The question that the caller is answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pending {
    /// None in particular.
    #[default]
    Nothing,
    /// Is there anything else?
    AnythingElse,
    /// A message?
    Offer,
    /// Who is calling?
    Name,
    /// The same, once more.
    NameAgain,
    /// Which number?
    Number,
    /// The same, once more.
    NumberAgain,
    /// The rest of the number?
    MoreNumber,
    /// Which message?
    Message,
    /// Is what was read back correct?
    Confirm,
    /// What is wrong with it?
    WhichPart,
}

/// Every question in its words; none is the beginning of another.
const QUESTIONS: [(Pending, &str); 10] = [
    (Pending::AnythingElse, "Is there anything else I can do for you?"),
    (Pending::Offer, "Would you like to leave a message?"),
    (Pending::Name, "Who is calling, please?"),
    (
        Pending::NameAgain,
        "Sorry, I did not catch your name. Could you say just your name?",
    ),
    (Pending::Number, "What number can we reach you on?"),
    (
        Pending::NumberAgain,
        "Sorry, I did not catch a number. Could you say it digit by digit?",
    ),
    (Pending::MoreNumber, "What comes after that?"),
    (Pending::Message, "What is your message?"),
    (Pending::Confirm, "Is that correct?"),
    (
        Pending::WhichPart,
        "What should I change: the name, the number, or the message?",
    ),
];

/// Fewest words of a question that was cut short by which it is known.
const FEWEST_WORDS: usize = 2;

/// The words of a question; none for [`Pending::Nothing`].
pub(super) fn question(pending: Pending) -> &'static str {
    QUESTIONS
        .iter()
        .find(|(of, _)| *of == pending)
        .map_or("", |(_, text)| text)
}

/// The last question in what the caller heard, even if its end was cut off.
pub(super) fn asked(heard: &str) -> Option<Pending> {
    let heard = texts(heard);
    QUESTIONS
        .iter()
        .filter_map(|(pending, text)| {
            let question = texts(text);
            let whole = heard.windows(question.len()).rposition(|window| window == question);
            let end = match whole {
                Some(at) => at + question.len(),
                None => {
                    let cut = (FEWEST_WORDS..question.len()).rev().find(|&length| {
                        let tail = heard.len().checked_sub(length).and_then(|from| heard.get(from..));
                        tail.is_some_and(|tail| is_beginning(tail, &question))
                    });
                    cut.map(|_| heard.len())?
                }
            };
            Some((end, *pending))
        })
        .max_by_key(|(end, _)| *end)
        .map(|(_, pending)| pending)
}

/// Whether a text is what is heard of another when that is cut short, or all of it.
pub(super) fn is_cut_from(heard: &str, whole: &str) -> bool {
    let heard = texts(heard);
    !heard.is_empty() && is_beginning(&heard, &texts(whole))
}

/// The last word may be cut as well.
fn is_beginning(heard: &[String], whole: &[String]) -> bool {
    let Some((last, before)) = heard.split_last() else {
        return true;
    };
    whole.starts_with(before)
        && whole
            .get(before.len())
            .is_some_and(|word| word.starts_with(last.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_known_again_whole_and_cut_short() {
        for (pending, text) in QUESTIONS {
            assert_eq!(asked(text), Some(pending));
            assert_eq!(
                asked(&format!("Thank you, Anna. {}", text.to_lowercase())),
                Some(pending)
            );
            let words: Vec<&str> = text.split(' ').collect();
            let cut = words[..words.len() - 1].join(" ");
            assert_eq!(asked(&format!("Thank you. {cut}")), Some(pending), "{cut}");
        }
    }

    #[test]
    fn the_last_of_several_questions_counts() {
        let text = "What number can we reach you on? I mean, who is calling, please?";
        assert_eq!(asked(text), Some(Pending::Name));
    }

    #[test]
    fn other_texts_are_no_question() {
        for text in [
            "",
            "Hello, this is the Voxray front desk. How can I help you?",
            "What",
            "Are you still there?",
        ] {
            assert_eq!(asked(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_cut_in_a_word_is_known() {
        let whole = "Thank you, Anna. What number can we reach you on?";
        for heard in ["Thank", "thank you ann", "Thank you, Anna. What num", whole] {
            assert!(is_cut_from(heard, whole), "{heard}");
        }
        assert!(!is_cut_from("", whole) && !is_cut_from("Thanks", whole));
    }
}
