//! Telephone numbers from spoken digits, and numbers, times and dates as they are spoken.

use time::{Date, Month, Weekday};

use super::words::Word;

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [(&str, u32); 8] = [
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
];
/// Words for a digit beside the usual ones.
const OTHER_DIGITS: [(&str, char); 5] = [
    ("nought", '0'),
    ("naught", '0'),
    ("nil", '0'),
    ("fore", '4'),
    ("niner", '9'),
];
/// What recognisers write for digits; digits only among other digits.
const SOUNDS_LIKE: [(&str, char); 8] = [
    ("oh", '0'),
    ("o", '0'),
    ("won", '1'),
    ("to", '2'),
    ("too", '2'),
    ("for", '4'),
    ("free", '3'),
    ("ate", '8'),
];
/// Words that may stand between two digits of one number.
const SEPARATORS: [&str; 7] = ["and", "then", "dash", "hyphen", "dot", "space", "point"];

/// Digits fewer than these are only the beginning of a number.
pub(super) const SHORTEST_NUMBER: usize = 5;
/// Longest number (ITU-T E.164).
pub(super) const LONGEST_NUMBER: usize = 15;

/// Every run of spoken or written digits, in order; a leading plus is kept.
pub(super) fn digit_runs(words: &[Word]) -> Vec<String> {
    let mut runs = Vec::new();
    let mut run = String::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        if let Some((digits, used)) = digits_at(rest, !run.is_empty()) {
            run.push_str(&digits);
            rest = rest.get(used..).unwrap_or_default();
        } else if !run.is_empty() && SEPARATORS.contains(&word.text.as_str()) && digits_at(after, true).is_some() {
            rest = after;
        } else {
            if !run.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
            rest = after;
        }
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

/// Digits that begin here and how many words they take. `within`: digits came directly before.
fn digits_at(words: &[Word], within: bool) -> Option<(String, usize)> {
    let text = |n: usize| words.get(n).map_or("", |word: &Word| word.text.as_str());
    let first = text(0);
    if first == "plus" {
        let (digits, used) = digits_at(words.get(1..)?, false)?;
        return Some((format!("+{digits}"), used + 1));
    }
    if first.chars().any(|c| c.is_ascii_digit()) && first.chars().all(|c| c.is_ascii_digit() || c == '+') {
        return Some((first.to_owned(), 1));
    }
    let times = match first {
        "double" => 2,
        "triple" | "treble" => 3,
        _ => 0,
    };
    if times > 0 {
        let digit = digit(text(1)).or_else(|| sounds_like(text(1)))?;
        return Some((digit.to_string().repeat(times), 2));
    }
    if let Some(digit) = digit(first) {
        return Some(match text(1) {
            "hundred" => (format!("{digit}00"), 2),
            "thousand" => (format!("{digit}000"), 2),
            _ => (digit.to_string(), 1),
        });
    }
    if let Some((_, tens)) = TENS.iter().find(|(name, _)| *name == first) {
        let unit = digit(text(1))
            .and_then(|digit| digit.to_digit(10))
            .filter(|&unit| unit > 0);
        return Some(match unit {
            Some(unit) => ((tens + unit).to_string(), 2),
            None => (tens.to_string(), 1),
        });
    }
    if let Some(teen) = ONES.iter().skip(10).position(|name| *name == first) {
        return Some(((teen + 10).to_string(), 1));
    }
    let digit = sounds_like(first)?;
    let more_follow = digit_or_multiple(text(1)) || sounds_like(text(1)).is_some() && within;
    let is_zero = digit == '0';
    (if is_zero {
        within || more_follow
    } else {
        within && more_follow
    })
    .then(|| (digit.to_string(), 1))
}

fn digit(word: &str) -> Option<char> {
    let usual = ONES.iter().take(10).position(|name| *name == word);
    usual.and_then(|n| char::from_digit(n as u32, 10)).or_else(|| {
        OTHER_DIGITS
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, digit)| *digit)
    })
}

fn sounds_like(word: &str) -> Option<char> {
    SOUNDS_LIKE
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, digit)| *digit)
}

fn digit_or_multiple(word: &str) -> bool {
    digit(word).is_some()
        || matches!(word, "double" | "triple" | "treble")
        || TENS.iter().any(|(name, _)| *name == word)
        || !word.is_empty() && word.chars().all(|c| c.is_ascii_digit())
}

/// Whether a word is always a number.
pub(super) fn is_number_word(word: &str) -> bool {
    digit_or_multiple(word)
        || ONES.contains(&word)
        || matches!(word, "hundred" | "thousand" | "plus")
        || word.chars().any(|c| c.is_ascii_digit())
}

/// How many digits a number has, without its plus.
pub(super) fn digit_count(number: &str) -> usize {
    number.chars().filter(char::is_ascii_digit).count()
}

/// A telephone number as it is read out: digit by digit, in groups with a pause between.
pub(super) fn spoken_digits(number: &str) -> String {
    let digits: Vec<&str> = number
        .chars()
        .filter_map(|c| c.to_digit(10))
        .filter_map(|n| ONES.get(n as usize).copied())
        .collect();
    let groups: &[usize] = match digits.len() {
        0..=5 => &[5],
        6 => &[3, 3],
        7 => &[3, 4],
        8 => &[4, 4],
        9 => &[3, 3, 3],
        10 => &[3, 3, 4],
        _ => &[2, 3, 3, 3, 4],
    };
    let (mut spoken, mut rest) = (Vec::new(), digits.as_slice());
    for &size in groups {
        let (group, after) = rest.split_at(size.min(rest.len()));
        if !group.is_empty() {
            spoken.push(group.join(" "));
        }
        rest = after;
    }
    let plus = if number.starts_with('+') { "plus " } else { "" };
    format!("{plus}{}", spoken.join(", "))
}

/// A time of day as it is spoken: "three twenty in the afternoon".
pub(super) fn spoken_time(hour: u8, minute: u8) -> String {
    let part = match hour {
        0..=11 => "in the morning",
        12..=17 => "in the afternoon",
        _ => "in the evening",
    };
    let on_dial = match hour % 12 {
        0 => 12,
        hour => hour,
    };
    match (hour, minute) {
        (0, 0) => "midnight".to_owned(),
        (12, 0) => "twelve noon".to_owned(),
        (_, 0) => format!("{} o'clock {part}", cardinal(on_dial)),
        (_, 1..=9) => format!("{} oh {} {part}", cardinal(on_dial), cardinal(minute)),
        _ => format!("{} {} {part}", cardinal(on_dial), cardinal(minute)),
    }
}

/// A date as it is spoken: "Thursday, the fifth of March 2026".
pub(super) fn spoken_date(date: Date, weekday: Weekday) -> String {
    format!(
        "{weekday}, the {} of {} {}",
        ordinal(date.day()),
        month(date.month()),
        date.year()
    )
}

/// A number below one hundred in words.
pub(super) fn cardinal(number: u8) -> String {
    if let Some(word) = ONES.get(usize::from(number)) {
        return (*word).to_owned();
    }
    let tens = TENS.iter().rev().find(|(_, value)| *value <= u32::from(number));
    let name = tens.map_or("", |(name, _)| name);
    match ONES.get(usize::from(number % 10)) {
        Some(unit) if !number.is_multiple_of(10) => format!("{name} {unit}"),
        _ => name.to_owned(),
    }
}

fn ordinal(day: u8) -> String {
    const IRREGULAR: [(u8, &str); 9] = [
        (1, "first"),
        (2, "second"),
        (3, "third"),
        (5, "fifth"),
        (8, "eighth"),
        (9, "ninth"),
        (12, "twelfth"),
        (20, "twentieth"),
        (30, "thirtieth"),
    ];
    if let Some((_, word)) = IRREGULAR.iter().find(|(n, _)| *n == day) {
        return (*word).to_owned();
    }
    if day > 20 {
        return format!("{} {}", cardinal(day - day % 10), ordinal(day % 10));
    }
    format!("{}th", cardinal(day))
}

fn month(month: Month) -> &'static str {
    match month {
        Month::January => "January",
        Month::February => "February",
        Month::March => "March",
        Month::April => "April",
        Month::May => "May",
        Month::June => "June",
        Month::July => "July",
        Month::August => "August",
        Month::September => "September",
        Month::October => "October",
        Month::November => "November",
        Month::December => "December",
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
    use super::*;

    fn runs(said: &str) -> Vec<String> {
        digit_runs(&words(said))
    }

    #[test]
    fn digits_are_heard_however_they_are_said() {
        for (said, expected) in [
            ("five five five one two three four", "5551234"),
            ("Five, five, five. One two three four.", "5551234"),
            ("555-1234", "5551234"),
            ("it's 555 1234 thanks", "5551234"),
            ("(020) 7946 0018", "02079460018"),
            ("+44 20 7946 0018", "+442079460018"),
            ("plus four four two oh", "+4420"),
            ("double seven triple five oh", "775550"),
            ("oh seven nine double oh", "07900"),
            ("zero nought nil", "000"),
            ("five to for three", "5243"),
            ("my number is five five five um one two", "55512"),
            ("twenty three forty five", "2345"),
            ("eight hundred five five five", "800555"),
            ("nineteen eighty four", "1984"),
            ("five five five dash one two and three", "555123"),
        ] {
            assert_eq!(runs(said), [expected], "{said}");
        }
    }

    #[test]
    fn words_that_only_sound_like_digits_are_left_alone() {
        for said in ["oh I want to ask for something", "to for too", "a message for you"] {
            assert_eq!(runs(said), [""; 0], "{said}");
        }
    }

    #[test]
    fn two_numbers_are_two_runs() {
        assert_eq!(runs("it's 555 1234 no sorry 555 1235"), ["5551234", "5551235"]);
    }

    #[test]
    fn numbers_are_read_out_in_groups() {
        assert_eq!(spoken_digits("555"), "five five five");
        assert_eq!(spoken_digits("5551234"), "five five five, one two three four");
        assert_eq!(spoken_digits("+4420"), "plus four four two zero");
        let long = spoken_digits("5550001234");
        assert_eq!(long, "five five five, zero zero zero, one two three four");
        assert_eq!(runs(&spoken_digits("+442079460018")), ["+442079460018"]);
    }

    #[test]
    fn times_and_dates_are_spoken() {
        for (hour, minute, spoken) in [
            (0, 0, "midnight"),
            (0, 5, "twelve oh five in the morning"),
            (9, 0, "nine o'clock in the morning"),
            (12, 0, "twelve noon"),
            (12, 30, "twelve thirty in the afternoon"),
            (15, 20, "three twenty in the afternoon"),
            (23, 59, "eleven fifty nine in the evening"),
        ] {
            assert_eq!(spoken_time(hour, minute), spoken);
        }
        let date = |day| Date::from_calendar_date(2026, Month::March, day).unwrap();
        let spoken = |day| spoken_date(date(day), date(day).weekday());
        assert_eq!(spoken(5), "Thursday, the fifth of March 2026");
        assert_eq!(spoken(12), "Thursday, the twelfth of March 2026");
        assert_eq!(spoken(14), "Saturday, the fourteenth of March 2026");
        assert_eq!(spoken(21), "Saturday, the twenty first of March 2026");
        assert_eq!(spoken(30), "Monday, the thirtieth of March 2026");
    }
}
