//! What recordings need of a place to keep them: a bucket, or a folder that behaves like one.

use std::path::Path;
use std::time::SystemTime;

use async_trait::async_trait;

use super::Readable;

/// A store of objects under keys.
#[async_trait]
pub trait Objects: Send + Sync + std::fmt::Debug {
    /// Least and usual length of every part but the last, in bytes.
    fn part_bytes(&self) -> u64;

    /// What is under a key.
    async fn head(&self, key: &str) -> Result<Option<Head>, ObjectError>;

    /// Stores a piece of a file as an object, all of it or nothing, and returns its ETag.
    async fn put_file(
        &self,
        object: &NewObject,
        piece: Piece<'_>,
        condition: &Condition,
    ) -> Result<String, ObjectError>;

    /// Stores some bytes as an object and returns its ETag.
    async fn put_bytes(&self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<String, ObjectError>;

    /// A small object and its ETag.
    async fn get_bytes(&self, key: &str) -> Result<Option<(Vec<u8>, String)>, ObjectError>;

    /// Copies an object to the beginning of a local file, leaving the rest of that file alone. [`ObjectError::Missing`]:
    /// it is not there.
    async fn get_to_file(&self, key: &str, file: &Path) -> Result<(), ObjectError>;

    /// Opens an object for a client; `None` when a folder does not have it. Whether a bucket has it shows when the URL
    /// is used.
    async fn read(&self, key: &str) -> Result<Option<Readable>, ObjectError>;

    /// Removes an object with all its older versions; one that is not there is no error.
    async fn erase(&self, key: &str) -> Result<(), ObjectError>;

    /// Removes an object; one that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// Begins an object that comes in parts, and returns the name of the upload.
    async fn create_upload(&self, object: &NewObject) -> Result<String, ObjectError>;

    /// Stores part `number` (from 1) and returns its ETag. Storing it again replaces it.
    async fn put_part(&self, upload: Upload<'_>, number: u32, piece: Piece<'_>) -> Result<String, ObjectError>;

    /// Stores bytes `from..from + length` of the object under the upload's key, if it still has this ETag, as a part.
    async fn copy_part(&self, upload: Upload<'_>, number: u32, part: CopiedPart<'_>) -> Result<String, ObjectError>;

    /// Makes the object of its parts, in their order, and returns its ETag. It has `bytes`: parts that came behind them from
    /// somebody who did not get to say so are none of it.
    async fn complete(
        &self,
        upload: Upload<'_>,
        parts: &[super::manifest::Part],
        bytes: u64,
        condition: &Condition,
    ) -> Result<String, ObjectError>;

    /// Gives an upload up.
    async fn abort(&self, upload: Upload<'_>) -> Result<(), ObjectError>;

    /// Puts tags in place of those an object has. [`ObjectError::NotTagged`]: it will not have them.
    async fn tag(&self, key: &str, tags: &[(String, String)]) -> Result<(), ObjectError>;

    /// Objects below a prefix.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ObjectError>;

    /// Uploads below a prefix that are neither completed nor given up.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, ObjectError>;
}

/// An object to be stored.
#[derive(Debug, Clone, Default)]
pub struct NewObject {
    /// Key.
    pub key: String,
    /// MIME type.
    pub content_type: &'static str,
    /// Metadata, names without prefix.
    pub metadata: Vec<(&'static str, String)>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

/// A piece of a file.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The file.
    pub file: &'a Path,
    /// First byte.
    pub from: u64,
    /// Number of bytes.
    pub length: u64,
    /// SHA-256 of these bytes: what is stored must have it.
    pub sha256: [u8; 32],
}

/// A part that is copied from the object that is replaced.
#[derive(Debug, Clone, Copy)]
pub struct CopiedPart<'a> {
    /// First byte.
    pub from: u64,
    /// Number of bytes.
    pub length: u64,
    /// ETag of that object.
    pub etag: &'a str,
}

/// An upload in parts.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// Key of its object.
    pub key: &'a str,
    /// Name.
    pub id: &'a str,
}

/// What a store says about an object.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// Changes with every write.
    pub etag: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, lower-case hex, where the store knows it.
    pub sha256: Option<String>,
    /// SHA-256 of its parts' SHA-256s and their number, as S3 writes it, where the store knows it.
    pub parts_sha256: Option<String>,
    /// SHA-256 of its samples as its writer noted it, lower-case hex.
    pub pcm_sha256: Option<String>,
}

/// An object in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Key.
    pub key: String,
    /// When it was written last.
    pub modified: SystemTime,
}

/// An upload in a list.
#[derive(Debug, Clone)]
pub struct ListedUpload {
    /// Key of its object.
    pub key: String,
    /// Name.
    pub id: String,
    /// When it began.
    pub begun: SystemTime,
}

/// What must hold of the object under the key for the write to happen
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
#[derive(Debug, Clone)]
pub enum Condition {
    /// There is none.
    IsFirst,
    /// It is the one with this ETag.
    Replaces(String),
}

impl Condition {
    /// It is still what was found.
    pub fn unchanged(etag: Option<&str>) -> Self {
        match etag {
            None => Self::IsFirst,
            Some(etag) => Self::Replaces(etag.to_owned()),
        }
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The object under the key is another one than the condition says.
    #[error("{operation}: another archiver was quicker")]
    Conflict {
        /// What was asked.
        operation: &'static str,
    },
    /// The upload is not known: it was completed, or given up.
    #[error("{operation}: the upload is not known to the store; was it aborted by a lifecycle rule?")]
    UploadGone {
        /// What was asked.
        operation: &'static str,
    },
    /// An object that the manifest speaks of is not there: whoever completed the recording has removed it.
    #[error("{key} is not in the store any more; was it deleted by hand or by a lifecycle rule?")]
    Missing {
        /// Its key.
        key: String,
    },
    /// S3 said no, or did not answer.
    #[error("S3: {operation} failed")]
    S3 {
        /// The S3 operation.
        operation: &'static str,
        /// What the SDK says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// S3 refuses to tag an object: there is no right to, it has no tags, or not these.
    #[error("S3: put_object_tagging was refused")]
    NotTagged {
        /// What the SDK says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// S3 computed another hash than was sent with the bytes.
    #[error("S3: {operation}: the bytes did not arrive as they were sent")]
    Digest {
        /// The S3 operation.
        operation: &'static str,
    },
    /// An answer without a field that S3 always sends.
    #[error("S3: {0} answered without what it must say")]
    Answer(&'static str),
    /// A local file could not be read or written.
    #[error("cannot use a local file")]
    File(#[from] std::io::Error),
    /// The samples could not be encoded.
    #[error("cannot encode the recording")]
    Encode(#[source] super::encode::EncodeError),
    /// Bytes are not those that were hashed.
    #[error("{0}: the bytes are not those that were hashed; check the disk of this archiver and the object store")]
    Damaged(&'static str),
    /// A versioned bucket has hidden an object instead of deleting it.
    #[error(
        "{key} is hidden, and its versions stay: the bucket is versioned, and this key may not list them; allow \
         s3:ListBucketVersions and s3:DeleteObjectVersion"
    )]
    VersionsStay {
        /// Its key.
        key: String,
    },
    /// A manifest that this release cannot read.
    #[error("the manifest {key} cannot be read: it is of another release, or damaged")]
    Manifest {
        /// Its key.
        key: String,
    },
    /// Another recording under the same key.
    #[error("{key} is there and has other samples: two sessions with the same id?")]
    Different {
        /// Its key.
        key: String,
    },
}

impl ObjectError {
    /// Somebody else changed what was about to be changed: look again.
    pub fn is_changed(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. } | Self::UploadGone { .. } | Self::Missing { .. }
        )
    }
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
