//! What is stored of a recording that is not finished, so that another archiver can go on: a small object of its own,
//! replaced only by who has read it last (compare and swap).

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::wav::Format;

/// Layout of the manifest; another one is not touched.
pub const VERSION: u32 = 1;

/// Everything needed to go on with a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// See [`VERSION`].
    pub version: u32,
    /// Key of the recording.
    pub key: String,
    /// Who and what it is of.
    pub facts: Facts,
    /// Shape of the samples.
    pub format: Format,
    /// Bytes of every part but the last.
    pub part_bytes: u64,
    /// The open multipart upload; none when the recording was closed with what there was.
    pub upload_id: Option<String>,
    /// SHA-256 of the first part with a header that does not know its lengths, lower-case hex.
    pub head_sha256: String,
    /// Parts 2, 3 and so on.
    pub parts: Vec<Part>,
    /// Where to go on.
    pub point: Point,
    /// The object under the key, when there is one.
    pub object: Option<StoredObject>,
}

/// Where a recording goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Everything up to and including this event is stored.
    pub sequence: u64,
    /// Samples up to there, bytes. The parts hold at least that.
    pub pcm_bytes: u64,
    /// State of the SHA-256 of these samples, lower-case hex.
    pub hash_state: String,
    /// The node has lost some of the audio before this point.
    pub damaged: bool,
}

/// One stored part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As the store calls it.
    pub etag: String,
    /// Of its bytes, lower-case hex.
    pub sha256: String,
}

/// The object under the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredObject {
    /// As the store calls it.
    pub etag: String,
    /// Its length.
    pub bytes: u64,
    /// The last event of the session, when it has ended; none when its node went away.
    pub ended: Option<u64>,
    /// SHA-256 of its samples, lower-case hex.
    pub pcm_sha256: String,
}

/// What a recording is of: becomes metadata and tags of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Session.
    pub session_id: String,
    /// `telephony`, `websocket`, `webrtc`.
    pub transport: String,
    /// Telephony provider, or empty.
    pub provider: String,
    /// Start of the call, Unix milliseconds.
    pub started_at_unix_ms: u64,
}

impl Facts {
    /// Start of the call; nonsense becomes 1970 rather than an error.
    pub fn started_at(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.started_at_unix_ms) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl Manifest {
    /// How many parts are stored, the first among them.
    pub fn parts_stored(&self) -> u32 {
        u32::try_from(self.parts.len() + 1).unwrap_or(u32::MAX)
    }

    /// The recording is stored to its end.
    pub fn ended(&self) -> Option<u64> {
        self.object.as_ref().and_then(|object| object.ended)
    }
}
