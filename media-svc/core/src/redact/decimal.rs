//! Digits of all scripts: recognition of Japanese writes full-width ones, of Arabic or Hindi those of its script.

/// The zero of every set of decimal digits (general category Nd of Unicode 16), in order. The digits of a set follow each
/// other.
const ZEROS: &[char] = &[
    '\u{30}',
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19d0}',
    '\u{1a80}',
    '\u{1a90}',
    '\u{1b50}',
    '\u{1bb0}',
    '\u{1c40}',
    '\u{1c50}',
    '\u{a620}',
    '\u{a8d0}',
    '\u{a900}',
    '\u{a9d0}',
    '\u{a9f0}',
    '\u{aa50}',
    '\u{abf0}',
    '\u{ff10}',
    '\u{104a0}',
    '\u{10d30}',
    '\u{10d40}',
    '\u{11066}',
    '\u{110f0}',
    '\u{11136}',
    '\u{111d0}',
    '\u{112f0}',
    '\u{11450}',
    '\u{114d0}',
    '\u{11650}',
    '\u{116c0}',
    '\u{116d0}',
    '\u{116da}',
    '\u{11730}',
    '\u{118e0}',
    '\u{11950}',
    '\u{11bf0}',
    '\u{11c50}',
    '\u{11d50}',
    '\u{11da0}',
    '\u{11f50}',
    '\u{16130}',
    '\u{16a60}',
    '\u{16ac0}',
    '\u{16b50}',
    '\u{16d70}',
    '\u{1ccf0}',
    '\u{1d7ce}',
    '\u{1d7d8}',
    '\u{1d7e2}',
    '\u{1d7ec}',
    '\u{1d7f6}',
    '\u{1e140}',
    '\u{1e2f0}',
    '\u{1e4f0}',
    '\u{1e5f1}',
    '\u{1e950}',
    '\u{1fbf0}',
];

/// What a decimal digit of any script is worth.
pub(super) fn digit(c: char) -> Option<u8> {
    let set = ZEROS.partition_point(|zero| *zero <= c).checked_sub(1)?;
    let worth = u32::from(c).checked_sub(u32::from(*ZEROS.get(set)?))?;
    u8::try_from(worth).ok().filter(|worth| *worth < 10)
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn every_decimal_digit_of_unicode_has_its_worth_and_nothing_else_has_one() {
        let decimal = Regex::new(r"^\p{Nd}$").unwrap();
        let mut text = [0; 4];
        for c in '\0'..=char::MAX {
            assert_eq!(digit(c).is_some(), decimal.is_match(c.encode_utf8(&mut text)), "{c:?}");
        }
        for set in [
            "0123456789",
            "０１２３４５６７８９",
            "٠١٢٣٤٥٦٧٨٩",
            "०१२३४५६७८९",
            "𝟶𝟷𝟸𝟹𝟺𝟻𝟼𝟽𝟾𝟿",
        ] {
            let worth: Vec<u8> = set.chars().filter_map(digit).collect();
            assert_eq!(worth, (0..10).collect::<Vec<_>>(), "{set}");
        }
    }
}
