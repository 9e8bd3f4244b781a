//! Text as Pico can take it.

/// Longest segment spoken as one job, in characters: about 20 s of speech. Longer text goes segment by segment, so
/// that one long answer does not hold up other callers, and stays within Pico's fixed buffers.
pub const MAX_SEGMENT_CHARS: usize = 240;
/// Longest run without a space: Pico's tokeniser works in a buffer of 255 bytes.
const MAX_WORD_CHARS: usize = 40;

/// What is left of a text once everything Pico cannot say is gone: markup characters become spaces (Pico would read
/// `<speed…>` as an instruction), control characters and symbols outside the languages of its voices are dropped,
/// typographic signs become plain ones, white space is one space, endless words are broken. Empty when nothing can be
/// said.
pub fn speakable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut word = 0;
    for c in text.chars() {
        let piece = replacement(c);
        for c in piece.map_or_else(|| c.to_string(), str::to_owned).chars() {
            if c == ' ' {
                word = 0;
                if !plain.ends_with(' ') {
                    plain.push(' ');
                }
                continue;
            }
            if word == MAX_WORD_CHARS {
                plain.push(' ');
                word = 0;
            }
            plain.push(c);
            word += 1;
        }
    }
    if !plain.chars().any(char::is_alphanumeric) {
        return String::new();
    }
    plain.trim().to_owned()
}

/// What a character becomes; `None` = itself.
fn replacement(c: char) -> Option<&'static str> {
    match c {
        '<' | '>' | '\\' | '|' | '*' | '_' | '`' | '~' | '^' | '{' | '}' | '[' | ']' | '#' => Some(" "),
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' => Some("'"),
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{00ab}' | '\u{00bb}' => Some("\""),
        '\u{2013}' | '\u{2014}' | '\u{2015}' => Some(", "),
        '\u{2010}' | '\u{2011}' | '\u{2012}' | '\u{2212}' => Some("-"),
        '\u{2026}' => Some("."),
        '\u{0153}' => Some("oe"),
        '\u{0152}' => Some("Oe"),
        '\u{20ac}' => None,
        c if c.is_whitespace() || c.is_control() => Some(" "),
        // Latin-1 and Latin Extended-A: what the six languages are written in.
        c if c <= '\u{017f}' => None,
        _ => Some(""),
    }
}

/// Splits speakable text into segments of at most [`MAX_SEGMENT_CHARS`], at the end of a sentence where there is one,
/// else at a comma, else at a space.
pub fn segments(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = text.trim();
    while rest.chars().nth(MAX_SEGMENT_CHARS).is_some() {
        let limit = rest
            .char_indices()
            .nth(MAX_SEGMENT_CHARS)
            .map_or(rest.len(), |(at, _)| at);
        let window = rest.get(..limit).unwrap_or(rest);
        let after = |ends: &[&str]| ends.iter().filter_map(|end| window.rfind(end).map(|at| at + 1)).max();
        let cut = after(&[". ", "! ", "? ", "; ", ": "])
            .or_else(|| after(&[", "]))
            .or_else(|| window.rfind(' '))
            .filter(|&cut| cut > 0)
            .unwrap_or(limit);
        let (head, tail) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        segments.push(head.trim().to_owned());
        rest = tail.trim();
    }
    segments.push(rest.to_owned());
    // Marks alone ("…", "–") are nothing to say.
    segments.retain(|segment| segment.chars().any(char::is_alphanumeric));
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_is_spoken_as_text_and_never_obeyed() {
        assert_eq!(
            speakable("a <speed level=\"200\">b</speed> c"),
            "a speed level=\"200\" b /speed c"
        );
    }

    #[test]
    fn markdown_and_emoji_are_left_out() {
        assert_eq!(speakable("**Hello** \u{1f44b}, `you`!"), "Hello , you !");
    }

    #[test]
    fn typographic_signs_become_plain_ones() {
        assert_eq!(
            speakable("it\u{2019}s \u{201c}fine\u{201d} \u{2014} really\u{2026}"),
            "it's \"fine\" , really."
        );
    }

    #[test]
    fn accents_of_the_six_languages_are_kept() {
        let text = "Grüße, garçon, mañana, perché: 5 €";
        assert_eq!(speakable(text), "Grüße, garçon, mañana, perché: 5 €");
    }

    #[test]
    fn nothing_to_say_is_empty() {
        for text in ["", "  \n", "\u{1f600}", "...", "漢字", "\0\0"] {
            assert_eq!(speakable(text), "", "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_at_sentences() {
        let text = "This is one sentence of some length, with a comma. ".repeat(12);
        let segments = segments(&speakable(&text));
        assert!(segments.len() >= 3);
        assert!(segments.iter().all(|segment| segment.ends_with('.')));
    }

    proptest! {
        #[test]
        fn segments_are_short_and_lose_no_letter(text in "\\PC{0,900}") {
            let plain = speakable(&text);
            let segments = segments(&plain);
            prop_assert!(segments.iter().all(|segment| segment.chars().count() <= MAX_SEGMENT_CHARS));
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            prop_assert_eq!(letters(&segments.concat()), letters(&plain));
            let words: Vec<_> = plain.split(' ').map(|word| word.chars().count()).collect();
            prop_assert!(words.iter().all(|&length| length <= MAX_WORD_CHARS));
        }
    }
}
