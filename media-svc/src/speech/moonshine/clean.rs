//! Cutting what a decoder repeats when it has lost the audio.

/// Longest group of words that is looked at as one repeated unit.
const LONGEST_UNIT: usize = 8;
/// A single word is said more often than this by nobody; "five five five five" is a phone number.
const SINGLE_WORD_REPEATS: usize = 8;
/// As above for groups of words.
const GROUP_REPEATS: usize = 4;

/// Cuts runs of a repeated group of words down to one when the group occurs more often in a row than people repeat
/// themselves, and everything after the run: by then the decoder is no longer listening.
pub fn without_loops(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    for start in 0..words.len() {
        for unit in 1..=LONGEST_UNIT {
            let Some(group) = words.get(start..start + unit) else {
                break;
            };
            let rest = words.get(start..).unwrap_or_default();
            let repeats = rest.chunks(unit).take_while(|chunk| same(chunk, group)).count();
            let most = if unit == 1 { SINGLE_WORD_REPEATS } else { GROUP_REPEATS };
            if repeats > most {
                return words.get(..start + unit).unwrap_or_default().join(" ");
            }
        }
    }
    words.join(" ")
}

/// Whether two groups are the same words; punctuation and case differ between repeats.
fn same(a: &[&str], b: &[&str]) -> bool {
    let plain = |word: &str| {
        word.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| plain(a) == plain(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_cut_down_to_one() {
        let text = format!("I am here.{}", " Come on, come on.".repeat(6));
        assert_eq!(without_loops(&text), "I am here. Come on,");
        let text = format!("well {}", "and so on ".repeat(5));
        assert_eq!(without_loops(&text), "well and so on");
    }

    #[test]
    fn what_people_repeat_is_kept() {
        let text = "No, no, no, no. Call five five five five one two one two.";
        assert_eq!(without_loops(text), text);
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(without_loops("  "), "");
    }
}
