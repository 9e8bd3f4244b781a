//! STUN and TURN servers, and what one client is told of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize};
use sha1::Sha1;

use super::Secret;

/// How long credentials made with a secret are good. A TURN server asks for them again as long as a call lasts.
const CREDENTIALS_LAST: Duration = Duration::from_secs(24 * 3600);

/// One ICE server as browsers expect it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs.
    pub urls: Vec<String>,
    /// TURN user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub username: Option<String>,
    /// TURN password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credential: Option<String>,
    /// Shared with the TURN server, to make credentials with (coturn's `static-auth-secret`). Never handed on.
    #[serde(skip_serializing, default, deserialize_with = "secret")]
    pub secret: Option<Secret>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

impl IceServer {
    /// A server that wants no credentials.
    pub fn open(url: String) -> Self {
        Self {
            urls: vec![url],
            username: None,
            credential: None,
            secret: None,
        }
    }

    /// For one client. With a secret: credentials of its own, good for a day
    /// (<https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00>); otherwise those that all have.
    #[must_use]
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn for_client(&self, name: &str, now: SystemTime) -> Self {
        let Some(secret) = &self.secret else {
            return self.clone();
        };
        // Before 1970 a clock is wrong anyway.
        let expires = now.duration_since(UNIX_EPOCH).unwrap_or_default() + CREDENTIALS_LAST;
        let username = format!("{}:{name}", expires.as_secs());
        let key = secret.expose().as_bytes();
        let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes any key length");
        mac.update(username.as_bytes());
        Self {
            urls: self.urls.clone(),
            username: Some(username),
            credential: Some(BASE64_STANDARD.encode(mac.finalize().into_bytes())),
            secret: None,
        }
    }

    /// Whether a client can use it: a TURN server lets nobody in without credentials.
    pub(super) fn is_usable(&self) -> bool {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let pair = is_given(&self.username) && is_given(&self.credential);
        let neither = self.username.is_none() && self.credential.is_none();
        match &self.secret {
            Some(secret) => !secret.is_empty() && neither,
            None if self.urls.iter().any(|url| url.starts_with("turn")) => pair,
            None => pair || neither,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(json: &str) -> IceServer {
        serde_json::from_str(json).unwrap()
    }

    /// The password is what `printf 1700086400:ann | openssl dgst -sha1 -hmac north -binary | base64` says.
    #[test]
    fn a_secret_makes_credentials_of_a_day_and_stays_here() {
        let shared = server(r#"{"urls": ["turn:t.example"], "secret": "north"}"#);
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);

        let told = serde_json::to_value(shared.for_client("ann", at)).unwrap();

        let expected = serde_json::json!({
            "urls": ["turn:t.example"], "username": "1700086400:ann", "credential": "7FWQB06tq8mR4TsnapfLHms2f5Y=",
        });
        assert_eq!(told, expected);
        assert!(!format!("{shared:?}").contains("north"));
        assert_ne!(
            shared.for_client("ben", at).credential,
            shared.for_client("ann", at).credential
        );
    }

    #[test]
    fn credentials_that_are_given_are_the_same_for_all() {
        let fixed = server(r#"{"urls": ["turn:t.example"], "username": "u", "credential": "p"}"#);
        assert_eq!(fixed.for_client("ann", UNIX_EPOCH), fixed);
    }

    #[test]
    fn a_turn_server_needs_credentials_or_a_secret_and_not_both() {
        // the server, whether clients can use it
        let cases = [
            (r#"{"urls": ["stun:s.example"]}"#, true),
            (r#"{"urls": ["turn:t.example"]}"#, false),
            (r#"{"urls": ["turns:t.example"], "username": "u"}"#, false),
            (
                r#"{"urls": ["turn:t.example"], "username": "u", "credential": ""}"#,
                false,
            ),
            (
                r#"{"urls": ["turn:t.example"], "username": "u", "credential": "p"}"#,
                true,
            ),
            (r#"{"urls": ["turn:t.example"], "secret": "s"}"#, true),
            (r#"{"urls": ["turn:t.example"], "secret": ""}"#, false),
            (r#"{"urls": ["turn:t.example"], "secret": "s", "username": "u"}"#, false),
        ];
        for (json, usable) in cases {
            assert_eq!(server(json).is_usable(), usable, "{json}");
        }
    }
}
