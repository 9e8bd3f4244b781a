//! The route table. A file per resource; every route exists unversioned and under `/api/v1`.

mod archive;
mod calls;
mod console;
mod docs;
mod idempotency;
mod nodes;
mod offer;
mod recording;
mod reopening;
mod root;
mod sessions;
mod shape;
mod start;
mod steer;
mod telephony;
mod transferred;
mod webrtc;

use std::sync::Arc;

use axum::routing::{delete, get, post};
use axum::{Extension, Router};

use crate::app::App;
use shape::Shape;

pub use telephony::Placed;

/// All routes of the control plane.
pub fn router(app: Arc<App>) -> Router {
    let unversioned = shared()
        .route(
            "/sessions/{id}/api/offer",
            post(offer::offer).patch(offer::add_candidates),
        )
        .layer(Extension(Shape::Unversioned));
    let v1 = shared()
        .route("/sessions/{id}/offer", post(offer::offer).patch(offer::add_candidates))
        .layer(Extension(Shape::V1));
    Router::new()
        .merge(unversioned)
        .nest("/api/v1", v1)
        .with_state(app)
        .merge(docs::router())
        .merge(console::router())
}

fn shared() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(root::index).post(telephony::configured))
        .route("/start", post(start::start))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::one).delete(sessions::end))
        .route("/sessions/{id}/transcript", get(archive::transcript))
        .route("/sessions/{id}/recording", get(recording::recording))
        .route("/sessions/{id}/archive", delete(archive::erase))
        .route("/archive/sessions", get(archive::list))
        .route("/nodes", get(nodes::list))
        .route("/sessions/{id}/transfer", post(steer::transfer))
        .route("/sessions/{id}/dtmf", post(steer::dtmf))
        .route("/webrtc/offer", post(webrtc::offer))
        .route("/calls", post(calls::place))
        // Plivo, Exotel and Vonage can be told to ask by GET, and Exotel and Vonage do so by themselves.
        .route(
            "/telephony/{provider}",
            get(telephony::webhook).post(telephony::webhook),
        )
        .route("/telephony/{provider}/status", get(calls::status).post(calls::status))
        .route(
            "/telephony/plivo/transfer/{sealed}",
            get(transferred::plivo_dial).post(transferred::plivo_dial),
        )
        .route(
            "/telephony/{provider}/stream/{token}",
            get(reopening::next).post(reopening::next),
        )
        .route(
            "/telephony/{provider}/transferred/{sealed}",
            get(transferred::report).post(transferred::report),
        )
}
