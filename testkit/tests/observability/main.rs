//! What the documentation says is measured is measured: docs/metrics.md, alert rules, dashboards, traces and logs are all
//! held against one running deployment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests, which watch a deployment while they use it"
)]

mod autoscaler;
mod calls;
mod client;
mod contract;
mod dashboards;
mod deployment;
mod internal;
mod lines;
mod nodes;
mod rules;
mod scene;
mod scraper;
mod traces;
