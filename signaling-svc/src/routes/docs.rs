//! `GET /openapi.json` and `GET /swagger/`: the API as generated from the handlers, and a page that works offline.

use axum::{Json, Router, routing::get};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    archive, calls, nodes, offer, recording, reopening, root, sessions, start, steer, telephony, transferred, webrtc,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Voxray control plane",
        description = "Every route also exists under `/api/v1`, where `/sessions/{id}/api/offer` is `/sessions/{id}/offer` \
                       and answers are the plain envelope `{\"data\": …, \"meta\": {\"requestId\": …}}`. Errors are \
                       `{\"error\": {\"code\", \"message\", \"requestId\", \"details\"?}}`."
    ),
    paths(
        root::index,
        start::start,
        sessions::list,
        sessions::one,
        sessions::end,
        archive::transcript,
        recording::recording,
        nodes::list,
        archive::erase,
        archive::list,
        steer::transfer,
        steer::dtmf,
        offer::offer,
        offer::add_candidates,
        webrtc::offer,
        telephony::webhook,
        telephony::configured,
        reopening::next,
        transferred::plivo_dial,
        transferred::report,
        calls::place,
        calls::status,
        health,
        ready,
        metrics,
    )
)]
struct Api;

/// Both documents, also under `/api/v1`.
pub fn router() -> Router {
    let document = Api::openapi();
    let page = SwaggerUi::new("/swagger").config(Config::from("/openapi.json"));
    let json = Router::new().route("/openapi.json", get(move || async move { Json(document) }));
    Router::new().merge(json.clone()).merge(page).nest("/api/v1", json)
}

// These three are served by every service in the same way; here they are only described.

/// 200 while the process lives, whatever its dependencies do.
#[utoipa::path(get, path = "/health", tag = "service", responses((status = 200, description = "`{\"data\": {\"status\": \"ok\"}}`")))]
#[expect(dead_code, reason = "describes a route that service-kit serves")]
fn health() {}

/// Whether this instance should get traffic.
#[utoipa::path(get, path = "/ready", tag = "service",
    responses((status = 200, description = "Ready"),
        (status = 503, description = "The session store does not answer, no media node accepts sessions, or draining")))]
#[expect(dead_code, reason = "describes a route that service-kit serves")]
fn ready() {}

/// Prometheus text; 204 when `metrics_enabled` is false.
#[utoipa::path(get, path = "/metrics", tag = "service", responses((status = 200, description = "Metrics", content_type = "text/plain")))]
#[expect(dead_code, reason = "describes a route that service-kit serves")]
fn metrics() {}
