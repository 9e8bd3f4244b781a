//! Recordings read back and deleted.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use service_kit::config::AudioFormat;

use super::objects::Upload;
use super::{ObjectError, RecordingStore};

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

impl RecordingStore {
    /// Opens a recording; `None` when a folder does not have it. Whether S3 has it shows when the URL is used.
    ///
    /// # Errors
    /// Whatever the store said.
    pub async fn read(&self, key: &str) -> Result<Option<Readable>, ObjectError> {
        self.objects.read(key).await
    }

    /// Deletes a recording in whatever format, in S3 with its older versions, and what there is of it before it is complete. One that is
    /// not there is no error.
    ///
    /// # Errors
    /// Whatever the store said; then ask again.
    pub async fn erase(&self, session_id: &str, key: &str) -> Result<(), ObjectError> {
        let keys = in_every_format(key);
        let uploads = self.objects.list_uploads(without_extension(key)).await?;
        for upload in uploads.iter().filter(|upload| keys.contains(&upload.key)) {
            let upload = Upload {
                key: &upload.key,
                id: &upload.id,
            };
            self.objects.abort(upload).await?;
        }
        let unfinished = [self.manifest_key(session_id), self.head_key(session_id)];
        for key in keys.iter().chain(&unfinished) {
            self.objects.erase(key).await?;
        }
        Ok(())
    }
}

fn without_extension(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(stem, _)| stem)
}

/// Where something of a recording may be beside what is noted of it: `recording.format` may have been another one when its
/// call was sent before.
fn in_every_format(key: &str) -> BTreeSet<String> {
    let formats = [AudioFormat::Wav, AudioFormat::Flac, AudioFormat::Ogg];
    let others = formats.map(|format| format!("{}.{}", without_extension(key), format.extension()));
    others.into_iter().chain([key.to_owned()]).collect()
}
