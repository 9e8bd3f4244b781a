//! `telnyx-signature-ed25519` over `timestamp|body` (Telnyx developer documentation, "Receiving webhooks", section
//! "Verify an Ed25519 signature", and "TeXML call answered" of the API reference; checked 2026-11-23
//! against telnyx-python 4.189.0, which verifies in the tests).

use std::time::{Duration, SystemTime};

use ring::signature::{ED25519, UnparsedPublicKey};

use super::{Once, SignatureError, check_age, decode};

/// Header of the signature, base64.
pub const SIGNATURE: &str = "telnyx-signature-ed25519";
/// Header of the time of signing, Unix seconds.
pub const TIMESTAMP: &str = "telnyx-timestamp";

/// A request is taken this long after it was signed, and as long before, because clocks differ: the five minutes of
/// Telnyx's own libraries.
const WINDOW: Duration = Duration::from_secs(300);

/// An account's public key: 32 bytes of base64, as the portal shows it.
///
/// # Errors
/// [`SignatureError::Malformed`] when it is anything else.
pub fn public_key(text: &str) -> Result<Vec<u8>, SignatureError> {
    let key = decode(text.trim(), "telnyx.public_key")?;
    if key.len() == 32 {
        Ok(key)
    } else {
        Err(SignatureError::Malformed("telnyx.public_key"))
    }
}

/// Checks the raw body of a webhook.
///
/// # Errors
/// See [`SignatureError`].
pub fn verify(
    key: &[u8],
    timestamp: Option<&str>,
    signature: Option<&str>,
    body: &[u8],
    now: SystemTime,
) -> Result<Once, SignatureError> {
    let signature = decode(signature.ok_or(SignatureError::Missing(SIGNATURE))?, SIGNATURE)?;
    let timestamp = timestamp.ok_or(SignatureError::Missing(TIMESTAMP))?;
    let signed_at = timestamp.parse().map_err(|_| SignatureError::Malformed(TIMESTAMP))?;
    let signed = [timestamp.as_bytes(), b"|", body].concat();
    UnparsedPublicKey::new(&ED25519, key)
        .verify(&signed, &signature)
        .map_err(|_| SignatureError::Wrong)?;
    check_age(signed_at, now, WINDOW)?;
    Ok(Once {
        // Of the bytes: one signature has several spellings in base64.
        name: format!("telnyx:{}", hex::encode(&signature)),
        window: WINDOW * 2,
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    const BODY: &[u8] = b"CallSid=v3%3Aabc&From=%2B15550001111";

    fn pair() -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
    }

    fn signed(timestamp: &str, body: &[u8]) -> String {
        let message = [timestamp.as_bytes(), b"|", body].concat();
        STANDARD.encode(pair().sign(&message))
    }

    fn check(timestamp: &str, signature: &str, body: &[u8], now: u64) -> Result<Once, SignatureError> {
        let key = public_key(&STANDARD.encode(pair().public_key())).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(now);
        verify(&key, Some(timestamp), Some(signature), body, now)
    }

    #[test]
    fn a_signed_body_is_valid_for_five_minutes_and_named_by_its_signature() {
        let signature = signed("1000", BODY);
        let once = check("1000", &signature, BODY, 1000).unwrap();
        assert_eq!(check("1000", &signature, BODY, 1300), Ok(once.clone()));
        assert_eq!(check("1000", &signature, BODY, 700), Ok(once));
        for now in [699, 1301] {
            assert_eq!(
                check("1000", &signature, BODY, now),
                Err(SignatureError::OutsideWindow(301))
            );
        }
    }

    #[test]
    fn any_change_makes_it_invalid() {
        let signature = signed("1000", BODY);
        assert_eq!(check("1001", &signature, BODY, 1000), Err(SignatureError::Wrong));
        assert_eq!(
            check("1000", &signature, b"CallSid=x", 1000),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            check("1000", &signed("1000", b""), BODY, 1000),
            Err(SignatureError::Wrong)
        );
        assert_eq!(check("1000", "AAAA", BODY, 1000), Err(SignatureError::Wrong));
        for (timestamp, signature) in [("1000", "?"), ("soon", &signature)] {
            let refused = check(timestamp, signature, BODY, 1000).unwrap_err();
            assert_eq!(refused.kind(), "malformed", "{timestamp} {signature}");
        }
    }

    #[test]
    fn a_request_without_its_headers_is_refused_for_that() {
        let now = SystemTime::now();
        let none = verify(&[0; 32], Some("1"), None, BODY, now);
        assert_eq!(none, Err(SignatureError::Missing(SIGNATURE)));
        let none = verify(&[0; 32], None, Some("AAAA"), BODY, now);
        assert_eq!(none, Err(SignatureError::Missing(TIMESTAMP)));
    }

    #[test]
    fn a_key_that_is_none_is_found_at_start() {
        for key in ["", "abc", "AAAA", "not base64 at all"] {
            assert!(public_key(key).is_err(), "{key}");
        }
    }
}
