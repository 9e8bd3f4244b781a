//! Signed webhooks of Vonage: a JWT, HMAC-SHA256 with the account's signature secret (Vonage developer documentation,
//! "Webhooks", section "Decoding signed webhooks", and the support article "How do I verify that the Voice API Webhook
//! request and its payload has not been tampered during transit"; checked 2026-11-23
//! against vonage-jwt 1.1.5 for Python, which verifies in the tests).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Once, SignatureError, check_age, hmac_sha256};
use crate::config::Secret;

/// Header of the token, `Bearer JWT`.
pub const AUTHORIZATION: &str = "authorization";

/// A token is taken this long after `iat`, and as long before, because clocks differ.
const WINDOW: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    #[serde(default)]
    exp: Option<u64>,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    jti: Option<String>,
    /// SHA-256 of the payload, hexadecimal.
    #[serde(default)]
    payload_hash: Option<String>,
}

/// Checks a request by its `Authorization` header. `payloads` are the spellings of what `payload_hash` may be the hash
/// of: the body of a POST, the query of a GET as JSON. A body that the token says nothing about is refused: it could be
/// anybody's.
///
/// # Errors
/// See [`SignatureError`].
pub fn verify(
    secret: &Secret,
    authorization: Option<&str>,
    has_body: bool,
    payloads: &[&[u8]],
    now: SystemTime,
) -> Result<Once, SignatureError> {
    let malformed = SignatureError::Malformed(AUTHORIZATION);
    let authorization = authorization.ok_or(SignatureError::Missing(AUTHORIZATION))?;
    let (scheme, token) = authorization.split_once(' ').ok_or_else(|| malformed.clone())?;
    let (signed, signature) = token.trim().rsplit_once('.').ok_or_else(|| malformed.clone())?;
    let (header, claims) = signed.split_once('.').ok_or_else(|| malformed.clone())?;
    // Whatever else the header asks for ("none", an RSA key that would be our secret) is not what was agreed on.
    let header: Header = part(header)?;
    if !scheme.eq_ignore_ascii_case("bearer") || header.alg != "HS256" {
        return Err(malformed);
    }
    let signature_bytes = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed)?;
    hmac_sha256(secret.expose().as_bytes(), &[signed.as_bytes()])
        .verify_slice(&signature_bytes)
        .map_err(|_| SignatureError::Wrong)?;
    let claims: Claims = part(claims)?;
    check_age(claims.iat, now, WINDOW)?;
    check_life(&claims, now)?;
    match &claims.payload_hash {
        Some(hash) if payloads.iter().any(|payload| is_hash_of(hash, payload)) => {}
        None if !has_body => {}
        Some(_) | None => return Err(SignatureError::Wrong),
    }
    Ok(Once {
        name: format!("vonage:{}", claims.jti.unwrap_or_else(|| hex::encode(&signature_bytes))),
        window: WINDOW * 2,
    })
}

fn part<T: DeserializeOwned>(text: &str) -> Result<T, SignatureError> {
    let malformed = || SignatureError::Malformed(AUTHORIZATION);
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed())?;
    serde_json::from_slice(&json).map_err(|_| malformed())
}

fn check_life(claims: &Claims, now: SystemTime) -> Result<(), SignatureError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let late = claims.exp.map_or(0, |exp| now.saturating_sub(exp));
    let early = claims.nbf.map_or(0, |nbf| nbf.saturating_sub(now + WINDOW.as_secs()));
    match late.max(early) {
        0 => Ok(()),
        apart => Err(SignatureError::OutsideWindow(apart)),
    }
}

fn is_hash_of(hash: &str, payload: &[u8]) -> bool {
    let ours = hex::encode(Sha256::digest(payload));
    bool::from(ours.as_bytes().ct_eq(hash.to_ascii_lowercase().as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BODY: &[u8] = br#"{"uuid":"u","status":"ringing"}"#;

    fn token(secret: &str, header: &Value, claims: &Value) -> String {
        let text = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", text(header), text(claims));
        let mac = hmac_sha256(secret.as_bytes(), &[signed.as_bytes()]);
        format!(
            "Bearer {signed}.{}",
            URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
        )
    }

    fn hs256() -> Value {
        json!({"alg": "HS256", "typ": "JWT"})
    }

    fn claims() -> Value {
        json!({"iat": 1000, "jti": "j1", "iss": "Vonage", "payload_hash": hex::encode(Sha256::digest(BODY))})
    }

    fn check(authorization: &str, body: &[u8], now: u64) -> Result<Once, SignatureError> {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        verify(&Secret::new("s"), Some(authorization), !body.is_empty(), &[body], now)
    }

    #[test]
    fn a_signed_body_is_valid_for_five_minutes_and_named_by_its_token() {
        let authorization = token("s", &hs256(), &claims());
        assert_eq!(check(&authorization, BODY, 1300).unwrap().name, "vonage:j1");
        assert_eq!(
            check(&authorization, BODY, 1301),
            Err(SignatureError::OutsideWindow(301))
        );
        assert_eq!(
            check(&authorization, BODY, 699),
            Err(SignatureError::OutsideWindow(301))
        );
    }

    #[test]
    fn a_changed_body_or_one_the_token_does_not_vouch_for_is_refused() {
        let authorization = token("s", &hs256(), &claims());
        assert_eq!(check(&authorization, b"{}", 1000), Err(SignatureError::Wrong));
        let silent = token("s", &hs256(), &json!({"iat": 1000}));
        assert_eq!(check(&silent, BODY, 1000), Err(SignatureError::Wrong));
        assert!(check(&silent, b"", 1000).is_ok());
    }

    #[test]
    fn another_secret_another_algorithm_or_none_is_refused() {
        assert_eq!(
            check(&token("t", &hs256(), &claims()), BODY, 1000),
            Err(SignatureError::Wrong)
        );
        for alg in ["none", "RS256", "HS512", "hs256"] {
            let refused = check(&token("s", &json!({"alg": alg}), &claims()), BODY, 1000);
            assert_eq!(refused, Err(SignatureError::Malformed(AUTHORIZATION)), "{alg}");
        }
        for junk in [
            "",
            "Bearer",
            "Bearer a.b.c",
            "Basic abc",
            "Bearer ..",
            "Bearer e30.e30.",
        ] {
            assert!(check(junk, BODY, 1000).is_err(), "{junk}");
        }
        let none = verify(&Secret::new("s"), None, true, &[BODY], SystemTime::now());
        assert_eq!(none, Err(SignatureError::Missing(AUTHORIZATION)));
    }

    #[test]
    fn a_token_is_void_after_its_own_end() {
        let authorization = token("s", &hs256(), &json!({"iat": 1000, "exp": 1010}));
        assert!(check(&authorization, b"", 1010).is_ok());
        assert_eq!(check(&authorization, b"", 1011), Err(SignatureError::OutsideWindow(1)));
    }
}
