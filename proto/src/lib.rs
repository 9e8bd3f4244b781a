//! The contracts between the services, and pipecat's client frames, as generated Rust types.
#![allow(
    missing_docs,
    clippy::all,
    reason = "generated code; the .proto files carry the documentation"
)]

/// signaling-svc to media-svc: sessions, offers, drain, load.
pub mod control {
    tonic::include_proto!("voxray.control.v1");
}

/// media-svc to archiver-svc: what was said and heard, with two acknowledgements; signaling-svc to archiver-svc: the
/// same read back and erased.
pub mod archive {
    tonic::include_proto!("voxray.archive.v1");
}

/// Frames of pipecat's WebSocket clients.
pub mod pipecat {
    tonic::include_proto!("pipecat");
}
