//! What callers' sockets promise to whoever opens one, clients and attackers alike: one process, scripted providers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod admission;
mod client;
mod hostile_client;
mod hostile_stream;
mod http;
mod outbound;
mod references;
mod stream_tokens;
mod support;
