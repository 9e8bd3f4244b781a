//! What service-kit promises, a file per behaviour. One program: each links everything.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;
mod config_docs;
mod config_problems;
mod config_sources;
mod grpc_listener;
mod http_envelopes;
mod http_guards;
mod http_limits;
mod http_listener;
mod http_listeners;
mod http_metrics;
