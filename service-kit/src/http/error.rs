//! The error envelope: `{"error": {"code", "message", "requestId", "details"?}, "detail"?}`.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::envelope::{RequestContext, current_request_id};

/// How long clients are told to wait when nothing better is known.
pub(super) const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// One field that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field (`candidates[0].sdp_mid`).
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    /// Makes one.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// Every way in which a request can fail, as the client sees it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400 `BAD_REQUEST`: not JSON, not a UUID, …
    #[error("{0}")]
    BadRequest(String),
    /// 405 with code `BAD_REQUEST`.
    #[error("this route does not take this method")]
    MethodNotAllowed,
    /// 408 with code `BAD_REQUEST`.
    #[error("the request body did not arrive in time (limits.body_timeout_secs)")]
    RequestTimeout,
    /// 413 with code `BAD_REQUEST`.
    #[error("the request body is larger than {limit_bytes} bytes (max_request_body_bytes)")]
    BodyTooLarge {
        /// Largest accepted body in bytes.
        limit_bytes: usize,
    },
    /// 401 `UNAUTHORIZED`.
    #[error("{0}")]
    Unauthorized(String),
    /// 403 `FORBIDDEN`.
    #[error("{0}")]
    Forbidden(String),
    /// 404 `NOT_FOUND`.
    #[error("{0}")]
    NotFound(String),
    /// 409 `CONFLICT`.
    #[error("{0}")]
    Conflict(String),
    /// 422 `VALIDATION_ERROR` with `details`.
    #[error("{message}")]
    Validation {
        /// One sentence for people.
        message: String,
        /// The fields at fault.
        details: Vec<FieldError>,
    },
    /// 429 `RATE_LIMIT_EXCEEDED` with `Retry-After`.
    #[error("too many requests")]
    RateLimited {
        /// When to come back; whole seconds on the wire, at least one.
        retry_after: Duration,
    },
    /// 500 `INTERNAL_ERROR`: the body says nothing, the log says everything.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// 502 `BAD_GATEWAY`: a provider that this server asked cannot be reached or refuses this server.
    #[error("{0}")]
    BadGateway(String),
    /// 504 `GATEWAY_TIMEOUT`: a provider that this server asked did not answer in time.
    #[error("{0}")]
    GatewayTimeout(String),
    /// 503 `SERVICE_UNAVAILABLE` with `Retry-After`.
    #[error("{message}")]
    Unavailable {
        /// What is not available and why, for people.
        message: String,
        /// When to come back; whole seconds on the wire, at least one.
        retry_after: Duration,
    },
}

impl ApiError {
    /// 422 for one field.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let detail = FieldError::new(field, message);
        Self::Validation {
            message: format!("{}: {}", detail.field, detail.message),
            details: vec![detail],
        }
    }

    /// 500 that logs its source.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }

    /// 503 with the usual `Retry-After` of 2 seconds.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable {
            message: message.into(),
            retry_after: DEFAULT_RETRY_AFTER,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Validation { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The `code` on the wire.
    pub fn code(&self) -> &'static str {
        code_of(self.status())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Internal(source) = &self {
            tracing::error!(error = %Chain(source.as_ref()), "a request failed inside");
        }
        let message = self.to_string();
        let (details, retry_after) = match &self {
            Self::Validation { details, .. } => (details.as_slice(), None),
            Self::RateLimited { retry_after } | Self::Unavailable { retry_after, .. } => (&[][..], Some(*retry_after)),
            Self::BadRequest(_)
            | Self::MethodNotAllowed
            | Self::RequestTimeout
            | Self::BodyTooLarge { .. }
            | Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Conflict(_)
            | Self::BadGateway(_)
            | Self::GatewayTimeout(_)
            | Self::Internal(_) => (&[][..], None),
        };
        error_response(self.status(), &message, details, retry_after)
    }
}

/// Marks an answer that already has its envelope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Enveloped;

/// Writes the envelope for any failing status.
pub(super) fn error_response(
    status: StatusCode,
    message: &str,
    details: &[FieldError],
    retry_after: Option<Duration>,
) -> Response {
    let mut error = json!({
        "code": code_of(status),
        "message": message,
        "requestId": current_request_id().0,
    });
    if let Some(object) = error.as_object_mut()
        && !details.is_empty()
    {
        object.insert("details".to_owned(), json!(details));
    }
    let mut body = json!({ "error": error });
    if let Some(object) = body.as_object_mut()
        && RequestContext::current().is_some_and(|context| context.with_detail)
    {
        object.insert("detail".to_owned(), json!(message));
    }
    let mut response = (status, Json(body)).into_response();
    if let Some(wait) = retry_after {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        if let Ok(value) = HeaderValue::from_str(&format!("{seconds:.0}")) {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
    }
    response.extensions_mut().insert(Enveloped);
    response
}

/// The code of a status, as http-api.md lists them; other 4xx are `BAD_REQUEST`.
fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "FORBIDDEN",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::CONFLICT => "CONFLICT",
        StatusCode::UNPROCESSABLE_ENTITY => "VALIDATION_ERROR",
        StatusCode::TOO_MANY_REQUESTS => "RATE_LIMIT_EXCEEDED",
        StatusCode::SERVICE_UNAVAILABLE => "SERVICE_UNAVAILABLE",
        StatusCode::BAD_GATEWAY => "BAD_GATEWAY",
        StatusCode::GATEWAY_TIMEOUT => "GATEWAY_TIMEOUT",
        other if other.is_server_error() => "INTERNAL_ERROR",
        _ => "BAD_REQUEST",
    }
}

/// Shows an error with its sources.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
