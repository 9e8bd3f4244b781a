//! Ingest: one gRPC stream a node, applied in sequence order, answered twice.

mod acks;
mod adopt;
mod apply;
mod entry;
mod ledger;
mod max_age;
mod nodes;
mod rows;
mod session;
mod stream;

pub use apply::{Archive, HOUSEKEEPING};
pub use entry::{Recorded, start};
pub use nodes::{Delivery, FinishedSessions, Nodes};
pub use stream::IngestService;
