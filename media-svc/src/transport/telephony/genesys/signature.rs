//! HTTP message signatures as AudioHook uses them: draft-ietf-httpbis-message-signatures-05 with HMAC-SHA256, with the
//! components that its documentation lists.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

/// Oldest signature accepted; clocks may differ by as much.
pub const MAX_AGE: Duration = Duration::from_secs(60);
/// Shortest nonce: 16 bytes in base64, as documented.
const SHORTEST_NONCE: usize = 22;

/// What a signature has to cover.
const REQUIRED: [&str; 6] = [
    "@request-target",
    "@authority",
    "audiohook-organization-id",
    "audiohook-session-id",
    "audiohook-correlation-id",
    "x-api-key",
];

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No `Signature` or `Signature-Input`.
    #[error("not signed")]
    Missing,
    /// They cannot be read.
    #[error("the signature's parameters cannot be read")]
    Malformed,
    /// Something that must be signed is not.
    #[error("{0} is not signed")]
    Uncovered(&'static str),
    /// Not for our key, or not by HMAC-SHA256.
    #[error("signed for another key or in another way")]
    WrongKey,
    /// Too old, or from the future.
    #[error("expired")]
    Expired,
    /// The bytes differ.
    #[error("wrong signature")]
    Wrong,
}

/// What was signed.
pub struct Request<'a> {
    /// Of the request.
    pub headers: &'a HeaderMap,
    /// Path and query.
    pub target: &'a str,
    /// Names this host goes by.
    pub authorities: &'a [&'a str],
    /// The API key.
    pub key_id: &'a str,
}

/// Checks a request; answers its nonce, which may be used once.
pub fn verify(request: &Request<'_>, secret: &[u8], now: Duration) -> Result<String, SignatureError> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let (input, signature) = header("signature-input")
        .zip(header("signature"))
        .ok_or(SignatureError::Missing)?;
    let (label, input) = input.trim().split_once('=').ok_or(SignatureError::Malformed)?;
    let signature = signature
        .trim()
        .strip_prefix(label)
        .and_then(|rest| rest.strip_prefix("=:"))
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(|text| BASE64.decode(text).ok())
        .ok_or(SignatureError::Malformed)?;
    let (components, parameters) = input
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .ok_or(SignatureError::Malformed)?;
    let components: Vec<&str> = components
        .split_whitespace()
        .map(|name| name.trim_matches('"'))
        .collect();
    if let Some(missing) = REQUIRED.into_iter().find(|name| !components.contains(name)) {
        return Err(SignatureError::Uncovered(missing));
    }
    let parameter = |wanted: &str| {
        let mut parts = parameters.split(';').filter_map(|part| part.trim().split_once('='));
        parts
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value.trim_matches('"'))
    };
    if parameter("keyid") != Some(request.key_id) || parameter("alg").is_some_and(|alg| alg != "hmac-sha256") {
        return Err(SignatureError::WrongKey);
    }
    let nonce = parameter("nonce").filter(|nonce| nonce.len() >= SHORTEST_NONCE);
    let nonce = nonce.ok_or(SignatureError::Malformed)?;
    let seconds = |name| {
        parameter(name)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_secs)
    };
    let created = seconds("created").ok_or(SignatureError::Malformed)?;
    let expired = seconds("expires").is_some_and(|expires| expires < now);
    let any = request
        .authorities
        .iter()
        .any(|authority| fits(request, authority, &components, input, secret, &signature));
    if !any {
        return Err(SignatureError::Wrong);
    }
    if expired || now.abs_diff(created) > MAX_AGE {
        return Err(SignatureError::Expired);
    }
    Ok(nonce.to_owned())
}

fn fits(
    request: &Request<'_>,
    authority: &str,
    components: &[&str],
    input: &str,
    secret: &[u8],
    signature: &[u8],
) -> bool {
    let mut base = String::new();
    for name in components {
        let value = match *name {
            "@request-target" => Some(request.target.to_owned()),
            "@authority" => Some(authority.to_ascii_lowercase()),
            header => request
                .headers
                .get(header)
                .and_then(|value| Some(value.to_str().ok()?.trim().to_owned())),
        };
        let Some(value) = value else { return false };
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {input}"));
    keyed(secret).chain_update(base).verify_slice(signature).is_ok()
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes any key length")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The example of Genesys' documentation.
    const SECRET: &str = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=";
    const KEY: &str = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh";
    const CREATED: Duration = Duration::from_secs(1_641_013_200);
    const HEADERS: [(&str, &str); 6] = [
        ("audiohook-organization-id", "d7934305-0972-4844-938e-9060eef73d05"),
        ("audiohook-correlation-id", "e160e428-53e2-487c-977d-96989bf5c99d"),
        ("audiohook-session-id", "30b0e395-84d3-4570-ac13-9a62d8f514c0"),
        ("x-api-key", KEY),
        ("signature", "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:"),
        (
            "signature-input",
            "sig1=(\"@request-target\" \"@authority\" \"audiohook-organization-id\" \"audiohook-session-id\" \
             \"audiohook-correlation-id\" \"x-api-key\");keyid=\"SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh\";\
             nonce=\"VGhpc0lzQVVuaXF1ZU5vbmNl\";alg=\"hmac-sha256\";created=1641013200;expires=3282026430",
        ),
    ];

    fn headers() -> HeaderMap {
        let named = HEADERS.into_iter();
        named
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    fn check(headers: &HeaderMap, target: &str, host: &str, now: Duration) -> Result<String, SignatureError> {
        let request = Request {
            headers,
            target,
            authorities: &["another.example.com", host],
            key_id: KEY,
        };
        verify(&request, &BASE64.decode(SECRET).unwrap(), now)
    }

    const TARGET: &str = "/api/v1/voicebiometrics/ws";
    const HOST: &str = "audiohook.example.com";

    #[test]
    fn the_example_of_genesys_documentation_is_valid_when_it_was_made() {
        let nonce = check(&headers(), TARGET, HOST, CREATED + Duration::from_secs(3));
        assert_eq!(nonce.as_deref(), Ok("VGhpc0lzQVVuaXF1ZU5vbmNl"));
    }

    #[test]
    fn any_change_makes_it_wrong() {
        assert_eq!(check(&headers(), "/ws", HOST, CREATED), Err(SignatureError::Wrong));
        assert_eq!(
            check(&headers(), TARGET, "evil.example.com", CREATED),
            Err(SignatureError::Wrong)
        );
        for name in [
            "audiohook-organization-id",
            "audiohook-session-id",
            "audiohook-correlation-id",
        ] {
            let mut changed = headers();
            changed.insert(name, HeaderValue::from_static("something else"));
            assert_eq!(
                check(&changed, TARGET, HOST, CREATED),
                Err(SignatureError::Wrong),
                "{name}"
            );
        }
    }

    #[test]
    fn it_is_void_after_a_minute_and_before_it_was_made() {
        for now in [CREATED + Duration::from_secs(61), CREATED - Duration::from_secs(61)] {
            assert_eq!(check(&headers(), TARGET, HOST, now), Err(SignatureError::Expired));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["signature", "signature-input"] {
            let mut without = headers();
            without.remove(name);
            assert_eq!(check(&without, TARGET, HOST, CREATED), Err(SignatureError::Missing));
        }
        let replaced = |from: &str, to: &str| {
            let mut changed = headers();
            let input = HEADERS[5].1.replace(from, to);
            changed.insert("signature-input", HeaderValue::try_from(input).unwrap());
            check(&changed, TARGET, HOST, CREATED)
        };
        assert_eq!(
            replaced(" \"x-api-key\"", ""),
            Err(SignatureError::Uncovered("x-api-key"))
        );
        assert_eq!(replaced("keyid=\"S", "keyid=\"T"), Err(SignatureError::WrongKey));
        assert_eq!(replaced("hmac-sha256", "rsa"), Err(SignatureError::WrongKey));
        assert_eq!(
            replaced("VGhpc0lzQVVuaXF1ZU5vbmNl", "short"),
            Err(SignatureError::Malformed)
        );
        assert_eq!(replaced("created=1641013200", "x=1"), Err(SignatureError::Malformed));
    }
}
