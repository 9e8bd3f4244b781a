//! Recordings: assembled in a file while the call runs, stored part by part (WAV) or when the call has ended.

mod assembly;
mod encode;
mod finish;
mod folder;
mod live;
mod manifest;
mod metadata;
mod objects;
mod queue;
mod read;
mod s3;
mod spool;
mod sweep;
mod upload;
mod wav;
mod whole;

use std::sync::Arc;

use aws_sdk_s3::config::Credentials;
use service_kit::config::{AudioFormat, Config, RecordingTag};
use service_kit::exit::Fatal;
use time::OffsetDateTime;

pub use assembly::{Assembly, Finished};
use encode::can_encode;
pub use finish::{End, Stored};
pub use live::Live;
pub use manifest::{Facts, Manifest};
pub use objects::{ObjectError, chain};
pub use queue::UploadQueue;
pub use read::Readable;
pub use spool::SpoolDir;
pub use sweep::run_sweeper;
pub use upload::{Job, Task, run_uploader};
pub use wav::{Format, HEADER_BYTES};

use folder::FolderStore;
use objects::{Condition, Objects};
use s3::S3Store;

/// Everything a recording needs: a place to grow and a place to stay.
#[derive(Debug, Clone)]
pub struct Recordings {
    /// Where they stay.
    pub store: Arc<RecordingStore>,
    /// Where they grow.
    pub spools: Arc<SpoolDir>,
}

impl Recordings {
    /// A recording that begins. `None`: the configured file format cannot hold samples of this shape.
    pub fn begin(&self, facts: Facts, format: Format) -> Option<Arc<Live>> {
        if !can_encode(self.store.format, format) {
            return None;
        }
        let file = self.spools.file(&facts.session_id);
        let key = self.store.key(facts.started_at(), &facts.session_id);
        let assembly = Assembly::new(file, format, self.store.part_bytes());
        Some(Arc::new(Live::new(facts, key, assembly)))
    }

    /// A recording that goes on as the manifest with this ETag says. `None`: it makes no sense.
    pub fn resume(&self, manifest: Manifest, etag: String) -> Option<Arc<Live>> {
        let assembly = Assembly::resume(self.spools.file(&manifest.facts.session_id), &manifest)?;
        Some(Arc::new(Live::resumed(manifest, etag, assembly)))
    }
}

/// Where recordings are kept, and how.
#[derive(Debug, Clone)]
pub struct RecordingStore {
    objects: Arc<dyn Objects>,
    base_path: String,
    /// File format of recordings.
    pub format: AudioFormat,
    tags: Vec<RecordingTag>,
}

impl RecordingStore {
    /// Opens what `recording.*` and `s3.*` describe, or `None` when recording is off. Without `credentials` S3 is asked
    /// with those of the AWS standard chain. `folder_part_bytes` is the length of a part in a local folder.
    ///
    /// # Errors
    /// Unwritable folder, missing bucket, refused or missing credentials; each says what to do.
    pub async fn open(
        config: &Config,
        credentials: Option<Credentials>,
        folder_part_bytes: Option<u64>,
    ) -> Result<Option<Self>, Fatal> {
        if !config.recording.enable {
            return Ok(None);
        }
        let objects: Arc<dyn Objects> = match &config.recording.bucket {
            Some(bucket) => Arc::new(S3Store::open(&config.s3, bucket, credentials).await?),
            None => {
                let part_bytes = folder_part_bytes.unwrap_or(folder::PART_BYTES);
                Arc::new(FolderStore::open(&config.recording.folder, part_bytes).await?)
            }
        };
        Ok(Some(Self {
            objects,
            base_path: config.recording.base_path.clone(),
            format: config.recording.format,
            tags: config.recording.tags.clone(),
        }))
    }

    /// Length of the parts in which a recording is stored while the call runs; `None` when it is stored at its end.
    pub fn part_bytes(&self) -> Option<u64> {
        match self.format {
            AudioFormat::Wav => Some(self.objects.part_bytes()),
            AudioFormat::Flac | AudioFormat::Ogg => None,
        }
    }

    /// `{base_path}/YYYY/MM/DD/{sessionId}.{format}` with one slash between parts and the UTC date of the call's start.
    pub fn key(&self, started_at: OffsetDateTime, session_id: &str) -> String {
        object_key(&self.base_path, started_at, session_id, self.format.extension())
    }

    /// Length of what is under a key, in bytes.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn length(&self, key: &str) -> Result<Option<u64>, ObjectError> {
        Ok(self.objects.head(key).await?.map(|head| head.bytes))
    }

    /// What is stored of a session that has not ended, or whose node went away, with the manifest's ETag.
    ///
    /// # Errors
    /// The store did not answer, or with something that is no manifest.
    pub async fn manifest(&self, session_id: &str) -> Result<Option<(Manifest, String)>, ObjectError> {
        self.read_manifest(session_id).await
    }

    /// Says that this archiver has the stream of a node from now on.
    ///
    /// # Errors
    /// The store did not take it.
    pub async fn claim_node(&self, node_id: &str, archiver: &str) -> Result<(), ObjectError> {
        let key = self.node_key(node_id);
        let there = self.objects.get_bytes(&key).await?.map(|(_, etag)| etag);
        let condition = Condition::unchanged(there.as_deref());
        self.objects
            .put_bytes(&key, archiver.as_bytes().to_vec(), &condition)
            .await
            .map(drop)
    }

    /// Whether another archiver has the stream of a node.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn has_moved(&self, node_id: &str, archiver: &str) -> Result<bool, ObjectError> {
        let claim = self.objects.get_bytes(&self.node_key(node_id)).await?;
        Ok(claim.is_some_and(|(claimed_by, _)| claimed_by != archiver.as_bytes()))
    }

    async fn read_manifest(&self, session_id: &str) -> Result<Option<(Manifest, String)>, ObjectError> {
        let key = self.manifest_key(session_id);
        let Some((bytes, etag)) = self.objects.get_bytes(&key).await? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(manifest) if manifest.version == manifest::VERSION => Ok(Some((manifest, etag))),
            Ok(_) | Err(_) => Err(ObjectError::Manifest { key }),
        }
    }

    /// Puts a manifest in place of the one with this ETag, or of none.
    async fn write_manifest(&self, manifest: &Manifest, there: Option<&str>) -> Result<String, ObjectError> {
        let key = self.manifest_key(&manifest.facts.session_id);
        let bytes = serde_json::to_vec(manifest).map_err(std::io::Error::other)?;
        self.objects.put_bytes(&key, bytes, &Condition::unchanged(there)).await
    }

    fn manifest_key(&self, session_id: &str) -> String {
        format!("{}{session_id}.json", self.open_prefix())
    }

    fn head_key(&self, session_id: &str) -> String {
        format!("{}{session_id}.head", self.open_prefix())
    }

    fn node_key(&self, node_id: &str) -> String {
        // Node names are free text.
        format!("{}{}", self.nodes_prefix(), hex::encode(node_id))
    }

    fn open_prefix(&self) -> String {
        in_base(&self.base_path, ".open/")
    }

    fn nodes_prefix(&self) -> String {
        in_base(&self.base_path, ".nodes/")
    }
}

fn object_key(base_path: &str, started_at: OffsetDateTime, session_id: &str, extension: &str) -> String {
    let date = started_at.to_offset(time::UtcOffset::UTC).date();
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    in_base(
        base_path,
        &format!("{year:04}/{month:02}/{day:02}/{session_id}.{extension}"),
    )
}

fn in_base(base_path: &str, name: &str) -> String {
    let base: Vec<_> = base_path.split('/').filter(|part| !part.is_empty()).collect();
    let key = format!("{}/{name}", base.join("/"));
    key.trim_start_matches('/').to_owned()
}

/// Runs blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
) -> Result<T, ObjectError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ObjectError::File(std::io::Error::other(error))),
    }
}

#[cfg(test)]
impl RecordingStore {
    /// WAV files in a folder.
    pub async fn test(folder: &std::path::Path) -> Self {
        let objects = FolderStore::open(folder, folder::PART_BYTES)
            .await
            .unwrap_or_else(|fatal| panic!("{fatal}"));
        Self {
            objects: Arc::new(objects),
            base_path: String::new(),
            format: AudioFormat::Wav,
            tags: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_slash_between_parts_and_the_utc_date_of_the_start() {
        let start = time::macros::datetime!(2026-03-01 00:30 +2);
        for base in ["recordings/", "recordings", "/recordings//"] {
            assert_eq!(
                object_key(base, start, "abc", "wav"),
                "recordings/2026/02/28/abc.wav",
                "{base}"
            );
        }
        assert_eq!(object_key("", start, "abc", "ogg"), "2026/02/28/abc.ogg");
        assert_eq!(object_key("a//b", start, "abc", "flac"), "a/b/2026/02/28/abc.flac");
    }
}
