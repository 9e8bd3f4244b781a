//! The wire formats of the six phone providers, against what their documentation shows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod corpus;
mod documented;
mod far_ends;
mod fixtures;
mod hostile;
mod sending;
