//! `X-Twilio-Signature` ("Webhooks security", <https://www.twilio.com/docs/usage/security#validating-requests>; checked
//! 2026-11-23 against twilio-python 9.13.0, which signs in the tests).
//!
//! It carries neither a time nor a nonce: the same request stays valid for ever, and nothing here bounds how often. Only
//! TLS keeps it from others. While the stream of its call is waited for, a repeat reserves nothing more; after that whoever
//! has one gets another slot and another stream token with it.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::{SignatureError, decode};
use crate::config::Secret;

/// Header of the signature, base64.
pub const SIGNATURE: &str = "x-twilio-signature";

/// Checks the signature of this URL and these form parameters.
///
/// Twilio signs the URL with or without its port depending on how it was entered; both are tried, as in Twilio's own
/// libraries.
///
/// # Errors
/// See [`SignatureError`]. There is no [`SignatureError::OutsideWindow`].
pub fn verify(
    auth_token: &Secret,
    url: &str,
    parameters: &[(String, String)],
    signature: Option<&str>,
) -> Result<(), SignatureError> {
    let signature = decode(signature.ok_or(SignatureError::Missing(SIGNATURE))?, SIGNATURE)?;
    let mut sorted: Vec<_> = parameters.iter().collect();
    sorted.sort();
    sorted.dedup();
    let valid = spellings(url).iter().any(|url| {
        let mut mac = keyed(auth_token);
        mac.update(url.as_bytes());
        for (name, value) in &sorted {
            mac.update(name.as_bytes());
            mac.update(value.as_bytes());
        }
        mac.verify_slice(&signature).is_ok()
    });
    if valid { Ok(()) } else { Err(SignatureError::Wrong) }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed(auth_token: &Secret) -> Hmac<Sha1> {
    Hmac::new_from_slice(auth_token.expose().as_bytes()).expect("HMAC takes any key length")
}

/// The URL as it is, and with its port removed, or the scheme's own added.
fn spellings(url: &str) -> Vec<String> {
    let mut spellings = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else {
        return spellings;
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // The last colon outside of an IPv6 address' brackets.
    let port_at = authority
        .rfind(':')
        .filter(|at| authority.rfind(']').is_none_or(|end| end < *at));
    spellings.push(match port_at {
        Some(at) => format!("{scheme}://{}{path}", authority.get(..at).unwrap_or(authority)),
        None => {
            let port = if scheme == "https" { 443 } else { 80 };
            format!("{scheme}://{authority}:{port}{path}")
        }
    });
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    /// Of Twilio's documentation, with the auth token 12345.
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    fn parameters() -> Vec<(String, String)> {
        [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn check(token: &str, url: &str, parameters: &[(String, String)], signature: &str) -> bool {
        verify(&Secret::new(token), url, parameters, Some(signature)).is_ok()
    }

    #[test]
    fn the_example_of_twilios_documentation_is_valid() {
        assert!(check("12345", URL, &parameters(), SIGNATURE));
    }

    #[test]
    fn the_order_of_the_parameters_does_not_matter() {
        let mut reversed = parameters();
        reversed.reverse();
        assert!(check("12345", URL, &reversed, SIGNATURE));
    }

    #[test]
    fn any_change_makes_it_invalid() {
        let mut changed = parameters();
        changed[2].1 = "1235".to_owned();
        assert!(!check("12345", URL, &changed, SIGNATURE));
        assert!(!check("12346", URL, &parameters(), SIGNATURE));
        assert!(!check(
            "12345",
            "https://mycompany.com/myapp.php?foo=1",
            &parameters(),
            SIGNATURE
        ));
        assert!(!check(
            "12345",
            "http://mycompany.com/myapp.php?foo=1&bar=2",
            &parameters(),
            SIGNATURE
        ));
        for signature in ["", "====", "RSOYDt4T1cUTdK1PDd93/VVr8B9=", "RSOY", &SIGNATURE[..27]] {
            assert!(!check("12345", URL, &parameters(), signature), "{signature:?}");
        }
    }

    #[test]
    fn a_url_signed_without_its_port_is_valid_with_it() {
        let with_port = "https://mycompany.com:8443/myapp.php?foo=1&bar=2";
        assert!(check("12345", with_port, &parameters(), SIGNATURE));
    }

    #[test]
    fn ports_are_found_where_they_are() {
        // url, the other spelling
        let cases = [
            ("https://a.b/c:d", "https://a.b:443/c:d"),
            ("http://a.b", "http://a.b:80"),
            ("https://a.b:8443?x=1", "https://a.b?x=1"),
            ("http://[::1]:80/x", "http://[::1]/x"),
            ("http://[::1]/x", "http://[::1]:80/x"),
        ];
        for (url, other) in cases {
            assert_eq!(spellings(url), [url, other]);
        }
    }
}
