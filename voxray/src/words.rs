//! Word error rate: how much of what was said was understood.

/// Errors over words of the reference: substitutions, deletions and insertions of the cheapest alignment. 0 is
/// perfect; more than 1 is possible. An empty reference gives 0 for an empty hypothesis and the number of words
/// otherwise.
///
/// Before comparing, both sides are lower-cased, punctuation is dropped (hyphens separate words), numerals below a
/// million, ordinals and a few titles become words, telephone numbers become digits, and contractions lose their
/// apostrophe.
pub fn word_error_rate(reference: &str, hypothesis: &str) -> f64 {
    let (errors, words) = word_errors(reference, hypothesis);
    errors as f64 / words.max(1) as f64
}

/// Errors and words of the reference, to add up over several recordings.
pub fn word_errors(reference: &str, hypothesis: &str) -> (usize, usize) {
    let (reference, hypothesis) = (normalise(reference), normalise(hypothesis));
    // Edit distance row by row: `row[j]` is the cost of turning the reference so far into `hypothesis[..j]`.
    let mut row: Vec<usize> = (0..=hypothesis.len()).collect();
    for (i, wanted) in reference.iter().enumerate() {
        let mut next = vec![i + 1];
        for (heard, costs) in hypothesis.iter().zip(row.windows(2)) {
            let &[diagonal, above] = costs else {
                continue;
            };
            let left = next.last().copied().unwrap_or(i + 1);
            next.push((diagonal + usize::from(wanted != heard)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    (row.last().copied().unwrap_or(0), reference.len())
}

/// The words that are compared.
pub fn normalise(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    // A comma or point between digits belongs to the number; any other sign parts words.
    let text = text
        .to_lowercase()
        .replace(['\'', '\u{2019}'], "")
        .replace("good-bye", "goodbye");
    let text = spelled_out(&text);
    let chars: Vec<char> = text.chars().collect();
    let mut token = String::new();
    for (index, &c) in chars.iter().enumerate() {
        let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_digit);
        if c.is_alphanumeric() {
            token.push(c);
        } else if c == ',' && digit(index.checked_sub(1)) && digit(Some(index + 1)) {
            // 1,000
        } else {
            if c == '%' {
                add(&token, &mut words);
                token = "percent".to_owned();
            }
            add(&token, &mut words);
            token.clear();
        }
    }
    add(&token, &mut words);
    words
}

/// Seven digits and more, hyphens between them or not, are a telephone number: they are said one by one.
fn spelled_out(text: &str) -> String {
    const TELEPHONE_DIGITS: usize = 7;
    text.split(' ')
        .map(|word| {
            let number = word.trim_end_matches(|c: char| !c.is_ascii_digit());
            let digits = number.chars().filter(char::is_ascii_digit).count();
            let telephone = digits >= TELEPHONE_DIGITS && number.chars().all(|c| c.is_ascii_digit() || c == '-');
            if telephone {
                number
                    .chars()
                    .filter(char::is_ascii_digit)
                    .flat_map(|digit| [digit, ' '])
                    .collect()
            } else {
                word.to_owned()
            }
        })
        .collect::<Vec<String>>()
        .join(" ")
}

fn add(token: &str, words: &mut Vec<String>) {
    if token.is_empty() {
        return;
    }
    let word = match token {
        "mr" => "mister",
        "mrs" => "missus",
        "dr" => "doctor",
        "st" => "saint",
        "ok" => "okay",
        other => other,
    };
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    match (digits.parse::<u32>(), word.get(digits.len()..)) {
        (Ok(number), Some("")) if number < 1_000_000 => cardinal(number, words),
        (Ok(number), Some("st" | "nd" | "rd" | "th")) if number < 1_000_000 => {
            cardinal(number, words);
            if let Some(last) = words.pop() {
                words.push(ordinal(&last));
            }
        }
        _ => words.push(word.to_owned()),
    }
}

const SMALL: [&str; 20] = [
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
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

fn cardinal(number: u32, words: &mut Vec<String>) {
    let name = |table: &[&str], index: u32| {
        usize::try_from(index)
            .ok()
            .and_then(|index| table.get(index))
            .copied()
            .unwrap_or_default()
            .to_owned()
    };
    match number {
        0..20 => words.push(name(&SMALL, number)),
        20..100 => {
            words.push(name(&TENS, number / 10));
            if !number.is_multiple_of(10) {
                cardinal(number % 10, words);
            }
        }
        100..1_000 => {
            cardinal(number / 100, words);
            words.push("hundred".to_owned());
            if !number.is_multiple_of(100) {
                cardinal(number % 100, words);
            }
        }
        _ => {
            cardinal(number / 1_000, words);
            words.push("thousand".to_owned());
            if !number.is_multiple_of(1_000) {
                cardinal(number % 1_000, words);
            }
        }
    }
}

fn ordinal(word: &str) -> String {
    match word {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        other => match other.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{other}th"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telephone_number_is_its_digits() {
        let said = "two three four, seven six one eight";
        assert_eq!(word_errors(said, "234-7618."), (0, 7));
        assert_eq!(word_errors(said, "2347618"), (0, 7));
        assert_eq!(word_errors("nineteen ninety nine", "1999").1, 3);
    }

    #[test]
    fn the_same_words_written_differently_are_no_error() {
        assert_eq!(
            word_error_rate("mister smith it is twenty two degrees", "Mr. Smith, it is 22 degrees!"),
            0.0
        );
        assert_eq!(word_error_rate("ill disposed", "Ill-disposed."), 0.0);
        assert_eq!(word_error_rate("dont", "Don\u{2019}t"), 0.0);
        assert_eq!(word_error_rate("one thousand two hundred five", "1,205"), 0.0);
        assert_eq!(word_error_rate("the twenty second of may", "the 22nd of May"), 0.0);
        assert_eq!(word_error_rate("the thirtieth", "the 30th"), 0.0);
    }

    #[test]
    fn each_kind_of_error_counts_one() {
        assert_eq!(word_errors("a b c d", "a x c d"), (1, 4));
        assert_eq!(word_errors("a b c d", "a c d"), (1, 4));
        assert_eq!(word_errors("a b c d", "a b b c d"), (1, 4));
        assert_eq!(word_errors("a b c d", ""), (4, 4));
    }

    #[test]
    fn the_cheapest_alignment_counts() {
        assert_eq!(word_errors("the cat sat on the mat", "cat sat on a mat mat"), (3, 6));
    }

    #[test]
    fn an_empty_reference_counts_what_was_made_up() {
        assert_eq!(word_error_rate("", ""), 0.0);
        assert_eq!(word_error_rate("", "you you"), 2.0);
    }

    #[test]
    fn codes_are_left_alone() {
        assert_eq!(normalise("b2b 4g"), ["b2b", "4g"]);
    }
}
