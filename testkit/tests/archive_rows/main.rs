//! Transcripts in every database there is, and archived calls read back and erased, with real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "panics are how a test fails, in its helpers too"
)]

#[path = "../../../archiver-svc/tests/common/mod.rs"]
mod common;

mod databases;
mod erasure;
mod plane;
mod reading;
mod retention;
mod rows;
mod single_process;
mod tls;
mod unread;
