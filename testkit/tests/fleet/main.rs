//! Many of each service: what a fleet does when more calls come at once than it reports.
//!
//! What is measured is printed: `cargo test --workspace --test fleet -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests that print what they measure, and whose calls go on while they do something else"
)]

#[allow(dead_code, reason = "shared with the tests of faults, which use all of it")]
#[path = "../faults/gauges.rs"]
mod gauges;
#[allow(dead_code, reason = "shared with the tests of faults, which use all of it")]
#[path = "../faults/load.rs"]
mod load;
#[allow(dead_code, reason = "shared with the tests of faults, which use all of it")]
#[path = "../faults/scale.rs"]
mod scale;

mod burst;
