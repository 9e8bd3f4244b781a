//! Exit statuses of every Voxray process (after `sysexits.h`).

/// The command line or the configuration is wrong (`EX_USAGE`).
pub const CONFIG: u8 = 64;
/// A file the user named is missing or unreadable (`EX_NOINPUT`).
pub const NO_INPUT: u8 = 66;
/// Something the service needs does not answer: Redis, SQL, S3, the archiver (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A bug (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// A port is taken or a folder cannot be written (`EX_CANTCREAT`).
pub const CANNOT_CREATE: u8 = 73;
/// Speech models could not be fetched, or are damaged (`EX_IOERR`).
pub const MODELS: u8 = 74;

/// An error that ends the process: what happened, what to do next, and the exit status.
#[derive(Debug, thiserror::Error)]
#[error("{what}\n  what to do: {remedy}")]
pub struct Fatal {
    /// One of this module's constants.
    pub status: u8,
    /// What went wrong, with the value at fault (secrets masked).
    pub what: String,
    /// What the operator can do about it.
    pub remedy: String,
}

impl Fatal {
    /// Makes one.
    pub fn new(status: u8, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}
