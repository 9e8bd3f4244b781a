//! `server_api_key`: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use subtle::{Choice, ConstantTimeEq};

use super::error::ApiError;
use super::layers::unversioned;
use crate::config::Secrets;

/// Always open, so that probes and scrapers need no key.
const OPERATIONAL_PATHS: [&str; 3] = ["/health", "/ready", "/metrics"];

/// Routes that need no key.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    secrets: Arc<Secrets>,
    exempt: Arc<[Exempt]>,
}

#[derive(Debug, Clone)]
struct Exempt {
    method: Option<Method>,
    path: String,
    is_prefix: bool,
}

impl Exempt {
    fn parse(pattern: &str) -> Self {
        let (method, path) = match pattern.split_once(' ') {
            Some((method, path)) => (Method::from_bytes(method.as_bytes()).ok(), path),
            None => (None, pattern),
        };
        Self {
            method,
            path: path.trim_end_matches('*').to_owned(),
            is_prefix: path.ends_with('*'),
        }
    }

    fn covers(&self, method: &Method, path: &str) -> bool {
        let method_fits = self.method.as_ref().is_none_or(|wanted| wanted == method);
        let path_fits = if self.is_prefix {
            path.starts_with(&self.path)
        } else {
            path == self.path
        };
        method_fits && path_fits
    }
}

impl Guard {
    /// Keys are read from `secrets` on every request, so that they can be rotated.
    pub(super) fn new(secrets: Arc<Secrets>, exempt: &[&str]) -> Self {
        Self {
            secrets,
            exempt: exempt
                .iter()
                .copied()
                .chain(OPERATIONAL_PATHS)
                .map(Exempt::parse)
                .collect(),
        }
    }

    /// Passes when no key is configured, the route is exempt, or one of the keys was presented.
    pub(super) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let path = unversioned(path);
        if self.exempt.iter().any(|exempt| exempt.covers(method, path)) {
            return Ok(());
        }
        check_api_key(headers, &self.secrets)
    }
}

/// Passes when no key is configured or one of the keys was presented: for routes that take a token as well, which are
/// exempt from the general check.
///
/// # Errors
/// 401 when a key is missing or wrong.
pub fn check_api_key(headers: &HeaderMap, secrets: &Secrets) -> Result<(), ApiError> {
    let keys = secrets.server_api_keys();
    if keys.is_empty() {
        return Ok(());
    }
    let Some(presented) = presented_api_key(headers) else {
        return Err(ApiError::Unauthorized(
            "an API key is needed: send Authorization: Bearer KEY or X-API-Key: KEY".to_owned(),
        ));
    };
    // Every key is compared, whichever matches, so that time tells nothing.
    let matches = keys.iter().fold(Choice::from(0), |found, key| {
        found | presented.ct_eq(key.expose().as_bytes())
    });
    if bool::from(matches) {
        Ok(())
    } else {
        Err(ApiError::Unauthorized("this API key is not valid".to_owned()))
    }
}

/// Names who made a request in an audit log, without naming the key: `key-` and the first 8 hex digits of its SHA-256;
/// `anonymous` when none was presented.
pub fn requester(headers: &HeaderMap) -> String {
    use sha2::{Digest, Sha256};
    let Some(key) = presented_api_key(headers) else {
        return "anonymous".to_owned();
    };
    let hash = hex::encode(Sha256::digest(key));
    format!("key-{}", hash.get(..8).unwrap_or(&hash))
}

/// The key that a request presents, whether it is a valid one or not.
pub fn presented_api_key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(b"bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii()))
}
