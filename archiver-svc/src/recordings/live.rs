//! A recording that is stored while the call runs: whole parts go up as they come, and a manifest says after each where
//! another archiver would go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::assembly::{Assembly, WholePart, write_header};
use super::finish::Completed;
use super::manifest::{self, Facts, Manifest, Part, StoredObject};
use super::metadata::{self, Known};
use super::objects::{Condition, CopiedPart, NewObject, ObjectError, Piece, Upload};
use super::wav::UNKNOWN_LENGTH;
use super::{RecordingStore, blocking};
use crate::metrics::KindCounts;

/// How often somebody else's change is looked at before the job fails and comes back later.
pub(super) const ATTEMPTS: usize = 4;

/// A recording and how far it is stored. The stream of its node and an uploader share it.
#[derive(Debug)]
pub struct Live {
    /// What it is of.
    pub facts: Facts,
    /// Where it is stored.
    pub key: String,
    assembly: Mutex<Assembly>,
    /// Held by the uploader that works on it.
    pub(super) progress: tokio::sync::Mutex<Progress>,
    /// An uploader has been asked to store parts.
    queued: AtomicBool,
}

/// How far a recording is stored.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Manifest as last read or written, and its ETag; none before the first part.
    pub(super) manifest: Option<(Manifest, String)>,
    /// The first part has to be fetched from the store when it is needed.
    pub(super) head_is_elsewhere: bool,
    /// What was made of the upload, until the manifest says so.
    pub(super) completed: Option<Completed>,
}

impl Live {
    /// A recording that begins.
    pub fn new(facts: Facts, key: String, assembly: Assembly) -> Self {
        Self::with(facts, key, assembly, Progress::default())
    }

    /// A recording that another archiver began, as far as the manifest with this ETag says.
    pub fn resumed(manifest: Manifest, etag: String, assembly: Assembly) -> Self {
        let (facts, key) = (manifest.facts.clone(), manifest.key.clone());
        let progress = Progress {
            manifest: Some((manifest, etag)),
            head_is_elsewhere: true,
            completed: None,
        };
        Self::with(facts, key, assembly, progress)
    }

    fn with(facts: Facts, key: String, assembly: Assembly, progress: Progress) -> Self {
        Self {
            facts,
            key,
            assembly: Mutex::new(assembly),
            progress: tokio::sync::Mutex::new(progress),
            queued: AtomicBool::new(false),
        }
    }

    /// The file in the making. Held for as long as one write takes.
    pub fn assembly(&self) -> MutexGuard<'_, Assembly> {
        self.assembly.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an uploader has to be asked now to store parts: there are some, and none was asked.
    pub fn wants_uploader(&self) -> bool {
        self.assembly().whole_part().is_some() && !self.queued.swap(true, Ordering::AcqRel)
    }

    /// The uploader is done with the parts there were. `true`: more have come meanwhile, and it goes on.
    fn goes_on(&self) -> bool {
        self.queued.store(false, Ordering::Release);
        self.wants_uploader()
    }

    /// The uploader has given up for now, or for ever.
    pub fn uploader_left(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl RecordingStore {
    /// Stores all whole parts. `stored` is told after each up to which event everything is durable, and how many events
    /// of each kind became so.
    ///
    /// # Errors
    /// The store did not take a part; what was stored until then is known, and doing it again goes on behind.
    pub async fn store_parts(&self, live: &Arc<Live>, stored: impl Fn(u64, KindCounts)) -> Result<(), ObjectError> {
        let mut progress = live.progress.lock().await;
        loop {
            self.store_parts_in(live, &mut progress, &stored).await?;
            if !live.goes_on() {
                return Ok(());
            }
        }
    }

    pub(super) async fn store_parts_in(
        &self,
        live: &Arc<Live>,
        progress: &mut Progress,
        stored: &impl Fn(u64, KindCounts),
    ) -> Result<(), ObjectError> {
        let mut attempts = 0;
        loop {
            let Some(part) = live.assembly().whole_part() else {
                return Ok(());
            };
            match self.store_part(live, progress, &part).await {
                Ok(()) => attempts = 0,
                Err(error) if error.is_changed() && attempts < ATTEMPTS => {
                    attempts += 1;
                    self.look_again(live, progress, &error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let Some((manifest, _)) = &progress.manifest else {
                continue;
            };
            let (sequence, parts) = (manifest.point.sequence, manifest.parts_stored());
            let counts = if parts >= part.number {
                part.counts
            } else {
                KindCounts::default()
            };
            let freed = Arc::clone(live);
            blocking(move || {
                freed.assembly().stored(parts);
                Ok(())
            })
            .await?;
            stored(sequence, counts);
        }
    }

    /// Stores the oldest whole part, unless somebody else has done it.
    async fn store_part(&self, live: &Live, progress: &mut Progress, part: &WholePart) -> Result<(), ObjectError> {
        let Some((manifest, _)) = &progress.manifest else {
            return self.store_first(live, progress, part).await;
        };
        if manifest.ended().is_some() || part.number <= manifest.parts_stored() {
            live.assembly().skip_to(part.number);
            return Ok(());
        }
        self.reopen(live, progress).await?;
        let Some((manifest, etag)) = &mut progress.manifest else {
            return Ok(());
        };
        let part_bytes = manifest.part_bytes;
        let upload = open_upload(manifest)?;
        let file = live.assembly().path();
        let piece = Piece {
            file: file.path(),
            from: part_bytes.saturating_mul(u64::from(part.number - 1)),
            length: part_bytes,
            sha256: part.sha256,
        };
        let stored = Part {
            etag: self.objects.put_part(upload, part.number, piece).await?,
            sha256: hex::encode(part.sha256),
        };
        let mut next = manifest.clone();
        next.parts.push(stored);
        next.point = part.point.clone();
        *etag = self.write_manifest(&next, Some(etag)).await?;
        *manifest = next;
        Ok(())
    }

    /// The first part waits for its header: an object of its own until the end.
    async fn store_first(&self, live: &Live, progress: &mut Progress, part: &WholePart) -> Result<(), ObjectError> {
        if self.read_manifest(&live.facts.session_id).await?.is_some() {
            return Err(ObjectError::Conflict {
                operation: "store_first",
            });
        }
        let (format, part_bytes) = (live.assembly().format(), self.objects.part_bytes());
        let head = NewObject {
            key: self.head_key(&live.facts.session_id),
            content_type: "audio/wav",
            ..NewObject::default()
        };
        let file = live.assembly().path();
        let piece = Piece {
            file: file.path(),
            from: 0,
            length: part_bytes,
            sha256: part.sha256,
        };
        let header_of = Arc::clone(&file);
        blocking(move || Ok(write_header(header_of.path(), format, UNKNOWN_LENGTH)?)).await?;
        // Left by an archiver that got no further: replaced.
        let there = self.objects.head(&head.key).await?.map(|head| head.etag);
        let condition = Condition::unchanged(there.as_deref());
        self.objects.put_file(&head, piece, &condition).await?;
        let id = self.objects.create_upload(&self.new_object(live)).await?;
        let manifest = Manifest {
            version: manifest::VERSION,
            key: live.key.clone(),
            facts: live.facts.clone(),
            format,
            part_bytes,
            upload_id: Some(id.clone()),
            head_sha256: hex::encode(part.sha256),
            parts: Vec::new(),
            point: part.point.clone(),
            object: None,
        };
        match self.write_manifest(&manifest, None).await {
            Ok(etag) => {
                progress.manifest = Some((manifest, etag));
                Ok(())
            }
            Err(error) => {
                // If it is stored all the same and only its answer was lost, it names an upload that is gone: the next try
                // opens another one.
                self.give_up(&live.key, &id).await;
                Err(error)
            }
        }
    }

    /// Begins again with a recording that was closed when its node went away: its parts are copied from the object. One
    /// of which there is no object, and no part but the first, needs none.
    pub(super) async fn reopen(&self, live: &Live, progress: &mut Progress) -> Result<(), ObjectError> {
        let Some((manifest, etag)) = &mut progress.manifest else {
            return Ok(());
        };
        let object_etag = match (&manifest.upload_id, &manifest.object) {
            (None, Some(object)) => object.etag.as_str(),
            (None, None) if manifest.parts.is_empty() => "",
            (Some(_), _) | (None, None) => return Ok(()),
        };
        let id = self.objects.create_upload(&self.new_object(live)).await?;
        let mut next = manifest.clone();
        let upload = Upload {
            key: &manifest.key,
            id: &id,
        };
        for (number, part) in (2..).zip(&mut next.parts) {
            let copied = CopiedPart {
                from: manifest.part_bytes.saturating_mul(u64::from(number - 1)),
                length: manifest.part_bytes,
                etag: object_etag,
            };
            match self.objects.copy_part(upload, number, copied).await {
                Ok(etag) => part.etag = etag,
                Err(error) => {
                    self.give_up(&manifest.key, &id).await;
                    return Err(error);
                }
            }
        }
        next.upload_id = Some(id.clone());
        match self.write_manifest(&next, Some(etag)).await {
            Ok(written) => {
                (*manifest, *etag) = (next, written);
                tracing::info!(key = live.key, "a recording goes on with another upload");
                Ok(())
            }
            Err(error) => {
                self.give_up(&live.key, &id).await;
                Err(error)
            }
        }
    }

    /// Somebody else has changed the manifest, the object or the upload: takes over what they did. It is at least as
    /// much as was known here, and of the same bytes.
    pub(super) async fn look_again(
        &self,
        live: &Live,
        progress: &mut Progress,
        why: &ObjectError,
    ) -> Result<(), ObjectError> {
        tracing::debug!(key = live.key, %why, "looking at what another archiver has stored of this recording");
        progress.completed = None;
        progress.manifest = self.read_manifest(&live.facts.session_id).await?;
        let Some((manifest, _)) = &mut progress.manifest else {
            return Ok(());
        };
        progress.head_is_elsewhere = live.assembly().begins_elsewhere();
        if manifest.ended().is_some() {
            return Ok(());
        }
        let there = self.objects.head(&manifest.key).await?;
        manifest.object = there.map(|head| StoredObject {
            etag: head.etag,
            bytes: head.bytes,
            ended: None,
            pcm_sha256: head.pcm_sha256.unwrap_or_default(),
        });
        if let ObjectError::UploadGone { operation } = why {
            let needed = manifest.part_bytes.saturating_mul(u64::from(manifest.parts_stored()));
            // Completed, and then whoever did it died: the object has the parts.
            let is_in_object = manifest.object.as_ref().is_some_and(|object| object.bytes >= needed);
            // The first part is no part of the upload before the end. Any other is lost.
            let head = self.head_key(&live.facts.session_id);
            let goes_on = is_in_object || (manifest.parts.is_empty() && self.objects.head(&head).await?.is_some());
            if !goes_on {
                return Err(ObjectError::UploadGone { operation });
            }
            manifest.upload_id = None;
        }
        Ok(())
    }

    fn new_object(&self, live: &Live) -> NewObject {
        let known = Known {
            facts: &live.facts,
            end: None,
        };
        metadata::describe(&live.key, "audio/wav", known, &self.tags)
    }

    /// Parts of an upload that is given up cost money until they are aborted; the sweeper does what is missed here.
    pub(super) async fn give_up(&self, key: &str, id: &str) {
        if let Err(error) = self.objects.abort(Upload { key, id }).await {
            tracing::debug!(error = super::chain(&error), "cannot abort a multipart upload");
        }
    }
}

/// The upload of a manifest that has one.
pub(super) fn open_upload(manifest: &Manifest) -> Result<Upload<'_>, ObjectError> {
    match &manifest.upload_id {
        Some(id) => Ok(Upload { key: &manifest.key, id }),
        None => Err(ObjectError::Conflict {
            operation: "open_upload",
        }),
    }
}
