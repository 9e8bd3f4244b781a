//! Sockets that carry calls: who may open one, and what each protocol looks like.

mod admission;
mod client;
mod overdue;
mod reader;
mod relay;
mod telephony;
mod tokens;
mod webrtc;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;

pub use admission::{Gate, NotAdmitted};
pub use overdue::Overdue;
pub use relay::Relays;
pub use telephony::HeldStreams;
pub use tokens::NotRedeemed;
pub use webrtc::{Answered, OfferOrder, Refused as OfferRefused, WebRtc};

/// How long a far end may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A phone provider, until it says which stream this is.
    pub start: Duration,
    /// A phone stream that was cut, to come back.
    pub hold: Duration,
    /// A client, until `client-ready`.
    pub ready: Duration,
    /// Anyone, to take what is sent; then the connection is given up.
    pub stuck: Duration,
    /// How often a client is asked for a sign of life.
    pub ping_every: Duration,
    /// A client from which not even a pong came for this long is gone. A muted microphone sends no audio at all.
    pub silence: Duration,
    /// WebRTC clients.
    pub rtc: RtcTimeouts,
}

/// How long a WebRTC client may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcTimeouts {
    /// From the answer to its offer, until it is connected.
    pub connect: Duration,
    /// Nothing has come from it for this long: it is gone. Twice a second is looked, once a second it is asked.
    pub vanished: Duration,
    /// One that is gone, to come back.
    pub hold: Duration,
    /// One that has closed its connection, to make another.
    pub left: Duration,
}

impl RtcTimeouts {
    /// What clients and documentation rely on.
    pub const USUAL: Self = Self {
        connect: Duration::from_secs(15),
        vanished: Duration::from_secs(3),
        hold: Duration::from_secs(15),
        left: Duration::from_secs(3),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(5),
            hold: Duration::from_secs(10),
            ready: Duration::from_secs(10),
            stuck: Duration::from_secs(10),
            ping_every: Duration::from_secs(20),
            silence: Duration::from_secs(60),
            rtc: RtcTimeouts::USUAL,
        }
    }
}

/// The routes of the media plane, unversioned and under `/api/v1`.
pub fn router(gate: Arc<Gate>) -> Router {
    let routes = Router::new()
        .route("/ws", get(client::open))
        .route("/telephony/ws", get(telephony::open))
        // Twilio's <Stream url> takes no query string, so its token is part of the path.
        .route("/telephony/ws/{token}", get(telephony::open_with_path_token))
        // Genesys opens its socket without a webhook, and appends the connector's id where the flow names one.
        .route("/telephony/genesys/ws", get(telephony::open_genesys))
        .route(
            "/telephony/genesys/ws/{connector}",
            get(telephony::open_genesys_with_connector),
        )
        .with_state(gate);
    Router::new().merge(routes.clone()).nest("/api/v1", routes)
}
