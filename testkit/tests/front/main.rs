//! Calls through the front that is deployed: real nginx, real services, many of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests that print what they measure"
)]

mod coming_back;
mod draining;
mod one_node_a_call;
mod support;
