//! Phone calls end to end: real speech, real sockets at real-time pace, real servers.
//!
//! What is measured is printed: `cargo test --workspace --test calls -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests that print what they measure, and whose calls go on while they do something else"
)]

mod api;
mod clips;
mod demo;
mod recording;
mod rows;
mod spoken;
mod three_services;
