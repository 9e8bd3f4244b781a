//! `X-Plivo-Signature-V3` (Plivo documentation, "Voice: XML request: validation" and "Signature validation", and the
//! algorithm as plivo-python 4.63.0 publishes it, which signs in the tests; checked 2026-11-23).
//!
//! V2 of the signature leaves the parameters out and is called deprecated for voice: it is not accepted.

use std::time::Duration;

use hmac::Mac;

use super::{Once, SignatureError, decode, hmac_sha256};
use crate::config::Secret;

/// Header of signatures made with the account's or subaccount's own auth token; several are separated by commas.
pub const SIGNATURE: &str = "x-plivo-signature-v3";
/// Header of signatures made with the main account's auth token.
pub const MAIN_ACCOUNT_SIGNATURE: &str = "x-plivo-signature-ma-v3";
/// Header of the random text that makes a request unique.
pub const NONCE: &str = "x-plivo-signature-v3-nonce";

/// Plivo's requests carry no time, so a nonce is remembered for a day: longer than any call of the default length.
const WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Longest accepted nonce in bytes: it is remembered.
const MAX_NONCE_BYTES: usize = 128;

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Whether it is a POST: then `form` is signed beside the URL.
    pub is_post: bool,
    /// The URL as Plivo called it, up to the question mark.
    pub base_url: &'a str,
    /// The URL's query, decoded.
    pub query: &'a [(String, String)],
    /// The form in the body, decoded.
    pub form: &'a [(String, String)],
}

/// Checks a request; `signatures` are the values of both headers.
///
/// # Errors
/// See [`SignatureError`]. There is no [`SignatureError::OutsideWindow`].
pub fn verify(
    auth_token: &Secret,
    signed: Signed<'_>,
    nonce: Option<&str>,
    signatures: &[&str],
) -> Result<Once, SignatureError> {
    let nonce = nonce
        .filter(|nonce| !nonce.is_empty())
        .ok_or(SignatureError::Missing(NONCE))?;
    if signatures.is_empty() {
        return Err(SignatureError::Missing(SIGNATURE));
    }
    if nonce.len() > MAX_NONCE_BYTES {
        return Err(SignatureError::Malformed(NONCE));
    }
    let text = signed.text();
    let mut all = signatures.iter().flat_map(|header| header.split(',')).map(str::trim);
    let valid = all.any(|signature| {
        let mac = hmac_sha256(
            auth_token.expose().as_bytes(),
            &[text.as_bytes(), b".", nonce.as_bytes()],
        );
        decode(signature, SIGNATURE).is_ok_and(|signature| mac.verify_slice(&signature).is_ok())
    });
    if valid {
        Ok(Once {
            name: format!("plivo:{nonce}"),
            window: WINDOW,
        })
    } else {
        Err(SignatureError::Wrong)
    }
}

impl Signed<'_> {
    /// URL, then the sorted query, then the sorted form. A question mark and a dot keep the parts apart, and Plivo
    /// writes the question mark before a form even where there is no query.
    fn text(&self) -> String {
        let has_form = self.is_post && !self.form.is_empty();
        let query: Vec<_> = sorted(self.query)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut text = self.base_url.to_owned();
        if !query.is_empty() || has_form {
            text.push('?');
        }
        text.push_str(&query.join("&"));
        if !query.is_empty() && has_form {
            text.push('.');
        }
        if has_form {
            sorted(self.form).for_each(|(name, value)| text.extend([name, value]));
        }
        text
    }
}

fn sorted(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    let mut pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    pairs.sort_unstable();
    pairs.into_iter()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn text(is_post: bool, query: &[(&str, &str)], form: &[(&str, &str)]) -> String {
        let (query, form) = (pairs(query), pairs(form));
        let signed = Signed {
            is_post,
            base_url: "https://a.example/x",
            query: &query,
            form: &form,
        };
        signed.text()
    }

    #[test]
    fn the_signed_text_is_plivos() {
        assert_eq!(text(false, &[], &[]), "https://a.example/x");
        assert_eq!(text(false, &[("b", "2"), ("a", "")], &[]), "https://a.example/x?a=&b=2");
        assert_eq!(
            text(true, &[], &[("To", "2"), ("From", "1")]),
            "https://a.example/x?From1To2"
        );
        assert_eq!(
            text(true, &[("q", "z y")], &[("To", "2")]),
            "https://a.example/x?q=z y.To2"
        );
        assert_eq!(text(true, &[("q", "z")], &[]), "https://a.example/x?q=z");
    }

    #[test]
    fn one_good_signature_of_several_is_enough() {
        let token = Secret::new("token");
        let form = pairs(&[("CallUUID", "u")]);
        let signed = Signed {
            is_post: true,
            base_url: "https://a.example/x",
            query: &[],
            form: &form,
        };
        let mac = hmac_sha256(b"token", &[b"https://a.example/x?CallUUIDu.n1"]);
        let good = STANDARD.encode(mac.finalize().into_bytes());

        let once = verify(&token, signed, Some("n1"), &["AAAA", &format!("AAAA, {good}")]).unwrap();
        assert_eq!(once.name, "plivo:n1");
        assert_eq!(verify(&token, signed, Some("n2"), &[&good]), Err(SignatureError::Wrong));
        assert_eq!(
            verify(&Secret::new("other"), signed, Some("n1"), &[&good]),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            verify(&token, signed, None, &[&good]),
            Err(SignatureError::Missing(NONCE))
        );
        assert_eq!(
            verify(&token, signed, Some("n1"), &[]),
            Err(SignatureError::Missing(SIGNATURE))
        );
        let long = "n".repeat(129);
        assert_eq!(
            verify(&token, signed, Some(&long), &[&good]),
            Err(SignatureError::Malformed(NONCE))
        );
    }
}
