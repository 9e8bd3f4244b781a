//! What is taken out of a transcript, and what is not.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn redactor(kinds: &[Kind]) -> Redactor {
    Redactor::new(kinds.to_vec(), Vec::new()).unwrap()
}

fn all() -> Redactor {
    redactor(&[Kind::Card, Kind::Email, Kind::Phone])
}

fn check(redactor: &Redactor, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(redactor.redact(text), *expected, "{text}");
    }
}

#[test]
fn card_numbers_go_however_a_recogniser_writes_them() {
    check(
        &redactor(&[Kind::Card]),
        &[
            ("My card is 4111111111111111.", "My card is [card]."),
            ("It's 4111 1111 1111 1111, thanks", "It's [card], thanks"),
            ("4111-1111-1111-1111", "[card]"),
            ("3782 822463 10005 expires 12 27", "[card] expires 12 27"),
            ("4111, 1111, uh, 1111, 1111", "[card]"),
            (
                "four one one one one one one one one one one one one one one one please",
                "[card] please",
            ),
            (
                "Forty-one eleven, eleven eleven, eleven eleven, eleven eleven.",
                "[card].",
            ),
            (
                "four triple one double one double one triple one triple one double one",
                "[card]",
            ),
            ("5555 5555 5555 4444 12 27", "[card] 12 27"),
            ("two 4111 1111 1111 1111", "two [card]"),
            // With its security code or expiry in one.
            ("4111111111111111123", "[card]"),
            ("3782822463100051234", "[card]"),
            ("4111 1111 1111 1111123 thanks", "[card] thanks"),
            ("3782 822463 100051227", "[card]"),
        ],
    );
}

#[test]
fn a_number_without_a_fitting_check_digit_is_no_card() {
    check(
        &redactor(&[Kind::Card]),
        &[
            ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
            ("call 650 555 0199", "call 650 555 0199"),
            ("four of the five", "four of the five"),
        ],
    );
}

#[test]
fn phone_numbers_go_and_dates_and_money_stay() {
    check(
        &redactor(&[Kind::Phone]),
        &[
            ("call +1 (650) 555-0199 now", "call [phone] now"),
            ("(650) 555-0199", "[phone]"),
            ("six five oh, five five five, oh one nine nine.", "[phone]."),
            ("one eight hundred 555 0199", "[phone]"),
            ("0044 20 7946 0958", "[phone]"),
            ("on 2026-03-04 at 10:30", "on 2026-03-04 at 10:30"),
            ("that is $1234567", "that is $1234567"),
            ("￥１，２３４，５６７です", "￥１，２３４，５６７です"),
            ("1,234,567 people", "1,234,567 people"),
            ("from 1990 to 2020", "from 1990 to 2020"),
            ("room 415, second floor", "room 415, second floor"),
        ],
    );
}

#[test]
fn numbers_go_in_the_digits_of_any_script() {
    check(
        &all(),
        &[
            ("番号は４１１１ １１１１ １１１１ １１１１です", "番号は[card]です"),
            ("４１１１－１１１１－１１１１－１１１１", "[card]"),
            ("٤١١١ ١١١١ ١١١١ ١١١١", "[card]"),
            ("४१११ ११११ ११११ ११११", "[card]"),
            ("４１１１ 1111 १११１ ١١١１", "[card]"),
            ("電話は０３－１２３４－５６７８、内線１２", "電話は[phone]、内線１２"),
            ("٠٥٠ ١٢٣ ٤٥٦٧", "[phone]"),
            ("２０２６-０３-０４ でしたら", "２０２６-０３-０４ でしたら"),
        ],
    );
}

#[test]
fn addresses_go_written_or_spoken() {
    check(
        &redactor(&[Kind::Email]),
        &[
            ("It is ada.l+x@mail.example.co.uk. Thanks.", "It is [email]. Thanks."),
            ("write to jörg@exämple.de", "write to [email]"),
            ("ada dot lovelace at example dot com", "[email]"),
            ("so a d a at gmail.com please", "so [email] please"),
            ("ada at my dash host dot co dot uk", "[email]"),
            ("ada at sign example dot com", "[email]"),
            ("ada at-sign example.com, please", "[email], please"),
            ("ada@example dot com", "[email]"),
            ("ada at e x a m p l e dot com", "[email]"),
            ("It is a-d-a at E, X, A, M, P, L, E dot com.", "It is [email]."),
            ("ada at my dash h o s t dot c o dot u k okay", "[email] okay"),
            ("call me at 9 a.m. I will be there", "call me at 9 a.m. I will be there"),
            ("meet me at 5.30", "meet me at 5.30"),
            ("I am at home. Come", "I am at home. Come"),
        ],
    );
}

#[test]
fn configured_patterns_go_and_what_overlaps_goes_under_one_name() {
    let patterns = [r"(?i)policy\s+\w+", r"\d{4} 1111"].map(|pattern| Regex::new(pattern).unwrap());
    let redactor = Redactor::new(vec![Kind::Phone, Kind::Card], patterns.to_vec()).unwrap();
    check(
        &redactor,
        &[
            ("Policy AB12 and 4111 1111 1111 1111", "[redacted] and [card]"),
            ("9999 1111", "[phone]"),
            ("99 99 1111", "[phone]"),
        ],
    );
    assert!(Redactor::new(Vec::new(), Vec::new()).is_none());
}

#[test]
fn what_was_cut_off_in_a_number_goes_as_far_as_it_was_heard() {
    let redactor = redactor(&[Kind::Card]);
    let whole = "Fine. I have 4111 1111 1111 1111. Right?";
    for (heard, kept) in [
        ("Fine.", "Fine."),
        ("Fine. I have", "Fine. I have"),
        ("Fine. I have 4111", "Fine. I have [card]"),
        ("Fine. I have 4111 1111 1111", "Fine. I have [card]"),
        (whole, "Fine. I have [card]. Right?"),
        ("Something else: 4111", "Something else: 4111"),
    ] {
        assert_eq!(redactor.find_in_beginning(whole, heard).taken_out_of(heard), kept);
    }
}

#[test]
fn what_holds_nothing_of_it_is_not_even_copied() {
    assert!(matches!(
        all().redact("Good morning, how can I help?"),
        Cow::Borrowed(_)
    ));
}

/// Digits with a fitting check digit at the end.
fn with_check_digit(mut digits: Vec<u8>) -> Vec<u8> {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = u32::from(*digit) * if place % 2 == 0 { 2 } else { 1 };
            doubled / 10 + doubled % 10
        })
        .sum();
    digits.push(u8::try_from((10 - sum % 10) % 10).unwrap());
    digits
}

const WORDS: [&str; 10] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];

/// How a number may be written: where the groups end, what stands between them, which of them are words.
fn spoken(digits: &[u8], ends: &[bool], gaps: &[&str], words: &[bool]) -> String {
    let mut text = String::new();
    let mut in_word = false;
    for (place, digit) in digits.iter().enumerate() {
        let word = words[place % words.len()];
        let new_group = ends[place % ends.len()] || word || in_word;
        if place > 0 && new_group {
            text.push_str(gaps[place % gaps.len()]);
        }
        if word {
            text.push_str(WORDS[usize::from(*digit)]);
        } else {
            text.push(char::from(b'0' + digit));
        }
        in_word = word;
    }
    text
}

fn any_card() -> impl Strategy<Value = (Vec<u8>, String)> {
    let digits = proptest::collection::vec(0_u8..10, 12..=18).prop_map(with_check_digit);
    let gaps = proptest::collection::vec(select(vec![" ", "-", ", ", ". ", " - ", " uh ", ", um, "]), 1..4);
    let flags = || proptest::collection::vec(any::<bool>(), 1..7);
    (digits, flags(), gaps, flags()).prop_map(|(digits, ends, gaps, words)| {
        let text = spoken(&digits, &ends, &gaps, &words);
        (digits, text)
    })
}

#[test]
fn an_address_is_found_beside_a_number_that_goes() {
    let once = all().redact("one at one  dot xx00000000").into_owned();
    assert_eq!(once, "[email][phone]");
    assert_eq!(all().redact(&once), once);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_card_survives_however_it_is_grouped_and_whatever_stands_around_it(
        (_, card) in any_card(),
        before in "([a-z]{3,9} )*",
        after in "( [b-m]{4,9}\\.?)*",
    ) {
        let text = format!("{before}yes {card} okay{after}");
        let redacted = redactor(&[Kind::Card]).redact(&text).into_owned();
        prop_assert!(!redacted.contains(&card), "{text} -> {redacted}");
        let middle = redacted.split("yes ").last().and_then(|rest| rest.split(" okay").next()).unwrap_or_default();
        prop_assert_eq!(middle, "[card]");
    }

    #[test]
    fn digits_beside_a_card_do_not_hide_it((digits, _) in any_card(), lead in "[1-9][0-9]{0,3}", trail in "[0-9]{2,4}") {
        let card: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let text = format!("{lead} {card} {trail}");
        let redacted = redactor(&[Kind::Card]).redact(&text).into_owned();
        prop_assert!(!redacted.contains(&card), "{} -> {}", text, redacted);
    }

    #[test]
    fn digits_glued_to_a_card_do_not_hide_it((digits, _) in any_card(), lead in "([1-9][0-9]{0,3})?", trail in "[0-9]{1,4}") {
        let card: String = digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        let text = format!("{lead}{card}{trail}");
        prop_assert_eq!(redactor(&[Kind::Card]).redact(&text), "[card]", "{}", text);
    }

    #[test]
    fn a_card_in_the_digits_of_any_script_goes((digits, card) in any_card(), zero in select(vec!['０', '٠', '۰', '०', '০', '๐', '𝟎', '𝟘'])) {
        let other = |c: char| c.to_digit(10).and_then(|digit| char::from_u32(u32::from(zero) + digit)).unwrap_or(c);
        let text: String = card.chars().map(other).collect();
        prop_assert_eq!(redactor(&[Kind::Card]).redact(&text), "[card]", "{} {:?}", text, digits);
    }

    #[test]
    fn no_phone_number_survives(digits in proptest::collection::vec(0_u8..10, 7..=15), gap in select(vec![" ", "-", ".", ", "]), at in any::<Index>()) {
        let split = at.index(digits.len());
        let text = digits.iter().enumerate().fold(String::from("call "), |mut text, (place, digit)| {
            if place == split && place > 0 {
                text.push_str(gap);
            }
            text.push(char::from(b'0' + digit));
            text
        });
        let redacted = redactor(&[Kind::Phone]).redact(&text).into_owned();
        prop_assert_eq!(redacted, "call [phone]");
    }

    #[test]
    fn no_address_survives(name in "[a-z][a-z0-9]{1,8}", host in "[a-z]{2,9}", end in select(vec!["com", "org", "de"])) {
        let spelled = |word: &str| word.chars().map(String::from).collect::<Vec<_>>().join(" ");
        for text in [
            format!("{name}@{host}.{end}"),
            format!("{name} at {host} dot {end}"),
            format!("{name} at {host}.{end}"),
            format!("{name} at sign {host} dot {end}"),
            format!("{name} at {} dot {}", spelled(&host), spelled(end)),
        ] {
            prop_assert_eq!(redactor(&[Kind::Email]).redact(&text), "[email]", "{}", text);
        }
    }

    #[test]
    fn any_text_is_redacted_once_and_for_all(text in any::<String>()) {
        let once = all().redact(&text).into_owned();
        prop_assert_eq!(all().redact(&once), once.clone(), "{}", text);
    }

    #[test]
    fn any_numbers_and_signs_are_redacted_once_and_for_all(text in "([0-9]{1,6}|[٠-٩]{1,4}|[０-９]{1,4}|[-+(). ,@$]|one |double | at | sign | dot |x|[a-c] |2026-03-04){0,40}") {
        let once = all().redact(&text).into_owned();
        prop_assert_eq!(all().redact(&once), once.clone(), "{}", text);
    }

    #[test]
    fn words_without_numbers_or_addresses_stay_as_they_are(text in "([a-df-m]{4,9}[ ,.!?]){0,20}") {
        prop_assert_eq!(all().redact(&text), text.clone());
    }
}
