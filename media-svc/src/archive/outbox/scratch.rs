//! Room on the outbox's disk for what may not be an event yet.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{ArchiveError, Shared};

/// A file without a name: bytes are written at its end and read from its beginning, once. It is gone when this is dropped or the
/// process ends, and counts against `outbox.max_bytes` until then.
pub struct Scratch {
    shared: Arc<Shared>,
    file: File,
    written: u64,
    read: u64,
}

impl Scratch {
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, ArchiveError> {
        Ok(Self {
            shared: Arc::clone(shared),
            file: tempfile::tempfile_in(&shared.dir).map_err(ArchiveError::Io)?,
            written: 0,
            read: 0,
        })
    }

    /// Bytes written, whether read or not.
    pub fn len(&self) -> u64 {
        self.written
    }

    /// Writes these bytes, or none of them.
    ///
    /// # Errors
    /// The outbox has reached its limit, or the disk takes nothing more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let length = bytes.len() as u64;
        {
            let mut state = self.shared.lock();
            if !self.shared.has_room_for(&state, length) {
                let (used, limit) = (state.used(), self.shared.limit);
                return Err(ArchiveError::Full { used, limit });
            }
            state.scratch += length;
        }
        if let Err(error) = self.file.write_all_at(bytes, self.written) {
            let mut state = self.shared.lock();
            state.scratch = state.scratch.saturating_sub(length);
            return Err(ArchiveError::Io(error));
        }
        self.written += length;
        Ok(())
    }

    /// The next bytes, as many as fit; so many must have been written.
    ///
    /// # Errors
    /// The disk does not give them back.
    pub fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, self.read)?;
        self.read += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.scratch = state.scratch.saturating_sub(self.written);
    }
}
