//! Starting with something wrong: what the user is told, with which exit status, and what is left on disk.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod call;
mod configuration;
mod dependencies;
mod folders;
mod models;
mod support;
