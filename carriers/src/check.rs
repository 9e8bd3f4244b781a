//! What may go into a request at all. Ids come from the network and end up in paths: an id like `..` would turn "end
//! this call" into "end all calls" at a provider whose collection takes the same verb.

use crate::error::CarrierError;

/// Longest id of any provider is Telnyx's, about 70 characters.
const LONGEST_CALL_ID: usize = 256;
/// E.164: at most 15 digits.
const LONGEST_NUMBER: usize = 15;
const SHORTEST_NUMBER: usize = 3;
const LONGEST_ADDRESS: usize = 255;
/// More digits than any menu or card number wants at once.
const LONGEST_DIGITS: usize = 64;

/// A provider's call id: letters, digits and `-_:.=`, and not only dots. What is none names no call.
pub(crate) fn call_id(id: &str) -> Result<(), CarrierError> {
    let fits = !id.is_empty() && id.len() <= LONGEST_CALL_ID;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.=".contains(&byte);
    if fits && id.bytes().all(known) && id.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err(CarrierError::NotFound)
    }
}

/// Whether a call can be placed or transferred there: E.164 (`+14155550100`, the plus may be missing), or a SIP address
/// (`sip:desk@example.com`).
pub fn is_destination(to: &str) -> bool {
    if let Some(address) = to.strip_prefix("sip:").or_else(|| to.strip_prefix("sips:")) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@.-_+:;=".contains(&byte);
        return to.len() <= LONGEST_ADDRESS && !address.is_empty() && address.bytes().all(plain);
    }
    let digits = to.strip_prefix('+').unwrap_or(to);
    (SHORTEST_NUMBER..=LONGEST_NUMBER).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether these are keys of a telephone: `0-9`, `*`, `#` and `A-D` (ITU-T Q.23), at most 64.
pub fn is_digits(digits: &str) -> bool {
    let key = |byte: u8| byte.is_ascii_digit() || b"*#ABCD".contains(&byte);
    (1..=LONGEST_DIGITS).contains(&digits.len()) && digits.bytes().all(key)
}

pub(crate) fn destination(to: &str) -> Result<(), CarrierError> {
    if is_destination(to) {
        Ok(())
    } else {
        Err(CarrierError::Invalid(
            "the destination is neither a phone number (+14155550100) nor a SIP address (sip:desk@example.com)",
        ))
    }
}

pub(crate) fn digits(digits: &str) -> Result<(), CarrierError> {
    if is_digits(digits) {
        Ok(())
    } else {
        Err(CarrierError::Invalid("digits are 0-9, *, # and A-D, at most 64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_would_change_the_path_names_no_call() {
        for id in ["", ".", "..", "../Call", "a/b", "a?b", "a#b", "a%2fb", "a b", "ä"] {
            assert!(call_id(id).is_err(), "{id}");
        }
        for id in [
            "CA123",
            "v3:MdI91X4lWFEs7IgbBEOT9M4AigoY08M0WWZFISt1Yw2axZ_IiE4pqg",
            "4a4b-11",
        ] {
            assert!(call_id(id).is_ok(), "{id}");
        }
    }

    #[test]
    fn numbers_and_sip_addresses_are_destinations_and_nothing_else_is() {
        for to in [
            "+14155550100",
            "911",
            "4930123456",
            "sip:desk@example.com",
            "sips:a@b:5061",
        ] {
            assert!(is_destination(to), "{to}");
        }
        for to in [
            "",
            "+",
            "12",
            "+1 415",
            "+1234567890123456",
            "sip:",
            "sip:a<b>@c",
            "http://x",
            "+1415555010a",
        ] {
            assert!(!is_destination(to), "{to}");
        }
    }

    #[test]
    fn digits_are_keys_of_a_telephone() {
        assert!(is_digits("0123456789*#ABCD"));
        for digits in ["", "a", "1 2", "1w2", &"1".repeat(65)] {
            assert!(!is_digits(digits), "{digits}");
        }
    }
}
