//! Splitting streamed text into sentences that can be spoken.
//!
//! A piece is released as soon as it is certain that it is complete, which needs a look at what follows: the dot of
//! "3.5", "Dr. Smith" or "www.example.com" ends nothing. The first piece of a text may be a mere clause, because the
//! caller is waiting for it. How the text is cut into tokens makes no difference.

/// Shortest first clause worth its own breath, in characters; "Yes," alone would leave a hole before the rest.
const FIRST_CLAUSE_MIN_CHARS: usize = 12;
/// From this length on the end of a clause will do, in characters (about 12 s of speech).
const LONG_CHARS: usize = 180;
/// From this length on any space will do, in characters.
const VERY_LONG_CHARS: usize = 320;
/// Where text without a single space is cut, in characters.
const HARD_LIMIT_CHARS: usize = 640;
/// Characters looked at behind a possible end: closing quotes, spaces, the beginning of the next sentence.
const LOOKAHEAD_CHARS: usize = 32;

/// Words whose dot never ends a sentence.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "mx", "dr", "prof", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "gov", "sen", "rep", "st",
    "mt", "vs", "approx", "dept", "est", "fig", "vol", "eg", "ie", "sr", "sra", "srta", "dra", "ud", "uds", "mme",
    "mlle", "hr", "fr", "str", "bzw", "ca", "evtl", "ggf", "sog", "dott", "sig", "ing",
];
/// Words whose dot ends no sentence before a number.
const BEFORE_NUMBERS: &[&str] = &[
    "no", "nr", "núm", "num", "p", "pp", "tel", "ext", "art", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep",
    "sept", "oct", "nov", "dec",
];

/// Cuts a stream of text into pieces that can be synthesised one by one. No text is lost or reordered; only white
/// space between pieces goes.
#[derive(Debug, Clone, Default)]
pub struct SentenceSplitter {
    buffer: String,
    first_released: bool,
}

impl SentenceSplitter {
    /// A splitter at the beginning of a text: its first piece may be a clause.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more text and returns the pieces that are complete now, in order.
    pub fn push(&mut self, token: &str) -> Vec<String> {
        self.buffer.push_str(token);
        let mut pieces = Vec::new();
        let mut rest = self.buffer.as_str().trim_start();
        while let Some(end) = end_of_piece(rest, !self.first_released) {
            let (piece, after) = rest.split_at(end);
            pieces.push(piece.trim().to_owned());
            self.first_released = true;
            rest = after.trim_start();
        }
        self.buffer = rest.to_owned();
        pieces
    }

    /// Ends the text and returns what was held back; the splitter is then at the beginning of a new text.
    pub fn finish(&mut self) -> Option<String> {
        self.first_released = false;
        let rest = std::mem::take(&mut self.buffer);
        let rest = rest.trim();
        (!rest.is_empty()).then(|| rest.to_owned())
    }
}

/// Puts two pieces of text together, with a space where the script uses spaces.
pub fn join(first: &str, second: &str) -> String {
    let (first, second) = (first.trim_end(), second.trim_start());
    let (Some(last), Some(next)) = (first.chars().next_back(), second.chars().next()) else {
        return format!("{first}{second}");
    };
    let space = if is_unspaced(last) && is_unspaced(next) {
        ""
    } else {
        " "
    };
    format!("{first}{space}{second}")
}

/// Whether there is anything in the text that a voice can say.
pub fn is_speakable(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// Characters of scripts that are written without spaces between words.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0E7F}' | '\u{3000}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FFEF}')
}

/// What one character says about the end of a piece.
enum Verdict {
    /// The piece ends before this character index.
    Cut(usize),
    /// It depends on what follows.
    Wait,
    /// Goes on; look again from this character index.
    Next(usize),
}

/// Byte length of the first complete piece of `text`, which begins with no white space.
fn end_of_piece(text: &str, first: bool) -> Option<usize> {
    let window = HARD_LIMIT_CHARS + LOOKAHEAD_CHARS;
    let chars: Vec<char> = text.chars().take(window).collect();
    let bytes_of = |end: usize| chars.iter().take(end).map(|c| c.len_utf8()).sum();
    let mut speakable = false;
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        speakable |= c.is_alphanumeric();
        if i >= HARD_LIMIT_CHARS {
            return Some(bytes_of(i));
        }
        match judge(&chars, i, c, first) {
            // A dash or a smiley alone is not worth a request: it goes with what follows.
            Verdict::Cut(end) if speakable => return Some(bytes_of(end)),
            Verdict::Cut(end) => i = end.max(i + 1),
            Verdict::Wait if chars.len() == window => return Some(bytes_of(HARD_LIMIT_CHARS)),
            Verdict::Wait => return None,
            Verdict::Next(next) => i = next,
        }
    }
    None
}

fn judge(chars: &[char], i: usize, c: char, first: bool) -> Verdict {
    if c == '\n' {
        Verdict::Cut(i)
    } else if is_terminator(c) {
        judge_terminator(chars, i)
    } else if is_clause_end(c) && ((first && i + 1 >= FIRST_CLAUSE_MIN_CHARS) || i >= LONG_CHARS) {
        judge_clause(chars, i, c)
    } else if c.is_whitespace() && i >= VERY_LONG_CHARS {
        Verdict::Cut(i)
    } else {
        Verdict::Next(i + 1)
    }
}

fn judge_terminator(chars: &[char], i: usize) -> Verdict {
    let mut end = i;
    let (mut wide, mut asks, mut closed, mut dots) = (false, false, false, 0);
    while let Some(&c) = chars.get(end).filter(|c| is_terminator(**c) || is_closer(**c)) {
        wide |= is_wide_terminator(c);
        asks |= matches!(c, '!' | '?' | '؟');
        closed |= is_closer(c);
        dots += usize::from(c == '.');
        end += 1;
    }
    let Some(&after) = chars.get(end) else {
        return Verdict::Wait;
    };
    if wide || after == '\n' || (asks && !closed && after.is_whitespace()) {
        return Verdict::Cut(end);
    }
    if !after.is_whitespace() {
        return Verdict::Next(end);
    }
    let Some((following, line_break)) = next_word(chars, end) else {
        return Verdict::Wait;
    };
    let word = word_before(chars, i);
    if line_break {
        Verdict::Cut(end)
    } else if following.is_lowercase() || (dots == 1 && !closed && is_abbreviation(&word, following)) {
        Verdict::Next(end)
    } else {
        Verdict::Cut(end)
    }
}

fn judge_clause(chars: &[char], i: usize, c: char) -> Verdict {
    if matches!(c, '，' | '、' | '；' | '：') {
        return Verdict::Cut(i + 1);
    }
    let Some(after) = chars.get(i + 1) else {
        return Verdict::Wait;
    };
    if !after.is_whitespace() {
        return Verdict::Next(i + 1);
    }
    // "on May 5, 2026" and "press 1, 2 or 3" are said in one breath.
    match next_word(chars, i + 1) {
        None => Verdict::Wait,
        Some((following, _)) if following.is_numeric() => Verdict::Next(i + 1),
        Some(_) => Verdict::Cut(i + 1),
    }
}

/// First character after the white space at `from`, and whether a line ends in between.
fn next_word(chars: &[char], from: usize) -> Option<(char, bool)> {
    let rest = chars.get(from..)?;
    let gap = rest.iter().take_while(|c| c.is_whitespace()).count();
    let line_break = rest.iter().take(gap).any(|c| *c == '\n');
    rest.get(gap).map(|c| (*c, line_break))
}

fn word_before(chars: &[char], end: usize) -> String {
    let before = chars.get(..end).unwrap_or_default();
    let start = before
        .iter()
        .rposition(|c| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“' | '\'' | '/' | '-'))
        .map_or(0, |i| i + 1);
    before.get(start..).unwrap_or_default().iter().collect()
}

fn is_abbreviation(word: &str, following: char) -> bool {
    let lower = word.to_lowercase();
    let letters = word.chars().count();
    let one_letter_parts = word.contains('.') && word.split('.').all(|part| part.chars().count() == 1);
    let ordinal = letters <= 2 && word.chars().all(|c| c.is_ascii_digit());
    let initial = letters == 1 && word != "I" && word.chars().all(char::is_uppercase);
    // "at 5 p.m. Tomorrow …" is two sentences; "the U.S. Navy", "z.B. Apfel" is one.
    let dotted = one_letter_parts && !matches!(lower.as_str(), "a.m" | "p.m");
    ordinal
        || initial
        || dotted
        || ABBREVIATIONS.contains(&lower.as_str())
        || (following.is_numeric() && BEFORE_NUMBERS.contains(&lower.as_str()))
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '؟' | '۔') || is_wide_terminator(c)
}

/// Ends a sentence in scripts that put no space behind it, or where nothing else uses the sign.
fn is_wide_terminator(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡' | '．' | '।' | '॥' | '።' | '။')
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '」' | '』' | '）' | '】')
}

fn is_clause_end(c: char) -> bool {
    matches!(c, ',' | ';' | ':' | '—' | '–' | '，' | '、' | '；' | '：' | '،')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut splitter = SentenceSplitter {
            first_released: true,
            ..SentenceSplitter::new()
        };
        let mut pieces = splitter.push(text);
        pieces.extend(splitter.finish());
        pieces
    }

    #[test]
    fn sentences_are_cut_at_their_ends() {
        assert_eq!(
            split("Hello there. How are you? Fine!"),
            ["Hello there.", "How are you?", "Fine!"]
        );
        assert_eq!(
            split("He said \"Stop.\" Then he left."),
            ["He said \"Stop.\"", "Then he left."]
        );
        assert_eq!(split("Really?! Yes."), ["Really?!", "Yes."]);
        assert_eq!(split("so do I. Then we go."), ["so do I.", "Then we go."]);
    }

    #[test]
    fn dots_inside_numbers_names_and_addresses_end_nothing() {
        for text in [
            "It costs 3.5 euros.",
            "Dr. Smith and Mrs. Jones are here.",
            "Ask J. R. Tolkien about it.",
            "Write to jane.doe@example.com or see www.example.com today.",
            "The U.S. Navy is near, e.g. Norfolk.",
            "That is approx. five miles.",
            "Well... maybe not.",
            "Bring fruit, z.B. Apfel.",
            "Wir sehen uns am 3. Mai um 10 Uhr.",
            "It is No. 7 on Oct. 12 this year.",
        ] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn an_address_at_the_end_of_a_sentence_still_ends_it() {
        assert_eq!(
            split("See example.com. It is free."),
            ["See example.com.", "It is free."]
        );
        assert_eq!(
            split("We open at 5 p.m. Tomorrow too."),
            ["We open at 5 p.m.", "Tomorrow too."]
        );
    }

    #[test]
    fn other_scripts_have_their_own_signs() {
        assert_eq!(
            split("你好。今天天气很好！我们走吧？"),
            ["你好。", "今天天气很好！", "我们走吧？"]
        );
        assert_eq!(split("नमस्ते। आप कैसे हैं?"), ["नमस्ते।", "आप कैसे हैं?"]);
        assert_eq!(split("كيف حالك؟ أنا بخير."), ["كيف حالك؟", "أنا بخير."]);
        assert_eq!(split("¿Qué tal? ¡Muy bien!"), ["¿Qué tal?", "¡Muy bien!"]);
    }

    #[test]
    fn lines_are_sentences() {
        assert_eq!(
            split("You need:\n1. Flour\n2. Eggs\n"),
            ["You need:", "1. Flour", "2. Eggs"]
        );
    }

    #[test]
    fn the_first_clause_is_released_early_and_only_the_first() {
        let mut splitter = SentenceSplitter::new();
        assert_eq!(splitter.push("Yes, of course I can, "), Vec::<String>::new());
        assert_eq!(
            splitter.push("just tell me when, and where. "),
            ["Yes, of course I can,"]
        );
        assert_eq!(splitter.push("Then"), ["just tell me when, and where."]);
    }

    #[test]
    fn a_date_is_not_a_clause() {
        let mut splitter = SentenceSplitter::new();
        assert!(splitter.push("It was on January 5, 2026").is_empty());
    }

    #[test]
    fn a_piece_without_a_word_goes_with_the_next() {
        assert_eq!(split("… Hello. Bye."), ["… Hello.", "Bye."]);
    }

    #[test]
    fn text_without_punctuation_is_cut_before_it_gets_too_long() {
        let pieces = split(&"word ".repeat(200));
        assert!(
            pieces.iter().all(|piece| piece.chars().count() <= VERY_LONG_CHARS + 5),
            "{pieces:?}"
        );
        let pieces = split(&"x".repeat(2_000));
        assert!(pieces.iter().all(|piece| piece.chars().count() <= HARD_LIMIT_CHARS));
    }

    #[test]
    fn pieces_join_with_a_space_only_where_the_script_has_spaces() {
        assert_eq!(join("Hello.", "Bye."), "Hello. Bye.");
        assert_eq!(join("你好。", "再见。"), "你好。再见。");
        assert_eq!(join("", "Bye."), "Bye.");
    }

    fn squeeze(text: &str) -> String {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    proptest! {
        #[test]
        fn no_text_is_lost_or_reordered_however_it_is_cut(
            tokens in prop::collection::vec("([a-zA-Z0-9 .,;:!?…'\"()\n。！，é—]{0,9}|[^\u{0}]{0,5})", 0..60),
        ) {
            let mut splitter = SentenceSplitter::new();
            let mut pieces: Vec<String> = tokens.iter().flat_map(|token| splitter.push(token)).collect();
            pieces.extend(splitter.finish());
            prop_assert_eq!(squeeze(&pieces.concat()), squeeze(&tokens.concat()));
            prop_assert!(pieces.iter().all(|piece| !piece.trim().is_empty()));

            let mut whole = SentenceSplitter::new();
            let mut at_once = whole.push(&tokens.concat());
            at_once.extend(whole.finish());
            prop_assert_eq!(pieces, at_once);
        }
    }
}
