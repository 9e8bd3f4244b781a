//! The end of a recording: what is missing of it, then its first part with the right header, then one object.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::assembly::{Finished, write_header};
use super::folder::each_block;
use super::live::{ATTEMPTS, Live, Progress, open_upload};
use super::manifest::{Manifest, Part, StoredObject};
use super::metadata::{self, Known, KnownEnd};
use super::objects::{Condition, ObjectError, Piece};
use super::wav::{Format, HEADER_BYTES, UNKNOWN_LENGTH};
use super::{RecordingStore, blocking};
use crate::metrics::KindCounts;

/// How a recording ends.
#[derive(Debug, Clone)]
pub struct End {
    /// The file and its hashes.
    pub file: Finished,
    /// Sequence of the last event; `None`: the node went away, and may come back with more.
    pub last: Option<u64>,
    /// This is all that the node recorded. What is not never replaces something as long or longer.
    pub complete: bool,
}

/// What storing a recording came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Length of the object under the key, in bytes: in an encoded format it is not that of the samples.
    pub bytes: u64,
    /// The same recording, or for an incomplete one a longer, was there already; nothing was written.
    pub already_there: bool,
}

/// The object of an upload that is complete, and not noted in the manifest.
#[derive(Debug)]
pub(super) struct Completed {
    object: StoredObject,
    /// It is the recording that was to be stored, and not a longer one that was there.
    is_ours: bool,
    /// It was there already: the upload has become nothing.
    unused: Option<String>,
}

impl End {
    /// At least what the parts hold, of a recording whose node is gone: that is a little more than the point to go on from,
    /// perhaps up to the middle of a frame, and behind that point nothing may have come here.
    fn with_parts(&self, manifest: &Manifest) -> Self {
        let mut end = self.clone();
        let stored = manifest.part_bytes.saturating_mul(u64::from(manifest.parts_stored()));
        if end.last.is_none() && end.file.bytes < stored {
            end.file.bytes = stored;
            end.file.frames = stored.saturating_sub(HEADER_BYTES as u64) / manifest.format.frame_bytes().max(1);
        }
        end
    }

    /// What an object can say of it.
    pub(super) fn known(&self) -> KnownEnd {
        let rate = u64::from(self.file.format.sample_rate_hz).max(1);
        KnownEnd {
            duration_ms: self.file.frames.saturating_mul(1000) / rate,
            pcm_sha256: self.file.pcm_sha256,
            complete: self.complete,
        }
    }
}

impl RecordingStore {
    /// Stores what is missing of a recording that has ended; `stored` as for [`store_parts`](Self::store_parts). Doing
    /// it twice leaves one object with the same bytes.
    ///
    /// # Errors
    /// Whatever the store said; nothing half-written is visible under the key.
    pub async fn finish(
        &self,
        live: &Arc<Live>,
        end: &End,
        stored: impl Fn(u64, KindCounts),
    ) -> Result<Stored, ObjectError> {
        let mut progress = live.progress.lock().await;
        let mut attempts = 0;
        loop {
            let done = self.finish_in(live, &mut progress, end, &stored).await;
            match done {
                Err(error) if error.is_changed() && attempts < ATTEMPTS => {
                    attempts += 1;
                    if progress.manifest.is_some() {
                        self.look_again(live, &mut progress, &error).await?;
                    }
                }
                done => return done,
            }
        }
    }

    async fn finish_in(
        &self,
        live: &Arc<Live>,
        progress: &mut Progress,
        end: &End,
        stored: &impl Fn(u64, KindCounts),
    ) -> Result<Stored, ObjectError> {
        self.store_parts_in(live, progress, stored).await?;
        let Some((manifest, _)) = &progress.manifest else {
            return self.store_whole(live, end).await;
        };
        if manifest.ended().is_some() {
            return already_stored(manifest, end);
        }
        let end = &end.with_parts(manifest);
        // Closed before, with as much or more: it came back and went away again.
        if let (None, None, Some(object)) = (end.last, &manifest.upload_id, &manifest.object)
            && object.bytes >= end.file.bytes
        {
            return Ok(Stored {
                bytes: object.bytes,
                already_there: true,
            });
        }
        // An earlier try has made the object and got no further. Meanwhile another one may have come in its place.
        if let Some(made) = &progress.completed {
            let there = self.objects.head(&live.key).await?;
            if there.is_none_or(|head| head.etag != made.object.etag) {
                progress.completed = None;
            }
        }
        if progress.completed.is_none() {
            progress.completed = Some(self.complete_upload(live, progress, end).await?);
        }
        let (Some(made), Some((manifest, etag))) = (&progress.completed, &mut progress.manifest) else {
            return Err(ObjectError::Conflict { operation: "finish" });
        };
        if made.is_ours {
            self.tag_at_last(live, end).await?;
        }
        let bytes = made.object.bytes;
        let mut next = manifest.clone();
        next.upload_id = None;
        next.object = Some(made.object.clone());
        *etag = self.write_manifest(&next, Some(etag)).await?;
        *manifest = next;
        if let Some(id) = progress.completed.take().and_then(|made| made.unused) {
            self.give_up(&live.key, &id).await;
        }
        if end.last.is_some() {
            self.objects.delete(&self.head_key(&live.facts.session_id)).await?;
        }
        Ok(Stored {
            bytes,
            already_there: false,
        })
    }

    /// Sends what is missing of an upload and makes the object.
    async fn complete_upload(
        &self,
        live: &Arc<Live>,
        progress: &mut Progress,
        end: &End,
    ) -> Result<Completed, ObjectError> {
        self.reopen(live, progress).await?;
        if progress.head_is_elsewhere {
            let head = self.head_key(&live.facts.session_id);
            self.objects.get_to_file(&head, end.file.file.path()).await?;
            progress.head_is_elsewhere = false;
        }
        let Some((manifest, _)) = &progress.manifest else {
            return Err(ObjectError::Conflict { operation: "finish" });
        };
        let mut parts = vec![self.first_part(manifest, end).await?];
        parts.extend(manifest.parts.iter().cloned());
        parts.extend(self.last_part(manifest, end).await?);
        self.complete(manifest, &parts, end).await
    }

    /// Puts the tags on an object that are only known at its end. Without the right to do so, and in a store that has no
    /// tags, the recording is stored all the same: it is what counts.
    ///
    /// # Errors
    /// What may pass.
    async fn tag_at_last(&self, live: &Live, end: &End) -> Result<(), ObjectError> {
        let known = Known {
            facts: &live.facts,
            end: Some(end.known()),
        };
        let tags = metadata::last_tags(known, &self.tags);
        if tags.is_empty() {
            return Ok(());
        }
        match self.objects.tag(&live.key, &tags).await {
            Err(error @ ObjectError::NotTagged { .. }) => {
                tracing::warn!(
                    error = super::chain(&error),
                    key = live.key,
                    "a recording is stored without its last tags"
                );
                Ok(())
            }
            tagged => tagged,
        }
    }

    async fn first_part(&self, manifest: &Manifest, end: &End) -> Result<Part, ObjectError> {
        let file = Arc::clone(&end.file.file);
        let (length, expected) = (manifest.part_bytes, manifest.head_sha256.clone());
        let (format, pcm_bytes) = (end.file.format, end.file.bytes - HEADER_BYTES as u64);
        let sha256 = blocking(move || put_header(file.path(), length, format, pcm_bytes, &expected)).await?;
        let piece = Piece {
            file: end.file.file.path(),
            from: 0,
            length: manifest.part_bytes,
            sha256,
        };
        Ok(Part {
            etag: self.objects.put_part(open_upload(manifest)?, 1, piece).await?,
            sha256: hex::encode(sha256),
        })
    }

    /// What stands behind the last whole part, if anything does.
    async fn last_part(&self, manifest: &Manifest, end: &End) -> Result<Option<Part>, ObjectError> {
        let stored = u64::from(manifest.parts_stored());
        let from = manifest.part_bytes.saturating_mul(stored);
        // Parts of an archiver that had received more than this one: what this one has is shorter, and no end.
        let Some(length) = end.file.bytes.checked_sub(from) else {
            return Err(ObjectError::Conflict { operation: "last_part" });
        };
        if length == 0 {
            return Ok(None);
        }
        let piece = Piece {
            file: end.file.file.path(),
            from,
            length,
            sha256: end.file.tail_sha256,
        };
        let number = manifest.parts_stored() + 1;
        Ok(Some(Part {
            etag: self.objects.put_part(open_upload(manifest)?, number, piece).await?,
            sha256: hex::encode(piece.sha256),
        }))
    }

    async fn complete(&self, manifest: &Manifest, parts: &[Part], end: &End) -> Result<Completed, ObjectError> {
        let there = self.objects.head(&manifest.key).await?;
        let is_this = |head: &super::objects::Head| {
            head.bytes == end.file.bytes && head.parts_sha256.is_some() && head.parts_sha256 == parts_sha256(parts)
        };
        // What a node left that went away never replaces something as long or longer.
        let is_enough = |head: &super::objects::Head| end.last.is_none() && head.bytes >= end.file.bytes;
        let unused = manifest.upload_id.clone();
        let (etag, bytes, is_ours, unused) = match there {
            // It was completed, and whoever did it did not get to say so.
            Some(head) if is_this(&head) => (head.etag, head.bytes, true, unused),
            Some(head) if is_enough(&head) => (head.etag, head.bytes, false, unused),
            there => {
                let condition = Condition::unchanged(there.as_ref().map(|head| head.etag.as_str()));
                let upload = open_upload(manifest)?;
                let etag = self.objects.complete(upload, parts, end.file.bytes, &condition).await?;
                (etag, end.file.bytes, true, None)
            }
        };
        let object = StoredObject {
            etag,
            bytes,
            ended: end.last,
            pcm_sha256: hex::encode(end.file.pcm_sha256),
        };
        Ok(Completed {
            object,
            is_ours,
            unused,
        })
    }
}

fn already_stored(manifest: &Manifest, end: &End) -> Result<Stored, ObjectError> {
    let same = |object: &&StoredObject| !end.complete || object.pcm_sha256 == hex::encode(end.file.pcm_sha256);
    match manifest.object.as_ref().filter(same) {
        Some(object) => Ok(Stored {
            bytes: object.bytes,
            already_there: true,
        }),
        None => Err(ObjectError::Different {
            key: manifest.key.clone(),
        }),
    }
}

/// Puts the header with the right lengths at the beginning of a file whose first part was stored with another one, and
/// returns the hash of the part as it is then.
fn put_header(
    path: &Path,
    length: u64,
    format: Format,
    pcm_bytes: u64,
    expected_sha256: &str,
) -> Result<[u8; 32], ObjectError> {
    let mut before = Sha256::new_with_prefix(format.header(UNKNOWN_LENGTH));
    let mut after = Sha256::new_with_prefix(format.header(pcm_bytes));
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    each_block(&mut file, length.saturating_sub(HEADER_BYTES as u64), |block| {
        before.update(block);
        after.update(block);
        Ok(())
    })?;
    if hex::encode(before.finalize()) != expected_sha256 {
        return Err(ObjectError::Damaged("the first part of a recording"));
    }
    write_header(path, format, pcm_bytes)?;
    Ok(after.finalize().into())
}

/// What S3 says of an object of these parts
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
fn parts_sha256(parts: &[Part]) -> Option<String> {
    use base64::Engine as _;
    let mut all = Sha256::new();
    for part in parts {
        all.update(hex::decode(&part.sha256).ok()?);
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(all.finalize());
    Some(format!("{encoded}-{}", parts.len()))
}
