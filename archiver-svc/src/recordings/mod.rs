//! Recordings: assembled in a spool file while the call runs, stored as one WAV object when it has ended.

mod folder;
mod queue;
mod read;
mod s3;
mod spool;
mod upload;
mod wav;

use std::path::PathBuf;

use aws_sdk_s3::config::Credentials;
use service_kit::config::Config;
use service_kit::exit::Fatal;
use time::OffsetDateTime;

pub use folder::FolderStore;
pub use queue::UploadQueue;
pub use read::Readable;
pub use s3::S3Store;
pub use spool::{Finished, Spool, SpoolDir};
pub use upload::{Job, run_uploader};
pub use wav::Format;

/// A finished WAV file on local disk and where it belongs.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Object key, see [`object_key`].
    pub key: String,
    /// The WAV file, header included.
    pub file: PathBuf,
    /// Length of that file in bytes.
    pub bytes: u64,
    /// SHA-256 of the PCM bytes after the header, lower-case hex.
    pub pcm_sha256: String,
    /// Whether this is the whole call. What a dead node left is not: it never replaces something as long or longer.
    pub complete: bool,
}

/// What storing a recording came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The object was written.
    Written,
    /// The same recording, or for an incomplete one a longer, was there already.
    AlreadyThere,
}

/// Where recordings are kept.
#[derive(Debug)]
pub enum ObjectStore {
    /// A bucket.
    S3(S3Store),
    /// A local folder.
    Folder(FolderStore),
}

impl ObjectStore {
    /// Opens what `recording.*` and `s3.*` describe, or `None` when recording is off. Without `credentials` S3 is asked
    /// with those of the AWS standard chain.
    ///
    /// # Errors
    /// Unwritable folder, missing bucket, refused or missing credentials; each says what to do.
    pub async fn open(config: &Config, credentials: Option<Credentials>) -> Result<Option<Self>, Fatal> {
        if !config.recording.enable {
            return Ok(None);
        }
        Ok(Some(match &config.recording.bucket {
            Some(bucket) => Self::S3(S3Store::open(&config.s3, bucket, credentials).await?),
            None => Self::Folder(FolderStore::open(&config.recording.folder).await?),
        }))
    }

    /// Stores a recording unless it is there already. Doing it twice leaves one object with the same bytes.
    ///
    /// # Errors
    /// Whatever the store said; nothing half-written is visible under the key.
    pub async fn store(&self, recording: &Recording) -> Result<Stored, ObjectError> {
        match self {
            Self::S3(store) => store.store(recording).await.map_err(ObjectError::S3),
            Self::Folder(store) => store.store(recording).await.map_err(ObjectError::Folder),
        }
    }
}

/// Why a recording was not stored, read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// S3 said no, or did not answer.
    #[error("S3 did not take part")]
    S3(#[source] s3::S3Error),
    /// The local folder could not be used.
    #[error("the folder of recordings cannot be used")]
    Folder(#[source] std::io::Error),
}

/// `{base_path}/YYYY/MM/DD/{sessionId}.wav` with one slash between parts and the UTC date of the call's start.
pub fn object_key(base_path: &str, started_at: OffsetDateTime, session_id: &str) -> String {
    let base: Vec<_> = base_path.split('/').filter(|part| !part.is_empty()).collect();
    let date = started_at.to_offset(time::UtcOffset::UTC).date();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let key = format!("{}/{year:04}/{month:02}/{day:02}/{session_id}.wav", base.join("/"));
    key.trim_start_matches('/').to_owned()
}

/// An error and everything behind it in one line: the SDKs hide the reason in the sources.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_slash_between_parts_and_the_utc_date_of_the_start() {
        let start = time::macros::datetime!(2026-03-01 00:30 +2);
        for base in ["recordings/", "recordings", "/recordings//"] {
            assert_eq!(
                object_key(base, start, "abc"),
                "recordings/2026/02/28/abc.wav",
                "{base}"
            );
        }
        assert_eq!(object_key("", start, "abc"), "2026/02/28/abc.wav");
        assert_eq!(object_key("a//b", start, "abc"), "a/b/2026/02/28/abc.wav");
    }
}
