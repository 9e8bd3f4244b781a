//! What is sealed into the URLs of a transfer: whom Plivo is to dial, and which call a caller comes back to whom nobody
//! takes. Nobody can make such a URL up, and it shows neither phone number nor token to the logs on its way.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use service_kit::config::Secret;
use sha2::{Digest, Sha256};

/// Keeps this key apart from whatever else is made from the service token.
const PURPOSE: &[u8] = b"voxray transfer v1";

/// Something that goes into a URL under a seal.
pub trait Sealed: Serialize + DeserializeOwned {
    /// Keeps one kind from being taken for another.
    const KIND: &'static [u8];
    /// How long it may be opened.
    const LIFE: Duration;
}

/// Whom Plivo, which fetches its instructions, is to dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// Number or SIP address.
    pub to: String,
    /// Where Plivo says what has become of it; `None` = nowhere.
    pub report_to: Option<String>,
}

impl Sealed for Dial {
    const KIND: &'static [u8] = b"dial";
    /// The provider fetches its instructions within seconds.
    const LIFE: Duration = Duration::from_secs(120);
}

/// The call that a caller comes back to whom nobody takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Session.
    pub session_id: String,
    /// The provider's id of the caller's leg.
    pub call_id: String,
    /// Of the call's stream, which is opened again.
    pub token: String,
}

impl Sealed for Origin {
    const KIND: &'static [u8] = b"origin";
    /// Longer than anybody lets a phone ring.
    const LIFE: Duration = Duration::from_secs(600);
}

/// Seals and opens with the deployment's `service_token`: ChaCha20-Poly1305 (RFC 8439), random nonces.
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

    /// Nonce, then expiry and content under the seal; safe in the path of a URL.
    pub fn seal<T: Sealed>(&self, content: &T, now: SystemTime) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = seconds(now + T::LIFE).to_be_bytes().to_vec();
        // Texts alone: there is nothing in them that JSON cannot say.
        sealed.extend(serde_json::to_vec(content).unwrap_or_default());
        let aad = Aad::from(T::KIND);
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

    /// The content; `None` when it was made elsewhere, changed, is another kind, or is too old.
    pub fn open<T: Sealed>(&self, sealed: &str, now: SystemTime) -> Option<T> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(T::KIND), &mut rest).ok()?;
        let (expiry, content) = opened.split_first_chunk::<8>()?;
        let fresh = seconds(now) <= u64::from_be_bytes(*expiry);
        fresh.then(|| serde_json::from_slice(content).ok()).flatten()
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
        let dial = Dial {
            to: "+14155550100".to_owned(),
            report_to: None,
        };
        let sealed = seal("ours").seal(&dial, now);
        assert!(!sealed.contains("4155550100"));
        assert_eq!(seal("ours").open(&sealed, now).as_ref(), Some(&dial));
        assert_eq!(
            seal("ours").open::<Dial>(&sealed, now + Dial::LIFE + Duration::from_secs(1)),
            None
        );
        assert_eq!(seal("theirs").open::<Dial>(&sealed, now), None);
    }

    #[test]
    fn one_kind_is_not_taken_for_another() {
        let now = SystemTime::now();
        let sealed = seal("ours").seal(
            &Origin {
                session_id: "s".to_owned(),
                call_id: "c".to_owned(),
                token: "t".to_owned(),
            },
            now,
        );
        assert!(seal("ours").open::<Origin>(&sealed, now).is_some());
        assert_eq!(seal("ours").open::<Dial>(&sealed, now), None);
    }

    proptest! {
        #[test]
        fn no_text_opens(text in "[A-Za-z0-9_-]{0,80}") {
            prop_assert_eq!(seal("k").open::<Dial>(&text, SystemTime::now()), None);
        }
    }
}
