//! Phone numbers.

/// Whether a number is written as E.164 has it: `+`, a country code that does not start with 0, and 7 to 15 digits in
/// all (ITU-T E.164, section 6.2).
pub fn is_e164(number: &str) -> bool {
    let Some(digits) = number.strip_prefix('+') else {
        return false;
    };
    (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_countries_pass_and_nothing_else_does() {
        for number in ["+15550001111", "+442079460000", "+2905550", "+123456789012345"] {
            assert!(is_e164(number), "{number}");
        }
        for other in [
            "",
            "+",
            "15550001111",
            "+05550001111",
            "+123456",
            "+1234567890123456",
            "+1 555 000 1111",
            "+1555000111a",
            "+1555000111\u{661}",
            "sip:a@b.c",
            "++15550001111",
        ] {
            assert!(!is_e164(other), "{other:?}");
        }
    }
}
