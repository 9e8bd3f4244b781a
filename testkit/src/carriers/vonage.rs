//! Vonage: [Voice API reference](https://developer.vonage.com/en/api/voice) 1.10, checked 2026-11-23.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{ACCOUNT, Asked, Request};

/// A key made for tests, PKCS #8 in base64; it opens nothing.
const KEY: &str = include_str!("vonage_key.b64");

/// The application's private key in PEM.
pub static PRIVATE_KEY: LazyLock<String> =
    LazyLock::new(|| format!("-----BEGIN PRIVATE KEY-----\n{KEY}-----END PRIVATE KEY-----\n"));

/// RS256 by the application's key, for this application, issued and not expired.
pub(super) fn is_authorized(request: &Request) -> bool {
    let Some((signed, signature)) = request.bearer().and_then(|token| token.rsplit_once('.')) else {
        return false;
    };
    let key: String = KEY.split_whitespace().collect();
    let Ok(pair) = STANDARD.decode(key).map(|der| RsaKeyPair::from_pkcs8(&der)) else {
        return false;
    };
    let (Ok(pair), Ok(signature)) = (pair, URL_SAFE_NO_PAD.decode(signature)) else {
        return false;
    };
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public().as_ref());
    let claims = signed
        .split_once('.')
        .and_then(|(_, claims)| URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let number = |name: &str| claims.get(name).and_then(Value::as_u64);
    public.verify(signed.as_bytes(), &signature).is_ok()
        && claims.get("application_id").and_then(Value::as_str) == Some(ACCOUNT)
        && claims.get("jti").is_some_and(Value::is_string)
        && number("iat").is_some_and(|iat| iat <= now)
        && number("exp").is_some_and(|exp| exp > now)
}

pub(super) fn read(request: &Request) -> Asked {
    let text = |pointer: &str| request.text(pointer).to_owned();
    match (request.method.as_str(), request.segments().as_slice()) {
        ("POST", ["v1", "calls"]) if request.json.get("ncco").or(request.json.get("answer_url")).is_some() => {
            Asked::Place {
                to: text("/to/0/number"),
                from: text("/from/number"),
            }
        }
        ("PUT", ["v1", "calls", call]) => match request.text("/action") {
            "hangup" => Asked::HangUp {
                call: (*call).to_owned(),
            },
            "transfer" => Asked::Transfer {
                call: (*call).to_owned(),
                to: text("/destination/ncco/0/endpoint/0/number"),
            },
            other => Asked::Unknown(other.to_owned()),
        },
        ("PUT", ["v1", "calls", call, "dtmf"]) => Asked::SendDtmf {
            call: (*call).to_owned(),
            digits: text("/digits"),
        },
        (method, _) => Asked::Unknown(format!("{method} {}", request.path)),
    }
}

pub(super) fn placed(id: &str) -> Value {
    json!({ "uuid": id, "conversation_uuid": "CON-x", "status": "started", "direction": "outbound" })
}

pub(super) fn problem(status: u16) -> Value {
    json!({ "type": "https://developer.vonage.com/api-errors", "title": "refused", "detail": "refused", "instance": status.to_string() })
}
