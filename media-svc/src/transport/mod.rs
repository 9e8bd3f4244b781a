//! Sockets that carry calls: who may open one, and what each protocol looks like.

mod admission;
mod client;
mod reader;
mod telephony;
mod writer;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

pub use admission::Gate;

/// The routes of the media plane.
pub fn router(gate: Arc<Gate>) -> Router {
    Router::new()
        .route("/ws", get(client::open))
        .route("/telephony/ws", get(telephony::open))
        // Twilio's <Stream url> takes no query string, so its token is part of the path.
        .route("/telephony/ws/{token}", get(telephony::open_with_path_token))
        .with_state(gate)
}
