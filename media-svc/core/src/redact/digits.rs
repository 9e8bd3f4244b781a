//! Numbers in running text: what stands for digits, what may stand between them, and which of them are cards or phones.

use super::decimal::digit;

/// Shortest and longest card number (ISO/IEC 7812-1).
pub(super) const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Digits of a card that stand in one group with what follows it, at least.
const LAST_GROUP_DIGITS: usize = 4;
/// What follows a card in the same group: its security code or expiry date.
const BEHIND_CARD_DIGITS: std::ops::RangeInclusive<usize> = 3..=4;
/// Shortest phone number: a local one of the North American plan.
const PHONE_DIGITS: usize = 7;
/// Most characters of punctuation and space between two parts of a number.
const GAP_CHARACTERS: usize = 4;
/// Words between two parts of a number that are not part of it.
const HESITATIONS: &[&str] = &["uh", "um", "er", "erm", "dash", "hyphen", "space", "dot", "point"];
/// Signs before an amount of money.
const CURRENCIES: &[char] = &['$', '€', '£', '¥', '₹', '₩', '＄', '￡', '￥', '￦'];

/// Something that stands for digits.
#[derive(Debug)]
struct Token {
    from: usize,
    to: usize,
    digits: Vec<u8>,
    /// Written in digits, not in words.
    written: bool,
}

/// A digit of a number.
struct Digit {
    /// The token it is from.
    token: usize,
    worth: u8,
    /// A card may begin with it.
    begins: bool,
    /// A card may end before it.
    follows: bool,
}

impl Token {
    /// Its digits, it being the token of this number. What is longer than the shortest card may be one with something glued
    /// to it: in there, a card may begin and end anywhere.
    fn spread(&self, token: usize) -> impl Iterator<Item = Digit> {
        let length = self.digits.len();
        let glued = length > *CARD_DIGITS.start();
        self.digits.iter().enumerate().map(move |(place, worth)| {
            let begins = glued || place == 0;
            let ends_card = place >= LAST_GROUP_DIGITS && BEHIND_CARD_DIGITS.contains(&(length - place));
            Digit {
                token,
                worth: *worth,
                begins,
                follows: begins || ends_card,
            }
        })
    }
}

/// Where card numbers are: every stretch of digits that begins and ends where a written number does and whose check digit
/// fits. Overlapping ones are all found, so that leading or following digits (an expiry date) hide none.
pub(super) fn cards(text: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    for run in runs(text, |_, _, _| true) {
        let tokens = run.iter().enumerate();
        let digits: Vec<Digit> = tokens.flat_map(|(number, token)| token.spread(number)).collect();
        for (start, first) in digits.iter().enumerate().filter(|(_, first)| first.begins) {
            let longest = CARD_DIGITS.rev().find_map(|length| {
                let end = start + length;
                let stretch = digits.get(start..end)?;
                let whole = digits.get(end).is_none_or(|next| next.follows);
                (whole && luhn(stretch.iter().map(|digit| digit.worth)))
                    .then(|| stretch.last().map(|last| last.token))?
            });
            if let (Some(last), Some(from)) = (longest.and_then(|last| run.get(last)), run.get(first.token)) {
                spans.push((from.from, last.to));
            }
        }
    }
    spans
}

/// Where the first digits at or behind this place begin.
pub(super) fn begin(text: &str, place: usize) -> Option<usize> {
    tokens(text).iter().map(|token| token.from).find(|from| *from >= place)
}

/// The number that a text ends with, as far as it stands behind this place: its end, of at most so many digits.
pub(super) fn last_number(text: &str, place: usize, most: usize) -> String {
    let run = runs(text, |_, _, _| true).pop().unwrap_or_default();
    let end = run.last().map_or(0, |token| token.to);
    if !text.get(end..).is_some_and(is_gap) {
        return String::new();
    }
    let mut digits = 0;
    let fits = run.iter().rev().take_while(|token| {
        digits += token.digits.len();
        token.from >= place && digits <= most
    });
    let from = fits.last().map_or(end, |token| token.from);
    text.get(from..end).unwrap_or_default().to_owned()
}

/// Where phone numbers are: all long numbers that are no date and no amount of money.
pub(super) fn phones(text: &str) -> Vec<(usize, usize)> {
    runs(text, goes_on_as_phone)
        .into_iter()
        .filter_map(|run| {
            let digits: usize = run.iter().map(|token| token.digits.len()).sum();
            let (first, last) = (run.first()?, run.last()?);
            let before = text.get(..first.from)?;
            // What is long enough for a card is no amount, or the half of it that is none would be looked at alone.
            let money = before.trim_end().ends_with(CURRENCIES) && digits < *CARD_DIGITS.start();
            if digits < PHONE_DIGITS || money || is_iso_date(text.get(first.from..last.to)?) {
                return None;
            }
            let prefix = before.chars().rev().take_while(|c| matches!(c, '+' | '(')).count();
            Some((first.from - prefix, last.to))
        })
        .collect()
}

/// The check digit of ISO/IEC 7812-1 fits.
fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let sum: u32 = digits
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit);
            match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, doubled) if doubled > 9 => doubled - 9,
                (_, doubled) => doubled,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// `2026-03-04`
fn is_iso_date(text: &str) -> bool {
    let in_ascii = |c| digit(c).map_or(c, |worth| char::from(b'0' + worth));
    let text: String = text.chars().map(in_ascii).collect();
    let mut parts = text.split('-');
    let mut next = |length: usize| parts.next().filter(|p| p.len() == length)?.parse::<u32>().ok();
    let (year, month, day) = (next(4), next(2), next(2));
    parts.next().is_none()
        && year.is_some_and(|year| (1900..2100).contains(&year))
        && month.is_some_and(|month| (1..=12).contains(&month))
        && day.is_some_and(|day| (1..=31).contains(&day))
}

/// `1,234,567` is an amount.
fn goes_on_as_phone(before: &Token, gap: &str, after: &Token) -> bool {
    !(matches!(gap, "," | "，") && before.written && after.written && after.digits.len() == 3)
}

/// Numbers, each as the tokens it is written in.
fn runs(text: &str, goes_on: impl Fn(&Token, &str, &Token) -> bool) -> Vec<Vec<Token>> {
    let mut runs: Vec<Vec<Token>> = Vec::new();
    for token in tokens(text) {
        let last = runs.last_mut().and_then(|run| Some((run.last()?.to, run)));
        match last {
            Some((end, run))
                if text.get(end..token.from).is_some_and(|gap| {
                    is_gap(gap) && run.last().is_some_and(|before| goes_on(before, gap, &token))
                }) =>
            {
                run.push(token);
            }
            Some(_) | None => runs.push(vec![token]),
        }
    }
    runs
}

/// Nothing but space, punctuation of numbers, and hesitations.
fn is_gap(gap: &str) -> bool {
    let mut punctuation = 0;
    gap.split_inclusive(|c: char| !c.is_alphabetic()).all(|piece| {
        let word = piece.trim_end_matches(|c: char| !c.is_alphabetic());
        let mark = piece.get(word.len()..).unwrap_or_default();
        punctuation = if word.is_empty() { punctuation } else { 0 } + mark.chars().count();
        let fits = |c: char| c.is_whitespace() || "-‐‑–—−－.．,，،、;；/／()（）…+＋".contains(c);
        mark.chars().all(fits) && punctuation <= GAP_CHARACTERS && (word.is_empty() || is_hesitation(word))
    })
}

fn is_hesitation(word: &str) -> bool {
    HESITATIONS.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// A word of letters or digits.
struct Piece<'a> {
    from: usize,
    text: &'a str,
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let class = |c: char| match c {
        c if digit(c).is_some() => 1,
        c if c.is_alphanumeric() => 2,
        _ => 0,
    };
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut before = 0;
    for (at, c) in text.char_indices() {
        let now = class(c);
        match pieces.last_mut() {
            Some(piece) if now != 0 && now == before => {
                piece.text = text.get(piece.from..at + c.len_utf8()).unwrap_or_default();
            }
            Some(_) | None if now != 0 => pieces.push(Piece {
                from: at,
                text: text.get(at..at + c.len_utf8()).unwrap_or_default(),
            }),
            Some(_) | None => {}
        }
        before = now;
    }
    pieces
}

fn tokens(text: &str) -> Vec<Token> {
    let pieces = pieces(text);
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        let rest = pieces.get(at + 1..).unwrap_or_default();
        // `hundred` means something behind a number only.
        let behind = tokens
            .last()
            .and_then(|token| text.get(token.to..piece.from))
            .is_some_and(is_gap);
        match digits_of(piece, rest, behind) {
            Some((digits, used)) => {
                let last = pieces.get(at + used - 1).unwrap_or(piece);
                tokens.push(Token {
                    from: piece.from,
                    to: last.from + last.text.len(),
                    digits,
                    written: piece.text.starts_with(|c| digit(c).is_some()),
                });
                at += used;
            }
            None => at += 1,
        }
    }
    tokens
}

/// The digits that begin here, and of how many pieces they are made.
fn digits_of(piece: &Piece<'_>, rest: &[Piece<'_>], behind_digits: bool) -> Option<(Vec<u8>, usize)> {
    if let Some(digits) = written(piece.text) {
        return Some((digits, 1));
    }
    let word = piece.text.to_lowercase();
    let next = rest.first();
    let times = match word.as_str() {
        "double" => 2,
        "triple" | "treble" => 3,
        _ => 1,
    };
    if times > 1 {
        let next = next?;
        let digit = match written(next.text) {
            Some(digits) if digits.len() == 1 => digits.first().copied(),
            Some(_) => None,
            None => ones(&next.text.to_lowercase()),
        };
        return digit.map(|digit| (vec![digit; times], 2));
    }
    if word == "hundred" && behind_digits {
        return Some((vec![0, 0], 1));
    }
    if let Some(digit) = ones(&word) {
        return Some((vec![digit], 1));
    }
    if let Some(second) = teens(&word) {
        return Some((vec![1, second], 1));
    }
    let first = tens(&word)?;
    let follows = next.filter(|next| next.from == piece.from + piece.text.len() + 1);
    match follows.and_then(|next| ones(&next.text.to_lowercase())) {
        Some(second) if second > 0 => Some((vec![first, second], 2)),
        Some(_) | None => Some((vec![first, 0], 1)),
    }
}

fn written(text: &str) -> Option<Vec<u8>> {
    text.chars().map(digit).collect()
}

fn ones(word: &str) -> Option<u8> {
    Some(match word {
        "zero" | "oh" | "o" | "nought" | "naught" => 0,
        "one" => 1,
        "two" => 2,
        "three" => 3,
        "four" => 4,
        "five" => 5,
        "six" => 6,
        "seven" => 7,
        "eight" => 8,
        "nine" => 9,
        _ => return None,
    })
}

fn teens(word: &str) -> Option<u8> {
    Some(match word {
        "ten" => 0,
        "eleven" => 1,
        "twelve" => 2,
        "thirteen" => 3,
        "fourteen" => 4,
        "fifteen" => 5,
        "sixteen" => 6,
        "seventeen" => 7,
        "eighteen" => 8,
        "nineteen" => 9,
        _ => return None,
    })
}

fn tens(word: &str) -> Option<u8> {
    Some(match word {
        "twenty" => 2,
        "thirty" => 3,
        "forty" => 4,
        "fifty" => 5,
        "sixty" => 6,
        "seventy" => 7,
        "eighty" => 8,
        "ninety" => 9,
        _ => return None,
    })
}
