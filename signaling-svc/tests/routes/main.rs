//! The control plane's routes, as clients see them, against media nodes that are real gRPC servers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod docs;
mod guards;
mod offer;
mod readiness;
mod sessions;
mod start;
mod steer;
mod support;
mod telephony;
mod webrtc;
