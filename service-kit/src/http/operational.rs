//! `GET /health`, `GET /ready`, `GET /metrics`, also under `/api/v1`.

use axum::Router;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;

use super::envelope::Data;
use super::error::ApiError;
use super::metrics::announce;
use crate::health::Readiness;

/// The routes that probes and scrapers use. `/health` is 200 while the process lives, whatever its dependencies do;
/// `/ready` is 503 with every reason while a condition of `readiness` does not hold, `/ready?exclude=NAME,NAME` leaves some
/// out (as Kubernetes' own `/readyz` does); `/metrics` is Prometheus text, or
/// 204 when `metrics_enabled` is false.
pub fn operational_routes(readiness: Readiness, metrics_enabled: bool) -> Router {
    probe_routes(readiness).merge(metrics_routes(metrics_enabled))
}

/// `/health` and `/ready` alone.
pub(super) fn probe_routes(readiness: Readiness) -> Router {
    versioned(
        Router::new()
            .route("/health", get(health))
            .route("/ready", get(move |query| ready(readiness, query))),
    )
}

/// `/metrics` alone.
pub(super) fn metrics_routes(enabled: bool) -> Router {
    announce();
    versioned(Router::new().route("/metrics", get(move || metrics(enabled))))
}

/// The same routes under `/api/v1` too.
pub(super) fn versioned(routes: Router) -> Router {
    Router::new().merge(routes.clone()).nest("/api/v1", routes)
}

async fn health() -> Data<serde_json::Value> {
    Data(json!({ "status": "ok" }))
}

/// Which conditions do not matter to who asks.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    /// Names with commas between them.
    #[serde(default)]
    exclude: String,
}

async fn ready(readiness: Readiness, Query(asked): Query<Asked>) -> Result<Data<serde_json::Value>, ApiError> {
    let excluded: Vec<_> = asked.exclude.split(',').collect();
    match readiness.check_without(&excluded) {
        Ok(()) => Ok(Data(json!({ "status": "ready" }))),
        Err(reasons) => Err(ApiError::unavailable(format!("not ready: {}", reasons.join("; ")))),
    }
}

async fn metrics(enabled: bool) -> Response {
    if enabled {
        ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], crate::metrics::render()).into_response()
    } else {
        StatusCode::NO_CONTENT.into_response()
    }
}
