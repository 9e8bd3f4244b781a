//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header).

use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;
use service_kit::http::ApiError;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::error::store_error;
use crate::limits::Client;

/// Longest accepted key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// The key of a request in the name space of its route and client: what one client was answered is nobody else's.
/// `None` without the header.
///
/// Errors: 422 for a key that is too long or no text, or that this client has used for another request within `ttl`;
/// 503 when the store does not answer.
pub async fn key(
    app: &App,
    headers: &HeaderMap,
    client: &Client,
    route: &str,
    request: &impl Serialize,
    ttl: Duration,
) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().unwrap_or_default().trim();
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Err(refused("must be 1 to 255 visible ASCII characters"));
    }
    let key = format!("{route}:{}:{key}", client.tenant());
    let request = serde_json::to_vec(request).map_err(ApiError::internal)?;
    let request = hex::encode(Sha256::digest(request));
    let before = app.store.put_if_absent(&format!("{key}:request"), &request, ttl).await;
    match before.map_err(store_error)? {
        Some(before) if before != request => Err(refused("was used for another request: take a new one")),
        Some(_) | None => Ok(Some(key)),
    }
}

fn refused(why: &str) -> ApiError {
    ApiError::invalid_field("Idempotency-Key", why)
}
