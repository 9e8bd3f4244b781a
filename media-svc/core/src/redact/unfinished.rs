//! Card numbers that a caller says with a pause, so that they are several turns.

use super::digits::{self, CARD_DIGITS};
use crate::conversation::KEYS_PRESSED;

/// Stands between the digits of two turns: no two words of them are one number (`forty` and `one`).
const PAUSE: &str = ", ";
/// What a turn may end with behind a number that goes on in the next, beside what may stand between its parts.
const ENDS: &[char] = &['?', '!', '。', '？', '！', ']'];

/// The digits that the turns of one caller have ended with so far. Lives as long as the call, and in memory only.
#[derive(Debug, Default)]
pub struct Unfinished(String);

impl Unfinished {
    /// The caller's next turn: where in it a card number ends that began before it.
    pub(super) fn go_on(&mut self, turn: &str) -> Vec<(usize, usize)> {
        let text = turn.strip_prefix(KEYS_PRESSED).unwrap_or(turn);
        let all = format!("{}{PAUSE}{text}", self.0);
        let (border, lead) = (self.0.len() + PAUSE.len(), turn.len() - text.len());
        let cards = digits::cards(&all);
        let begins = digits::begin(&all, border).unwrap_or(border);
        let ends = cards.iter().filter(|(from, to)| *from < border && border < *to);
        let ends = ends
            .map(|(_, to)| (begins - border + lead, to - border + lead))
            .collect();
        // What a card was found in is over: an expiry date that follows is not looked for one.
        let over = cards.into_iter().map(|(_, to)| to).max().unwrap_or(0);
        self.0 = digits::last_number(all.trim_end_matches(ENDS), over, *CARD_DIGITS.end() - 1);
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Redactor};
    use super::*;

    /// What is kept of the turns of one call.
    fn kept(turns: &[&str]) -> Vec<String> {
        let redactor = Redactor::new(vec![Kind::Card], Vec::new()).unwrap();
        let mut unfinished = Unfinished::default();
        let kept = turns.iter().map(|turn| {
            redactor
                .find_in_turn(&mut unfinished, turn)
                .taken_out_of(turn)
                .into_owned()
        });
        kept.collect()
    }

    #[test]
    fn the_turn_that_completes_a_card_number_loses_its_share() {
        for (turns, last) in [
            (vec!["It is 4111 1111.", "1111 1111, that's it"], "[card], that's it"),
            (vec!["4111", "1111.", "Uh.", "1111?", "uh, 1111"], "uh, [card]"),
            (
                vec!["four one one one, one one one one", "one one one one one one one one"],
                "[card]",
            ),
            (vec!["４１１１ １１１１。", "１１１１ １１１１です"], "[card]です"),
            (
                vec!["forty-one eleven eleven eleven eleven", "eleven eleven eleven"],
                "[card]",
            ),
            (
                vec!["[keys pressed: 41111111]", "[keys pressed: 11111111]"],
                "[keys pressed: [card]]",
            ),
            (vec!["4111 1111 1111", "1111 12 27"], "[card] 12 27"),
        ] {
            let mut expected: Vec<String> = turns.iter().map(|turn| (*turn).to_owned()).collect();
            *expected.last_mut().unwrap() = last.to_owned();
            assert_eq!(kept(&turns), expected);
        }
    }

    #[test]
    fn what_is_said_between_ends_a_number_and_so_does_its_last_digit() {
        for turns in [
            ["4111 1111", "wait", "1111 1111"],
            ["4111 1111 is the first half", "1111", "1111"],
            ["room 4111", "and 1111 1111", "1111"],
        ] {
            assert_eq!(kept(&turns), turns);
        }
        assert_eq!(
            kept(&["4111 1111 1111 1111", "12 27", "123"]),
            ["[card]", "12 27", "123"]
        );
        assert_eq!(
            kept(&["4111 1111", "1111 1111", "12 27"]),
            ["4111 1111", "[card]", "12 27"]
        );
    }

    #[test]
    fn of_what_is_never_a_card_no_more_is_remembered_than_a_card_may_need() {
        let mut unfinished = Unfinished::default();
        for _ in 0..100 {
            unfinished.go_on("2 2 2 2");
            assert!(unfinished.0.len() < 60, "{}", unfinished.0);
        }
    }
}
