//! Steering calls at their phone providers, against scripted servers of their REST APIs over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod calls;
mod failures;
mod machines;
mod requests;
mod server;
mod support;
mod transfers;
