//! E-mail addresses as recognisers write them.

use std::sync::LazyLock;

use regex::Regex;

/// `ada.l@example.com`; the parts of RFC 5322's `dot-atom` that people use, in any script.
const WRITTEN: &str = r"[\p{L}\p{N}._%+'’-]+\s?@\s?[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+";

/// `ada dot l at example dot com`, `a d a at sign e x a m p l e dot c o m`, `ada@example dot com`. A word, `at` and a domain
/// are taken for an address, also in "look at example.com". What stands behind its last letter may be digits: of a number
/// that goes, too.
const SPOKEN: &str = concat!(
    r"(?i)(?:\b\w\b[\s.,-]+)*[\w.+'’-]+(?:\s+(?:dot|point|underscore|dash|hyphen|minus|plus)\s+[\w-]+)*",
    r"(?:\s+at(?:[\s-]+sign)?\s+|\s*@\s*)",
    r"(?:\b\w\b[\s.,-]+)*[\w-]+(?:\s+(?:dash|hyphen|minus)\s+(?:\b\w\b[\s.,-]+)*[\w-]+)*",
    r"(?:(?:[.,]?\s+dot\s+(?:\b\w\b[\s,-]+)*|\.)[\w-]+)*",
    r"(?:[.,]?\s+dot\s+(?:\p{L}{2,}|\p{L}(?:[\s,-]+\p{L}(?:\b|\p{N}+))+)|\.\p{L}{2,})"
);

static ADDRESSES: LazyLock<[Regex; 2]> = LazyLock::new(|| [compiled(WRITTEN), compiled(SPOKEN)]);

#[expect(clippy::expect_used, reason = "two constants, both used by the tests of this module")]
fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// Where addresses are.
pub(super) fn find(text: &str) -> Vec<(usize, usize)> {
    let found = ADDRESSES.iter().flat_map(|pattern| pattern.find_iter(text));
    found.map(|found| (found.start(), found.end())).collect()
}
