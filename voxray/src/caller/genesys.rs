//! How Genesys opens its socket: no webhook, but headers, and a signature when there is a client secret.
//!
//! <https://developer.genesys.cloud/devapps/audiohook/security>, read 2026-11-22.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::{ACCOUNT_SID, Call, CallError, host_of, not_connected};

const PATH: &str = "/telephony/genesys/ws/simulated";
/// How long a signature is valid, as Genesys' are.
const LIFE: Duration = Duration::from_secs(10);

/// The handshake of one session.
pub fn request(call: &Call, session: &str) -> Result<Request, CallError> {
    let url = format!(
        "{}{PATH}",
        call.base_url.trim_end_matches('/').replacen("http", "ws", 1)
    );
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|source| not_connected(&host_of(&url), source))?;
    let key = call.auth_token.as_deref().unwrap_or_default();
    let headers = [
        ("audiohook-organization-id", ACCOUNT_SID),
        ("audiohook-session-id", session),
        ("audiohook-correlation-id", session),
        ("x-api-key", key),
    ];
    let mut add = |name: &'static str, value: &str| {
        let value = HeaderValue::try_from(value)
            .map_err(|_| CallError::Impossible(format!("{name} has characters that no header carries")))?;
        request.headers_mut().insert(name, value);
        Ok::<(), CallError>(())
    };
    for (name, value) in headers {
        add(name, value)?;
    }
    if let Some(secret) = &call.client_secret {
        let names = ["\"@request-target\"", "\"@authority\""].map(str::to_owned).into_iter();
        let names: Vec<String> = names
            .chain(headers.iter().map(|(name, _)| format!("\"{name}\"")))
            .collect();
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let parameters = format!(
            "({});keyid=\"{key}\";nonce=\"{}\";alg=\"hmac-sha256\";created={};expires={}",
            names.join(" "),
            BASE64.encode(uuid::Uuid::new_v4().as_bytes()),
            created.as_secs(),
            (created + LIFE).as_secs()
        );
        let mut base = format!("\"@request-target\": {PATH}\n\"@authority\": {}\n", host_of(&url));
        for (name, value) in headers {
            base.push_str(&format!("\"{name}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        let secret = BASE64.decode(secret).unwrap_or_else(|_| secret.as_bytes().to_vec());
        add("signature-input", &format!("sig1={parameters}"))?;
        add(
            "signature",
            &format!("sig1=:{}:", BASE64.encode(signed(&secret, &base))),
        )?;
    }
    Ok(request)
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn signed(secret: &[u8], base: &str) -> Vec<u8> {
    let mac = Hmac::<sha2::Sha256>::new_from_slice(secret).expect("HMAC takes any key length");
    mac.chain_update(base).finalize().into_bytes().to_vec()
}
