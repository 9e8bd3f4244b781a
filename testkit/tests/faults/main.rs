//! Everything that can go away goes away, while fifty calls run on real servers: nothing that was said is lost.
//!
//! A module for each row of the table in `docs/operations.md`, and lines on which nothing happens. What is measured is
//! printed:
//! `cargo test --workspace --test faults -- --nocapture`. `make chaos` runs the same for long (see `scale`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests that print what they measure, and whose calls go on while they do something else"
)]

#[path = "../../../archiver-svc/tests/common/mod.rs"]
mod common;

mod archiver_killed;
mod archiver_rolled;
mod damaged_outbox;
mod disk_full;
mod gauges;
// Waits for minutes and does nothing: here, where the others take turns, it costs no time.
mod idle_lines;
mod load;
mod long_call;
mod node_killed;
mod on_disk;
mod repeated;
mod scale;
mod stores_away;
#[allow(dead_code, reason = "shared with the tests of nginx, which use all of it")]
#[path = "../front/support.rs"]
mod support;
mod truth;
