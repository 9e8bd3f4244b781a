//! The control plane's routes, as clients see them, against media nodes that are real gRPC servers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod call_reports;
mod calls;
mod console;
mod docs;
mod forms;
mod guards;
mod limits;
mod offer;
mod provider;
mod readiness;
mod reopening;
mod sessions;
mod signatures;
mod start;
mod steer;
mod support;
mod telephony;
mod transferred;
mod webhooks;
mod webrtc;
