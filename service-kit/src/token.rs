//! Short-lived HMAC-SHA256 tokens for sockets that cannot carry headers (`/ws?token=`, phone media streams).
//!
//! A token proves what it says and when it ends; that it is used once is enforced where sessions are claimed.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::config::Secret;

/// What a token vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Session that the bearer may join.
    #[serde(rename = "s")]
    pub session_id: String,
    /// `telephony` or `websocket`.
    #[serde(rename = "t")]
    pub transport: String,
    /// Provider name for telephony, else empty.
    #[serde(rename = "p", default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// Provider's call id when it was known, else empty: the stream's own must match it.
    #[serde(rename = "c", default, skip_serializing_if = "String::is_empty")]
    pub call_id: String,
    /// Unix seconds after which the token is void.
    #[serde(rename = "e")]
    pub expires_at: u64,
    /// JSON body of the session (template variables), or empty: lets any node claim the session without a look-up.
    #[serde(rename = "b", default, skip_serializing_if = "String::is_empty")]
    pub body_json: String,
}

impl Claims {
    /// Whether the token is void by now.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        now.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or(0) > self.expires_at
    }
}

/// Why a token was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not of the form `payload.signature`.
    #[error("malformed token")]
    Malformed,
    /// Signed with another key, or changed.
    #[error("bad token signature")]
    BadSignature,
    /// Too old.
    #[error("token expired")]
    Expired,
}

/// Signs and checks tokens with the deployment's `service_token`.
#[derive(Clone, Debug)]
pub struct TokenSigner {
    key: Secret,
}

impl TokenSigner {
    /// A signer for this key.
    pub fn new(key: Secret) -> Self {
        Self { key }
    }

    /// `base64url(claims JSON).base64url(HMAC-SHA256)`; safe in a URL query or path.
    pub fn sign(&self, claims: &Claims) -> String {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
        let signature = URL_SAFE_NO_PAD.encode(self.mac(payload.as_bytes()).finalize().into_bytes());
        format!("{payload}.{signature}")
    }

    /// Checks signature (in constant time) and expiry.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Claims, TokenError> {
        let claims = self.read(token)?;
        if claims.is_expired(now) {
            Err(TokenError::Expired)
        } else {
            Ok(claims)
        }
    }

    /// Checks the signature (in constant time) alone, for tokens that may count after their end: see
    /// [`Claims::is_expired`].
    ///
    /// # Errors
    /// Any [`TokenError`] but [`Expired`](TokenError::Expired).
    pub fn read(&self, token: &str) -> Result<Claims, TokenError> {
        let (payload, signature) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        self.mac(payload.as_bytes())
            .verify_slice(&signature)
            .map_err(|_| TokenError::BadSignature)?;
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
        serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
    }

    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose().as_bytes()).expect("HMAC takes any key length");
        mac.update(payload);
        mac
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn claims(expires_at: u64) -> Claims {
        Claims {
            session_id: "4a4b".to_owned(),
            transport: "telephony".to_owned(),
            provider: "twilio".to_owned(),
            call_id: String::new(),
            expires_at,
            body_json: String::new(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn signer(key: &str) -> TokenSigner {
        TokenSigner::new(Secret::new(key))
    }

    #[test]
    fn a_token_gives_back_its_claims_until_it_expires() {
        let token = signer("k").sign(&claims(100));
        assert_eq!(signer("k").verify(&token, at(100)), Ok(claims(100)));
        assert_eq!(signer("k").verify(&token, at(101)), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_of_another_deployment_is_refused() {
        let token = signer("theirs").sign(&claims(100));
        assert_eq!(signer("ours").verify(&token, at(1)), Err(TokenError::BadSignature));
    }

    #[test]
    fn claims_cannot_be_moved_under_another_signature() {
        let (_, signature) = signer("k")
            .sign(&claims(100))
            .split_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let later = signer("other").sign(&claims(u64::MAX));
        let forged = format!("{}.{signature}", later.split_once('.').unwrap().0);
        assert_eq!(signer("k").verify(&forged, at(1)), Err(TokenError::BadSignature));
    }

    #[test]
    fn junk_is_malformed() {
        for junk in ["", ".", "abc", "a.b.c", "!!!.???", "{}"] {
            let refused = signer("k").verify(junk, at(1)).unwrap_err();
            assert!(
                matches!(refused, TokenError::Malformed | TokenError::BadSignature),
                "{junk}: {refused:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_claims_survive_a_url_unescaped(session_id in ".*", body_json in ".*", expires_at in 0..u64::MAX) {
            let claims = Claims { session_id, body_json, ..claims(expires_at) };
            let token = signer("k").sign(&claims);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            prop_assert_eq!(signer("k").verify(&token, at(0)), Ok(claims));
        }

        #[test]
        fn no_text_makes_verification_panic_or_pass(token in ".*") {
            prop_assert!(signer("k").verify(&token, at(0)).is_err());
        }
    }
}
