//! What operators may do to a running process, on the listener that [`service_kit::http::Listeners`] keeps for them.

use axum::Router;
use axum::routing::post;
use http::StatusCode;
use serde_json::json;
use service_kit::http::Data;
use service_kit::shutdown::Shutdown;

/// `POST /drain`: what SIGTERM does. Answers 202 at once; `/ready` is 503 from then on, running calls go on until they end
/// or `media.drain_timeout_secs` is over, then the process exits. Asking again changes nothing.
pub fn routes(shutdown: Shutdown) -> Router {
    Router::new().route("/drain", post(move || drain(shutdown)))
}

async fn drain(shutdown: Shutdown) -> (StatusCode, Data<serde_json::Value>) {
    tracing::info!(again = shutdown.is_draining(), "drain asked for");
    shutdown.begin();
    (StatusCode::ACCEPTED, Data(json!({ "status": "draining" })))
}
