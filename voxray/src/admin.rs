//! What operators may do to a running process, on the listener that [`service_kit::http::Listeners`] keeps for them.

use axum::Router;
use axum::routing::{post, put};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use service_kit::http::{ApiError, ApiJson, Data};
use service_kit::shutdown::Shutdown;

/// `PUT /log-level`: logs from another level on, until the process ends or SIGHUP reads the configuration again.
///
/// `POST /drain`: what SIGTERM does. Answers 202 at once; `/ready` is 503 from then on, running calls go on until they end
/// or `media.drain_timeout_secs` is over, then the process exits. Asking again changes nothing.
pub fn routes(shutdown: Shutdown) -> Router {
    Router::new()
        .route("/drain", post(move || drain(shutdown)))
        .route("/log-level", put(log_level))
}

async fn drain(shutdown: Shutdown) -> (StatusCode, Data<serde_json::Value>) {
    tracing::info!(again = shutdown.is_draining(), "drain asked for");
    shutdown.begin();
    (StatusCode::ACCEPTED, Data(json!({ "status": "draining" })))
}

/// `{"level": "debug"}`
#[derive(Debug, Deserialize)]
struct LogLevel {
    level: String,
}

async fn log_level(ApiJson(wanted): ApiJson<LogLevel>) -> Result<Data<serde_json::Value>, ApiError> {
    let level = match wanted.level.as_str() {
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" => tracing::Level::WARN,
        "error" => tracing::Level::ERROR,
        _ => return Err(ApiError::invalid_field("level", "must be debug, info, warn or error")),
    };
    service_kit::telemetry::set_level(level);
    tracing::info!(%level, "log level changed");
    Ok(Data(json!({ "level": wanted.level })))
}
