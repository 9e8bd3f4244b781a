//! Ingest: one gRPC stream a node, applied in sequence order, answered twice.

mod acks;
mod apply;
mod batch;
mod nodes;
mod session;
mod stream;

pub use apply::{Archive, HOUSEKEEPING};
pub use nodes::{Delivery, FinishedSessions, Nodes};
pub use stream::IngestService;
