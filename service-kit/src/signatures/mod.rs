//! Signatures of phone providers: pure checks of what a request says against the shared secret, a file a provider.
//!
//! None of them looks at a clock or remembers anything: the time is an argument, and what must not be accepted a second
//! time is answered as [`Once`], for the caller to keep in the session store.

pub mod plivo;
pub mod telnyx;
pub mod twilio;
pub mod vonage;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Names a signed request that may be accepted one time only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Unique to the request; contains its provider's name.
    pub name: String,
    /// How long it has to be remembered: afterwards its own timestamp makes it too old.
    pub window: Duration,
}

/// Why a request is not taken for the provider's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header of the signature is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A part of the signature cannot be read.
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    /// Signed with another secret, or something in the request was changed.
    #[error("the signature fits neither this request nor this secret")]
    Wrong,
    /// Signed too long ago, or by a clock that is ahead.
    #[error("it was signed {0} s from now: too old, or the clocks differ")]
    OutsideWindow(u64),
}

impl SignatureError {
    /// Label of metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Malformed(_) => "malformed",
            Self::Wrong => "wrong",
            Self::OutsideWindow(_) => "expired",
        }
    }
}

/// Whether a secret that travels in the URL is the configured one; in constant time. For providers that sign nothing.
pub fn is_secret(given: &str, secret: &Secret) -> bool {
    bool::from(given.as_bytes().ct_eq(secret.expose().as_bytes()))
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, SignatureError> {
    STANDARD.decode(text).map_err(|_| SignatureError::Malformed(what))
}

/// Fails when `signed_at` (Unix seconds) is further from `now` than `window`.
fn check_age(signed_at: u64, now: SystemTime, window: Duration) -> Result<(), SignatureError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let apart = now.abs_diff(signed_at);
    if apart > window.as_secs() {
        Err(SignatureError::OutsideWindow(apart))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_compared_as_a_whole() {
        let secret = Secret::new("abc");
        assert!(is_secret("abc", &secret));
        for wrong in ["", "ab", "abcd", "ABC"] {
            assert!(!is_secret(wrong, &secret), "{wrong:?}");
        }
    }
}
