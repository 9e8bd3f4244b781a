//! `/telephony/genesys/ws`: Genesys Cloud's AudioHook opens its socket directly, without a webhook and without a token.
//!
//! Follows "Security and authentication" of the AudioHook documentation
//! (<https://developer.genesys.cloud/devapps/audiohook/security>), checked 2026-11-23. The connection carries the API key
//! of the integration in `X-API-KEY` (`api_keys.genesys` here) and, when the integration has a client secret
//! (`genesys.client_secret` here), an HTTP message signature. Whichever node gets the socket takes the call.

mod signature;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{OriginalUri, Path, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::HOST;
use http::{HeaderMap, Uri};
use media_core::wire::telephony::Provider;
use serde_json::{Value, json};
use service_kit::config::{Config, MediaTransport, Secret};
use service_kit::http::ApiError;
use service_kit::token::Claims;
use session_store::patiently;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{Expected, TRANSPORT, take_up};
use crate::transport::{Gate, NotAdmitted};

/// How long a nonce is remembered: longer than a signature may be old.
const NONCE_TTL: Duration = Duration::from_secs(2 * signature::MAX_AGE.as_secs());

/// `GET /telephony/genesys/ws`
pub async fn open(
    State(gate): State<Arc<Gate>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    accept(gate, &uri, &headers, Value::Null, upgrade).await
}

/// `GET /telephony/genesys/ws/{connector}`: Genesys appends the connector id of the flow to the integration's URL.
pub async fn open_with_connector(
    State(gate): State<Arc<Gate>>,
    Path(connector): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    accept(gate, &uri, &headers, json!({"connector": connector}), upgrade).await
}

async fn accept(
    gate: Arc<Gate>,
    uri: &Uri,
    headers: &HeaderMap,
    parameters: Value,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
    let session_id = service_kit::ids::session_id();
    // Before the signature is used up: where there is no room, the front may ask another node.
    let held = gate.calls.hold(MediaTransport::Telephony, &session_id);
    let _held = held.map_err(|refusal| {
        gate.calls.count_refusal(MediaTransport::Telephony, refusal);
        NotAdmitted::from(refusal)
    })?;
    gate.check_recordable(MediaTransport::Telephony)?;
    authenticate(&gate, uri, headers).await?;
    let audiohook_session = text(headers, "audiohook-session-id").unwrap_or_default().to_owned();
    let claims = Claims {
        session_id,
        transport: TRANSPORT.to_owned(),
        provider: Provider::Genesys.name().to_owned(),
        call_id: audiohook_session.clone(),
        expires_at: 0,
        body_json: String::new(),
    };
    let admitted = gate.admit(claims, MediaTransport::Telephony).await?;
    let expected = Expected {
        provider: Some(Provider::Genesys),
        id: audiohook_session,
        parameters,
    };
    Ok(take_up(gate, upgrade, admitted, expected, None))
}

async fn authenticate(gate: &Gate, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let forbidden = |why: String| ApiError::Forbidden(why);
    let Some(key) = gate
        .config
        .secrets
        .api_key(Provider::Genesys.name())
        .filter(|key| !key.is_empty())
    else {
        return Err(forbidden(
            "this server takes no Genesys calls: set api_keys.genesys to the API key of the integration".to_owned(),
        ));
    };
    let given = headers
        .get("x-api-key")
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    if !bool::from(given.ct_eq(key.expose().as_bytes())) {
        return Err(forbidden("the API key is missing or wrong".to_owned()));
    }
    let telephony = &gate.config.telephony;
    let Some(secret) = telephony
        .genesys_client_secret
        .as_ref()
        .filter(|_| telephony.verify_signatures)
    else {
        return Ok(());
    };
    let nonce = check(&gate.config, secret, &key, uri, headers).map_err(|error| {
        tracing::warn!(%error, "a Genesys connection was refused: its signature does not fit genesys.client_secret and this host; behind a proxy set proxy_host or media_public_url");
        forbidden(format!("the signature of this connection is missing or wrong: {error}"))
    })?;
    let (mark, socket) = (format!("genesys-nonce:{nonce}"), Uuid::new_v4().to_string());
    match patiently(|| gate.store.use_token(&mark, &socket, NONCE_TTL)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(forbidden("this signature was used before".to_owned())),
        Err(error) => Err(ApiError::unavailable(error.to_string())),
    }
}

fn check(
    config: &Config,
    secret: &Secret,
    key: &Secret,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<String, signature::SignatureError> {
    // Genesys shows and sends it in base64; the bytes sign.
    let secret = BASE64
        .decode(secret.expose())
        .unwrap_or_else(|_| secret.expose().as_bytes().to_vec());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let hosts = [
        text(headers, HOST.as_str()),
        config.telephony.proxy_host.as_deref(),
        config.telephony.media_public_url.as_deref(),
    ];
    let authorities: Vec<&str> = hosts.into_iter().flatten().map(host_only).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let request = signature::Request {
        headers,
        target,
        authorities: &authorities,
        key_id: key.expose(),
    };
    signature::verify(&request, &secret, now)
}

fn host_only(url: &str) -> &str {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    host.split('/').next().unwrap_or(host)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
