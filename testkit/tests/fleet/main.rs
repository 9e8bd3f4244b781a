//! Many of each service: what a fleet keeps when Redis is gone, when it is full, when a node is strained, and when every
//! process of it is replaced.
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
#[allow(dead_code, reason = "shared with the tests of faults, which use all of it")]
#[path = "../faults/truth.rs"]
mod truth;

mod burst;
mod capacity;
mod clients;
mod goodbye;
mod in_flight;
mod probes;
mod redis_gone;
mod redis_topologies;
mod rolling;
mod store;
