//! The wire formats of the six phone providers, against what their documentation shows, and the corpora of all readers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod client_corpus;
mod corpus;
mod documented;
mod far_ends;
mod fixtures;
mod hostile;
mod sending;
