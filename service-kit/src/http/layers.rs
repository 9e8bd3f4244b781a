//! The stack of layers that gives every route the same behaviour.
//!
//! From the outside in: request id and log span; metrics; CORS; panics; envelopes for what axum refuses itself; origin
//! of upgrades; API key; body limit; time for the body; time-out; the route.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::Limited;
use tracing::Instrument;

use super::auth::Guard;
use super::envelope::{RequestContext, RequestId};
use super::error::{ApiError, DEFAULT_RETRY_AFTER, Enveloped, error_response};
use super::metrics::{UNMATCHED, record};
use super::origin::{check_origin, cors_layer};
use super::timeouts::{RouteTime, UploadTime, limit_time, limit_upload};
use crate::config::Config;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const API_PREFIX: &str = "/api/v1";

/// Longest message of a foreign rejection that is passed on, in bytes.
const MAX_REJECTION_BYTES: usize = 4096;

/// Gives a finished router the conventions of http-api.md: request ids, `http_*` metrics, panics as 500, CORS, the
/// error envelope (404, 405 and extractor rejections included), the origin check on WebSocket upgrades, API keys, the
/// body limit and the time-outs. Call it once per listener, on the merged routers.
///
/// `exempt` lists routes that need no API key besides `/health`, `/ready` and `/metrics`: a path (`/ws`), a prefix
/// (`/swagger/*`), either with a method before it (`POST /`). Each covers its `/api/v1` twin.
pub fn apply_conventions(router: Router, config: &Config, exempt: &[&str]) -> Router {
    let origins: Arc<[String]> = config.http.cors_allowed_origins.clone().into();
    let guard = Guard::new(Arc::clone(&config.secrets), exempt);
    let limit = BodyLimit(config.http.max_request_body_bytes);
    let patience = config.http.connections;
    crate::tasks::declare(HANDLER);
    let router = router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(RouteTime(patience.request_timeout), limit_time))
        .layer(from_fn_with_state(UploadTime(patience.body_timeout), limit_upload))
        .layer(from_fn_with_state(limit, limit_body))
        .layer(from_fn_with_state(guard, require_key))
        .layer(from_fn_with_state(Arc::clone(&origins), guard_upgrades))
        .layer(from_fn(envelope_rejections))
        .layer(from_fn(catch_panics));
    let router = match cors_layer(&origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(from_fn(measure)).layer(from_fn(identify))
}

/// A path without its `/api/v1` prefix.
pub(super) fn unversioned(path: &str) -> &str {
    match path.strip_prefix(API_PREFIX) {
        Some(rest) if rest.starts_with('/') => rest,
        Some("") => "/",
        Some(_) | None => path,
    }
}

/// Largest accepted body in bytes; 0 = no limit. Also a request extension, for the message of the rejection.
#[derive(Debug, Clone, Copy)]
struct BodyLimit(usize);

/// The limit that applies to this request, in bytes; 0 = none.
pub(super) fn body_limit(request: &Request) -> usize {
    request.extensions().get::<BodyLimit>().map_or(0, |limit| limit.0)
}

async fn not_found() -> ApiError {
    ApiError::NotFound("there is no such route".to_owned())
}

async fn method_not_allowed() -> ApiError {
    ApiError::MethodNotAllowed
}

/// Gives the request its id, in the log, in every answer and in the response header.
async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::accept_or_make(request.headers().get(X_REQUEST_ID));
    let path = request.uri().path();
    let context = RequestContext {
        id: id.clone(),
        with_detail: path == "/start" || path.starts_with("/sessions/"),
    };
    let span = tracing::info_span!("request", request_id = %id.0);
    request.extensions_mut().insert(id.clone());
    let mut response = context.scope(next.run(request).instrument(span)).await;
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// Counts and times every answer by the route's template.
async fn measure(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = route_of(&request);
    let started = Instant::now();
    let response = next.run(request).await;
    record(&method, &route, response.status(), started.elapsed());
    tracing::debug!(%method, %route, status = response.status().as_u16(), "answered");
    response
}

/// What a handler is called among tasks that may panic.
const HANDLER: &str = "http request";

/// A panic ends one request.
async fn catch_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            crate::tasks::count_panic(HANDLER);
            ApiError::internal("the handler panicked").into_response()
        }
    }
}

/// Puts what axum and its extractors refuse as plain text into the error envelope.
async fn envelope_rejections(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || response.extensions().get::<Enveloped>().is_some() || !is_plain(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_REJECTION_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let message = match text.trim() {
        _ if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => "internal error",
        "" => status.canonical_reason().unwrap_or("request refused"),
        text => text,
    };
    let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(DEFAULT_RETRY_AFTER);
    let enveloped = error_response(status, message, &[], retry_after);
    // Headers such as Allow stay; those that described the old body go.
    parts.headers.remove(CONTENT_TYPE);
    parts.headers.remove(CONTENT_LENGTH);
    let (new, body) = enveloped.into_parts();
    parts.headers.extend(new.headers);
    Response::from_parts(parts, body)
}

fn is_plain(response: &Response) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

/// Browsers open WebSockets without asking: other people's pages are refused here.
async fn guard_upgrades(State(allowed): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    if is_upgrade(&request)
        && let Err(refused) = check_origin(request.headers(), &allowed)
    {
        return refused.into_response();
    }
    next.run(request).await
}

async fn require_key(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// Refuses a body that is announced too large at once, and one that turns out to be while it is read.
async fn limit_body(State(limit): State<BodyLimit>, mut request: Request, next: Next) -> Response {
    let BodyLimit(limit_bytes) = limit;
    if limit_bytes == 0 {
        return next.run(request).await;
    }
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit_bytes) {
        return ApiError::BodyTooLarge { limit_bytes }.into_response();
    }
    request.extensions_mut().insert(limit);
    next.run(request.map(|body| Body::new(Limited::new(body, limit_bytes))))
        .await
}

fn is_upgrade(request: &Request) -> bool {
    request.headers().contains_key(UPGRADE)
}

/// Whether this begins a WebSocket (RFC 6455, 4.1).
pub(super) fn is_handshake(request: &Request) -> bool {
    let upgrade = request.headers().get(UPGRADE);
    request.method() == Method::GET
        && upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

pub(super) fn route_of(request: &Request) -> String {
    request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| UNMATCHED.to_owned(), |path| path.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;
    use crate::config::{Profile, Sources, load};

    fn slow_router() -> Router {
        let config = load(&Sources::default(), Profile::SingleProcess).unwrap().config;
        let router = Router::new().route("/slow", get(std::future::pending::<()>));
        apply_conventions(router, &config, &[])
    }

    #[tokio::test(start_paused = true)]
    async fn a_route_that_takes_too_long_is_a_503_and_counted() {
        let request = Request::get("/slow").body(Body::empty()).unwrap();
        let response = slow_router().oneshot(request).await.unwrap();

        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let counted = "http_timeout_total{method=\"GET\",route=\"/slow\"} 1";
        assert!(crate::metrics::render().contains(counted));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upgrade_may_take_its_time() {
        let request = Request::get("/slow")
            .header(UPGRADE, "websocket")
            .body(Body::empty())
            .unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), slow_router().oneshot(request)).await;
        assert!(waited.is_err());
    }

    #[test]
    fn only_a_whole_prefix_is_taken_off() {
        assert_eq!(unversioned("/api/v1/start"), "/start");
        assert_eq!(unversioned("/api/v1"), "/");
        assert_eq!(unversioned("/api/v10/start"), "/api/v10/start");
        assert_eq!(unversioned("/start"), "/start");
    }
}
