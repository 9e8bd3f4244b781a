//! Where a call is to be transferred, sealed into a URL: providers that fetch their instructions (Plivo) are given a path
//! which nobody can make up, and which shows no phone number to the logs on its way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use service_kit::config::Secret;
use sha2::{Digest, Sha256};

/// The provider fetches its instructions within seconds.
const LIFE: Duration = Duration::from_secs(120);
/// Keeps this key apart from whatever else is made from the service token.
const PURPOSE: &[u8] = b"voxray transfer v1";

/// Seals and opens destinations with the deployment's `service_token`: ChaCha20-Poly1305 (RFC 8439), random nonces.
#[derive(Clone, Debug)]
pub struct TransferSeal {
    key: LessSafeKey,
}

impl TransferSeal {
    /// For this deployment.
    pub fn new(service_token: &Secret) -> Self {
        let mut hash = Sha256::new();
        hash.update(PURPOSE);
        hash.update(service_token.expose());
        Self {
            key: LessSafeKey::new(unbound(&hash.finalize())),
        }
    }

    /// Nonce, then expiry and destination under the seal; safe in the path of a URL.
    pub fn seal(&self, to: &str, now: SystemTime) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = seconds(now + LIFE).to_be_bytes().to_vec();
        sealed.extend_from_slice(to.as_bytes());
        let aad = Aad::from(PURPOSE);
        let key = &self.key;
        if key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .is_err()
        {
            // Only texts of many gigabytes are refused; an empty path opens to nothing.
            return String::new();
        }
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// The destination; `None` when it was made elsewhere, changed, or is too old.
    pub fn open(&self, sealed: &str, now: SystemTime) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(PURPOSE), &mut rest).ok()?;
        let (expiry, to) = opened.split_first_chunk::<8>()?;
        let fresh = seconds(now) <= u64::from_be_bytes(*expiry);
        fresh.then(|| String::from_utf8_lossy(to).into_owned())
    }
}

#[expect(clippy::expect_used, reason = "SHA-256 gives the 32 bytes that ChaCha20 takes")]
fn unbound(key: &[u8]) -> UnboundKey {
    UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes")
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seal(key: &str) -> TransferSeal {
        TransferSeal::new(&Secret::new(key))
    }

    #[test]
    fn a_sealed_destination_opens_for_a_while_and_for_its_own_deployment_only() {
        let now = SystemTime::now();
        let sealed = seal("ours").seal("+14155550100", now);
        assert!(!sealed.contains("4155550100"));
        assert_eq!(seal("ours").open(&sealed, now).as_deref(), Some("+14155550100"));
        assert_eq!(seal("ours").open(&sealed, now + LIFE + Duration::from_secs(1)), None);
        assert_eq!(seal("theirs").open(&sealed, now), None);
    }

    proptest! {
        #[test]
        fn no_text_opens(text in "[A-Za-z0-9_-]{0,80}") {
            prop_assert_eq!(seal("k").open(&text, SystemTime::now()), None);
        }
    }
}
