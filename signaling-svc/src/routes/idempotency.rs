//! The `Idempotency-Key` header.

use http::HeaderMap;
use service_kit::http::ApiError;

/// Longest accepted key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// The key of a request, in the name space of its route; `None` without the header.
///
/// Errors: 422 for a key that is too long or no text.
pub fn key(headers: &HeaderMap, route: &str) -> Result<Option<String>, ApiError> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key.to_str().unwrap_or_default().trim();
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        Ok(Some(format!("{route}:{key}")))
    } else {
        Err(ApiError::invalid_field(
            "Idempotency-Key",
            "must be 1 to 255 visible ASCII characters",
        ))
    }
}
