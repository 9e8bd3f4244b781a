//! Recordings read back and deleted.

use std::time::{Duration, SystemTime};

use super::{ObjectError, ObjectStore};

/// Life of a URL to a recording: long enough to begin a download, too short to be passed on.
pub const URL_TTL: Duration = Duration::from_secs(300);

/// A stored recording.
#[derive(Debug)]
pub enum Readable {
    /// Where it can be had for [`URL_TTL`] without further credentials.
    Url(String),
    /// The file itself.
    File {
        /// Opened at its start.
        file: tokio::fs::File,
        /// Its length.
        bytes: u64,
        /// When it was written.
        modified: SystemTime,
    },
}

impl ObjectStore {
    /// Opens a recording; `None` when a folder does not have it. Whether S3 has it shows when the URL is used.
    ///
    /// # Errors
    /// Whatever the store said.
    pub async fn read(&self, key: &str) -> Result<Option<Readable>, ObjectError> {
        match self {
            Self::S3(store) => {
                let url = store.presign(key, URL_TTL).await.map_err(ObjectError::S3)?;
                Ok(Some(Readable::Url(url)))
            }
            Self::Folder(store) => store.read(key).await.map_err(ObjectError::Folder),
        }
    }

    /// Deletes a recording, in S3 with its older versions and with what was uploaded of it in parts. One that is not
    /// there is no error.
    ///
    /// # Errors
    /// Whatever the store said; then ask again.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self {
            Self::S3(store) => store.delete(key).await.map_err(ObjectError::S3),
            Self::Folder(store) => store.delete(key).await.map_err(ObjectError::Folder),
        }
    }
}
