//! A recording that is stored in one go: a call shorter than a part, or in a format that is encoded at its end.

use std::fs::File;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::assembly::write_header;
use super::encode;
use super::finish::{End, Stored};
use super::folder::each_block;
use super::live::Live;
use super::manifest::Part;
use super::metadata::{self, Known};
use super::objects::{Condition, Head, NewObject, ObjectError, Piece, Upload};
use super::spool::SpoolFile;
use super::wav::HEADER_BYTES;
use super::{RecordingStore, blocking};

/// Largest object that is sent in one request.
const ONE_REQUEST_BYTES: u64 = 8 * 1024 * 1024;

/// A file as it is stored, and its hashes.
#[derive(Debug)]
struct Encoded {
    file: Arc<SpoolFile>,
    bytes: u64,
    sha256: [u8; 32],
    /// Of each part, when it is sent in parts.
    parts: Vec<[u8; 32]>,
}

impl RecordingStore {
    /// Stores a file unless the same, or for an incomplete one a longer, is there.
    pub(super) async fn store_whole(&self, live: &Live, end: &End) -> Result<Stored, ObjectError> {
        // Asked first: while the store is away nothing is encoded in vain.
        let there = self.objects.head(&live.key).await?;
        let encoded = self.encode(live, end).await?;
        if let Some(head) = there.as_ref().filter(|head| is_enough(head, end, &encoded)) {
            return Ok(Stored {
                bytes: head.bytes,
                already_there: true,
            });
        }
        let condition = Condition::unchanged(there.as_ref().map(|head| head.etag.as_str()));
        let known = Known {
            facts: &live.facts,
            end: Some(end.known()),
        };
        let object = metadata::describe(&live.key, encode::content_type(self.format), known, &self.tags);
        if encoded.parts.is_empty() {
            let piece = Piece {
                file: encoded.file.path(),
                from: 0,
                length: encoded.bytes,
                sha256: encoded.sha256,
            };
            self.objects.put_file(&object, piece, &condition).await?;
        } else {
            self.store_in_parts(&object, &encoded, &condition).await?;
        }
        Ok(Stored {
            bytes: encoded.bytes,
            already_there: false,
        })
    }

    async fn encode(&self, live: &Live, end: &End) -> Result<Encoded, ObjectError> {
        let (from, format, part_bytes) = (end.file.clone(), self.format, self.objects.part_bytes());
        let session_id = live.facts.session_id.clone();
        blocking(move || {
            check(&from)?;
            write_header(from.file.path(), from.format, from.bytes - HEADER_BYTES as u64)?;
            let file = encode::encode(&from, format, &session_id)?;
            let mut reader = File::open(file.path())?;
            let bytes = reader.metadata()?.len();
            let sha256 = hash(&mut reader, u64::MAX)?;
            let mut parts = Vec::new();
            if bytes > ONE_REQUEST_BYTES {
                let mut reader = File::open(file.path())?;
                for _ in 0..bytes.div_ceil(part_bytes) {
                    parts.push(hash(&mut reader, part_bytes)?);
                }
            }
            Ok(Encoded {
                file,
                bytes,
                sha256,
                parts,
            })
        })
        .await
    }

    async fn store_in_parts(
        &self,
        object: &NewObject,
        encoded: &Encoded,
        condition: &Condition,
    ) -> Result<(), ObjectError> {
        let id = self.objects.create_upload(object).await?;
        let upload = Upload {
            key: &object.key,
            id: &id,
        };
        let stored = self.all_parts(upload, encoded, condition).await;
        if stored.is_err()
            && let Err(error) = self.objects.abort(upload).await
        {
            tracing::debug!(error = super::chain(&error), "cannot abort a multipart upload");
        }
        stored
    }

    async fn all_parts(&self, upload: Upload<'_>, encoded: &Encoded, condition: &Condition) -> Result<(), ObjectError> {
        let part_bytes = self.objects.part_bytes();
        let mut parts = Vec::new();
        let mut from = 0;
        for (number, sha256) in (1..).zip(&encoded.parts) {
            let piece = Piece {
                file: encoded.file.path(),
                from,
                length: part_bytes.min(encoded.bytes - from),
                sha256: *sha256,
            };
            parts.push(Part {
                etag: self.objects.put_part(upload, number, piece).await?,
                sha256: hex::encode(sha256),
            });
            from += piece.length;
        }
        self.objects
            .complete(upload, &parts, encoded.bytes, condition)
            .await
            .map(drop)
    }
}

fn is_enough(head: &Head, end: &End, encoded: &Encoded) -> bool {
    if !end.complete && end.last.is_none() {
        return head.bytes >= encoded.bytes;
    }
    let same_file = head.sha256 == Some(hex::encode(encoded.sha256));
    let same_samples = head.pcm_sha256 == Some(hex::encode(end.file.pcm_sha256));
    head.bytes == encoded.bytes && (same_file || same_samples)
}

/// The samples on disk are those that came.
fn check(file: &super::Finished) -> Result<(), ObjectError> {
    let mut reader = File::open(file.file.path())?;
    std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(HEADER_BYTES as u64))?;
    if hash(&mut reader, u64::MAX)? == file.pcm_sha256 {
        Ok(())
    } else {
        Err(ObjectError::Damaged("a recording in the spool folder"))
    }
}

fn hash(reader: &mut File, length: u64) -> Result<[u8; 32], ObjectError> {
    let mut hasher = Sha256::new();
    each_block(reader, length, |block| {
        hasher.update(block);
        Ok(())
    })?;
    Ok(hasher.finalize().into())
}
