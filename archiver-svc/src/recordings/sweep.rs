//! Clearing up what nobody will come back for: uploads without a manifest, manifests of recordings that are done, claims
//! of nodes that are gone. A recording that nobody has worked on for as long is closed with what is stored of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use service_kit::shutdown::Shutdown;

use super::assembly::Assembly;
use super::finish::End;
use super::live::Live;
use super::manifest::Manifest;
use super::objects::{ObjectError, Upload};
use super::spool::SpoolDir;
use super::{RecordingStore, chain};

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How long a recording that was closed without its end can be continued by its node.
const CLOSED_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Clears up at once and then every hour, until the archiver drains.
pub async fn run_sweeper(store: Arc<RecordingStore>, spools: Arc<SpoolDir>, max_age: Duration, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.draining() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = store.sweep(&spools, max_age).await {
            tracing::warn!(
                error = chain(&error),
                "unfinished uploads could not be looked through; the next try is in an hour"
            );
        }
    }
}

impl RecordingStore {
    /// Clears up what is older than this.
    ///
    /// # Errors
    /// The store did not answer; the rest is left for the next time.
    pub async fn sweep(&self, spools: &Arc<SpoolDir>, max_age: Duration) -> Result<(), ObjectError> {
        for object in self.objects.list(&self.open_prefix()).await? {
            let name = object.key.strip_prefix(&self.open_prefix()).unwrap_or_default();
            if let Some(session_id) = name.strip_suffix(".json")
                && is_older(object.modified, max_age)
            {
                self.sweep_manifest(spools, session_id, is_older(object.modified, CLOSED_KEPT))
                    .await?;
            } else if let Some(session_id) = name.strip_suffix(".head")
                && is_older(object.modified, max_age)
                && self.read_manifest(session_id).await?.is_none()
            {
                self.objects.delete(&object.key).await?;
            }
        }
        for claim in self.objects.list(&self.nodes_prefix()).await? {
            if is_older(claim.modified, max_age) {
                self.objects.delete(&claim.key).await?;
            }
        }
        self.sweep_uploads(max_age).await
    }

    async fn sweep_manifest(
        &self,
        spools: &Arc<SpoolDir>,
        session_id: &str,
        past_return: bool,
    ) -> Result<(), ObjectError> {
        let Some((manifest, etag)) = self.read_manifest(session_id).await? else {
            return Ok(());
        };
        if manifest.upload_id.is_none() && (manifest.ended().is_some() || past_return) {
            self.objects.delete(&self.head_key(session_id)).await?;
            return self.objects.delete(&self.manifest_key(session_id)).await;
        }
        if manifest.upload_id.is_some() {
            tracing::warn!(
                session_id,
                key = manifest.key,
                "nobody goes on with this recording; it is closed with what is stored of it"
            );
            self.close_orphan(spools, manifest, etag).await?;
        }
        Ok(())
    }

    /// Makes an object of the parts there are.
    async fn close_orphan(&self, spools: &Arc<SpoolDir>, manifest: Manifest, etag: String) -> Result<(), ObjectError> {
        let frame_bytes = manifest.format.frame_bytes().max(1);
        let session_id = manifest.facts.session_id.clone();
        // The parts hold a little more than the point to go on from, perhaps up to the middle of a frame.
        let stored = manifest.part_bytes.saturating_mul(u64::from(manifest.parts_stored()));
        let frames = stored.saturating_sub(super::wav::HEADER_BYTES as u64) / frame_bytes;
        let Some(assembly) = Assembly::resume(spools.file(&session_id), &manifest) else {
            return Err(ObjectError::Manifest {
                key: self.manifest_key(&session_id),
            });
        };
        let live = Arc::new(Live::resumed(manifest, etag, assembly));
        let mut file = {
            let live = Arc::clone(&live);
            super::blocking(move || Ok(live.assembly().finish()?)).await?
        };
        (file.bytes, file.frames) = (stored, frames);
        let end = End {
            file,
            last: None,
            complete: false,
        };
        self.finish(&live, &end, |_, _| {}).await.map(drop)
    }

    /// Aborts uploads that no manifest speaks of.
    async fn sweep_uploads(&self, max_age: Duration) -> Result<(), ObjectError> {
        let base = super::in_base(&self.base_path, "");
        for upload in self.objects.list_uploads(&base).await? {
            if !is_older(upload.begun, max_age) {
                continue;
            }
            let name = upload.key.rsplit('/').next().unwrap_or_default();
            let session_id = name.rsplit_once('.').map_or(name, |(session_id, _)| session_id);
            let manifest = self.read_manifest(session_id).await?;
            let is_used = manifest.is_some_and(|(manifest, _)| manifest.upload_id.as_deref() == Some(&upload.id));
            if !is_used {
                tracing::info!(key = upload.key, "an upload that nobody goes on with is aborted");
                let upload = Upload {
                    key: &upload.key,
                    id: &upload.id,
                };
                self.objects.abort(upload).await?;
            }
        }
        Ok(())
    }
}

fn is_older(at: SystemTime, age: Duration) -> bool {
    at.elapsed().is_ok_and(|elapsed| elapsed > age)
}
