//! The way of calls into the archive: an outbox on disk, and one gRPC stream that empties it.
//!
//! An event counts as produced when it is in the outbox; it leaves the outbox when the archiver says *durable*.

mod outbox;
mod uplink;

use std::sync::Arc;

pub use outbox::{Outbox, Progress, Reader, Scratch};
pub use uplink::{Undelivered, Uplink, UplinkTiming};
use voxray_proto::archive::event::Body;

/// Where a call puts what must not be lost.
pub trait ArchiveSink: Send + Sync {
    /// Opens a session in the archive, or says why it cannot be recorded now (the call is then refused).
    fn open(&self, session_id: &str) -> Result<Arc<dyn ArchiveSession>, ArchiveError>;

    /// Whether a session could be opened now.
    fn check(&self) -> Result<(), ArchiveError>;
}

/// One session's events, in order. Methods take the outbox lock for microseconds and do not wait for disk flushes.
pub trait ArchiveSession: Send + Sync {
    /// Appends one event; sequences are given here, from 1, without gaps.
    fn append(&self, body: Body) -> Result<u64, ArchiveError>;

    /// A file for what may not be an event yet.
    fn scratch(&self) -> Result<Scratch, ArchiveError>;
}

/// Why something could not be put into the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The outbox has reached its limit: archiver, SQL or S3 have been away too long.
    #[error("the outbox is full ({used} of {limit} bytes): the archiver is not acknowledging")]
    Full {
        /// Bytes in use.
        used: u64,
        /// `outbox.max_bytes`.
        limit: u64,
    },
    /// The disk is full or broken.
    #[error("the disk of the outbox takes nothing more: {why}")]
    Disk {
        /// What it said, or how much is left.
        why: String,
    },
    /// The disk refused this event.
    #[error("cannot write the outbox")]
    Io(#[source] std::io::Error),
    /// This can be no event of this session.
    #[error("{0}")]
    NoEvent(&'static str),
}
