//! HTTP message signature of Genesys Cloud AudioHook, on the request that opens its WebSocket (Genesys Cloud developer
//! center, "AudioHook session walkthrough", section "Establishing the connection"; read 2026-11-22).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::Mac;

use super::{Once, SignatureError, check_age, decode, hmac_sha256};
use crate::config::Secret;

/// Header that says what is signed, when, and with which key.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// Header of the signature, `sig1=:base64:`.
pub const SIGNATURE: &str = "signature";
/// Header of the API key, which is signed as well.
pub const API_KEY: &str = "x-api-key";

/// What has to be among the signed parts; anything else may be too.
const REQUIRED: [&str; 6] = [
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    API_KEY,
];

/// A request is taken this long after `created`: Genesys connects at once, clocks differ by less.
const WINDOW: Duration = Duration::from_secs(60);
/// Longest accepted nonce in bytes: it is remembered.
const MAX_NONCE_BYTES: usize = 128;

/// What of a request is signed.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    /// Path and query, as requested.
    pub request_target: &'a str,
    /// Host, with its port where it is not the scheme's own, as Genesys called it.
    pub authority: &'a str,
    /// Looks up a header by its lower-case name.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Checks a request against the client secret, which is base64.
///
/// # Errors
/// See [`SignatureError`]. That `X-API-KEY` is the configured one is for the caller to check
/// ([`is_secret`](super::is_secret)).
pub fn verify(client_secret: &Secret, signed: Signed<'_>, now: SystemTime) -> Result<Once, SignatureError> {
    let header = |name: &'static str| (signed.header)(name).ok_or(SignatureError::Missing(name));
    let (label, parameters) = header(SIGNATURE_INPUT)?
        .split_once('=')
        .ok_or(SignatureError::Malformed(SIGNATURE_INPUT))?;
    let signature = header(SIGNATURE)?
        .strip_prefix(label)
        .and_then(|value| value.strip_prefix("=:"))
        .and_then(|value| value.strip_suffix(':'))
        .ok_or(SignatureError::Malformed(SIGNATURE))?;
    let signature = decode(signature, SIGNATURE)?;
    let input = Input::parse(parameters).ok_or(SignatureError::Malformed(SIGNATURE_INPUT))?;
    if REQUIRED.iter().any(|name| !input.components.contains(name)) {
        return Err(SignatureError::Malformed(SIGNATURE_INPUT));
    }
    let mut base = String::new();
    for name in &input.components {
        let value = match *name {
            "@request-target" => signed.request_target,
            "@authority" => signed.authority,
            name => (signed.header)(name).ok_or(SignatureError::Wrong)?,
        };
        base.extend(["\"", name, "\": ", value.trim(), "\n"]);
    }
    base.extend(["\"@signature-params\": ", parameters]);
    let secret = decode(client_secret.expose().trim(), "genesys.client_secret")?;
    hmac_sha256(&secret, &[base.as_bytes()])
        .verify_slice(&signature)
        .map_err(|_| SignatureError::Wrong)?;
    check_age(input.created, now, WINDOW)?;
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if let Some(expires) = input.expires.filter(|expires| *expires < now) {
        return Err(SignatureError::OutsideWindow(now - expires));
    }
    Ok(Once {
        name: format!("genesys:{}", input.nonce),
        window: WINDOW * 2,
    })
}

/// `("a" "b");keyid="k";nonce="n";alg="hmac-sha256";created=1;expires=2`
struct Input<'a> {
    components: Vec<&'a str>,
    nonce: &'a str,
    created: u64,
    expires: Option<u64>,
}

impl<'a> Input<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (components, parameters) = text.strip_prefix('(')?.split_once(')')?;
        let components = components.split(' ').map(unquoted).collect::<Option<Vec<_>>>()?;
        let (mut nonce, mut created, mut expires) = (None, None, None);
        for parameter in parameters.split(';').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=')? {
                ("nonce", value) => nonce = Some(unquoted(value)?),
                ("created", value) => created = Some(value.parse().ok()?),
                ("expires", value) => expires = Some(value.parse().ok()?),
                ("alg", value) if unquoted(value)? != "hmac-sha256" => return None,
                _ => {}
            }
        }
        let nonce = nonce.filter(|nonce| (1..=MAX_NONCE_BYTES).contains(&nonce.len()))?;
        Some(Self {
            components,
            nonce,
            created: created?,
            expires,
        })
    }
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Genesys' documentation.
    const HEADERS: [(&str, &str); 6] = [
        ("audiohook-organization-id", "d7934305-0972-4844-938e-9060eef73d05"),
        ("audiohook-correlation-id", "e160e428-53e2-487c-977d-96989bf5c99d"),
        ("audiohook-session-id", "30b0e395-84d3-4570-ac13-9a62d8f514c0"),
        ("x-api-key", "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"),
        ("signature", "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:"),
        (
            "signature-input",
            "sig1=(\"@request-target\" \"@authority\" \"audiohook-organization-id\" \"audiohook-session-id\" \
             \"audiohook-correlation-id\" \"x-api-key\");keyid=\"SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh\";\
             nonce=\"VGhpc0lzQVVuaXF1ZU5vbmNl\";alg=\"hmac-sha256\";created=1641013200;expires=3282026430",
        ),
    ];
    const SECRET: &str = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=";

    fn check(secret: &str, changed: Option<(&str, Option<&'static str>)>, now: u64) -> Result<Once, SignatureError> {
        let header = |name: &str| match changed {
            Some((other, value)) if other == name => value,
            _ => HEADERS
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value),
        };
        let value = |name| header(name).unwrap_or_default();
        let signed = Signed {
            request_target: match value(":path") {
                "" => "/api/v1/voicebiometrics/ws",
                path => path,
            },
            authority: "audiohook.example.com",
            header: &header,
        };
        verify(&Secret::new(secret), signed, UNIX_EPOCH + Duration::from_secs(now))
    }

    #[test]
    fn the_example_of_the_documentation_is_valid() {
        let once = check(SECRET, None, 1_641_013_205).unwrap();
        assert_eq!(once.name, "genesys:VGhpc0lzQVVuaXF1ZU5vbmNl");
    }

    #[test]
    fn any_change_makes_it_invalid() {
        let now = 1_641_013_205;
        assert_eq!(check("AAAA", None, now), Err(SignatureError::Wrong));
        for changed in [
            (":path", Some("/other")),
            ("x-api-key", Some("another")),
            ("audiohook-session-id", None),
            ("signature", Some("sig1=:AAAA:")),
        ] {
            assert_eq!(
                check(SECRET, Some(changed), now),
                Err(SignatureError::Wrong),
                "{changed:?}"
            );
        }
    }

    #[test]
    fn an_old_one_is_refused() {
        assert_eq!(
            check(SECRET, None, 1_641_013_261),
            Err(SignatureError::OutsideWindow(61))
        );
    }

    #[test]
    fn what_is_missing_or_unreadable_is_said() {
        let now = 1_641_013_205;
        let missing = check(SECRET, Some(("signature", None)), now);
        assert_eq!(missing, Err(SignatureError::Missing(SIGNATURE)));
        for junk in [
            "",
            "sig1",
            "sig1=()",
            "sig1=(\"@authority\");nonce=\"n\";created=1641013200",
            "sig1=(\"@request-target\" \"@authority\" \"audiohook-organization-id\" \"audiohook-session-id\" \
             \"audiohook-correlation-id\" \"x-api-key\");nonce=\"n\";alg=\"none\";created=1641013200",
        ] {
            let refused = check(SECRET, Some(("signature-input", Some(junk))), now);
            assert_eq!(refused, Err(SignatureError::Malformed(SIGNATURE_INPUT)), "{junk}");
        }
    }
}
