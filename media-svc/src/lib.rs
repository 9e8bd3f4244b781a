//! The media plane: calls over telephony sockets and client WebSockets, one task a call.

pub mod archive;
pub mod call;
pub mod control;
mod latency;
mod media;
pub mod metrics;
pub mod node;
pub mod providers;
pub mod speech;
pub mod transport;

pub use media::{Media, MediaListeners};

/// Routes that need no API key in a header: they check tokens (or the key) themselves.
pub const OPEN_ROUTES: &[&str] = &[
    "/ws",
    "/telephony/ws",
    "/telephony/ws/*",
    "/telephony/genesys/ws",
    "/telephony/genesys/ws/*",
];
