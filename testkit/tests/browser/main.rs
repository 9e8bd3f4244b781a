//! Clients that are not ours against the whole deployment: pipecat's JavaScript clients, unmodified, in Chromium with a
//! recording of a person as the microphone, and what the documentation shows for browsers without a library.
//!
//! What is measured is printed: `cargo test --workspace --test browser -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests that print what they measure"
)]

mod aiortc;
mod console;
mod conversation;
mod documentation;
mod ears;
mod microphone;
mod pipecat;
mod plain;
mod support;
mod tape;
