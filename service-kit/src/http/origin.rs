//! Which web pages may talk to this server (`cors_allowed_origins`).

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::error::ApiError;

/// How long browsers may remember a preflight answer.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// CORS as browsers need it: the matching origin is reflected, never `*`. `None` when no origin is allowed.
pub(super) fn cors_layer(allowed: &Arc<[String]>) -> Option<CorsLayer> {
    if allowed.is_empty() {
        return None;
    }
    let allowed = Arc::clone(allowed);
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| is_allowed(origin, &allowed)))
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::OPTIONS])
        .allow_headers([
            CONTENT_TYPE,
            AUTHORIZATION,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers([HeaderName::from_static("x-request-id")])
        .max_age(PREFLIGHT_MAX_AGE);
    Some(layer)
}

/// The check that guards WebSocket upgrades, which browsers send without a preflight. Passes when no origins are
/// configured, when there is no `Origin` header (not a browser), or when the origin is listed.
///
/// [`apply_conventions`](super::apply_conventions) runs it on every upgrade request already.
///
/// # Errors
/// [`ApiError::Forbidden`] naming the setting.
pub fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    match headers.get(ORIGIN) {
        Some(origin) if !allowed.is_empty() && !is_allowed(origin, allowed) => Err(ApiError::Forbidden(
            "this origin may not open a WebSocket here: add it to cors_allowed_origins".to_owned(),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The check that guards what costs money or ends calls on a server without API keys, where who can reach it may do it:
/// a page of another site that the operator has open in a browser can reach it as well. Passes when there is no `Origin`
/// header, when the page was served under the host that is asked, or when its origin is listed.
///
/// # Errors
/// [`ApiError::Forbidden`] naming the setting.
pub fn check_page(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    let is_own = own.is_some_and(|(_, authority)| authority.as_bytes().eq_ignore_ascii_case(host));
    if is_own || is_allowed(origin, allowed) {
        return Ok(());
    }
    Err(ApiError::Forbidden(
        "a page of this origin may not do that here: add it to cors_allowed_origins, or set server_api_key".to_owned(),
    ))
}

/// Origins are compared as browsers write them: scheme and host without regard to case, no trailing slash.
fn is_allowed(origin: &HeaderValue, allowed: &[String]) -> bool {
    allowed.iter().any(|entry| {
        origin
            .as_bytes()
            .eq_ignore_ascii_case(entry.trim_end_matches('/').as_bytes())
    })
}
