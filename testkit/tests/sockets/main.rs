//! What callers' sockets promise to whoever opens one, clients and attackers alike: one process, scripted providers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and tests print what they measure"
)]

mod admission;
mod client;
mod documented_calls;
mod ending;
mod genesys;
mod hostile_client;
mod hostile_provider;
mod hostile_stream;
mod http;
mod outbound;
mod pipecat;
mod providers;
mod references;
mod returning;
mod stream_tokens;
mod support;
mod text_clients;
mod unread;
mod virtual_time;
mod waiting;
