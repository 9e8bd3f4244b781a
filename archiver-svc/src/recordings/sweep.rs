//! Clearing up what nobody will come back for: uploads without a manifest, manifests of recordings that are done, claims
//! of nodes that are gone. A recording that nobody has worked on for as long is closed with what is stored of it. One
//! thing that cannot be cleared up does not keep the rest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use service_kit::shutdown::Shutdown;

use super::assembly::Assembly;
use super::finish::End;
use super::live::Live;
use super::manifest::Manifest;
use super::objects::{Condition, Listed, ListedUpload, ObjectError, Upload};
use super::spool::SpoolDir;
use super::{RecordingStore, chain};
use crate::register::{Register, RegisterError};

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How long a recording that was closed without its end can be continued by its node.
const CLOSED_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// Clears up at once and then every hour, until the archiver drains.
pub async fn run_sweeper(
    store: Arc<RecordingStore>,
    register: Register,
    spools: Arc<SpoolDir>,
    max_age: Duration,
    shutdown: Shutdown,
) {
    let sweep = Sweep {
        store,
        register,
        spools,
        max_age,
    };
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.draining() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = sweep.run().await {
            tracing::warn!(
                error = chain(&error),
                "unfinished uploads could not be looked through; the next try is in an hour"
            );
        }
    }
}

/// Everything to clear up with.
struct Sweep {
    store: Arc<RecordingStore>,
    register: Register,
    spools: Arc<SpoolDir>,
    max_age: Duration,
}

impl Sweep {
    /// Clears up what is older than `max_age`.
    ///
    /// # Errors
    /// The store does not answer. What fails by itself is logged, and tried again the next time.
    async fn run(&self) -> Result<(), ObjectError> {
        let now = self.store.time().await?;
        for object in self.store.objects.list(&self.store.open_prefix()).await? {
            let swept = self.sweep_open(&object, now).await;
            note(&object.key, swept);
        }
        for claim in self.store.objects.list(&self.store.nodes_prefix()).await? {
            if is_older(claim.modified, now, self.max_age) {
                let deleted = self.store.objects.delete(&claim.key).await;
                note(&claim.key, deleted.map_err(RegisterError::from));
            }
        }
        let base = super::in_base(&self.store.base_path, "");
        for upload in self.store.objects.list_uploads(&base).await? {
            if is_older(upload.begun, now, self.max_age) {
                let swept = self.sweep_upload(&upload).await;
                note(&upload.key, swept.map_err(RegisterError::from));
            }
        }
        Ok(())
    }

    /// Something of a recording that is not finished, or was not a while ago.
    async fn sweep_open(&self, object: &Listed, now: SystemTime) -> Result<(), RegisterError> {
        if !is_older(object.modified, now, self.max_age) {
            return Ok(());
        }
        let name = object.key.strip_prefix(&self.store.open_prefix()).unwrap_or_default();
        if let Some(session_id) = name.strip_suffix(".json") {
            let past_return = is_older(object.modified, now, CLOSED_KEPT);
            return self.sweep_manifest(session_id, past_return).await;
        }
        if let Some(session_id) = name.strip_suffix(".head")
            && self.store.read_manifest(session_id).await?.is_none()
        {
            self.store.objects.delete(&object.key).await?;
        }
        Ok(())
    }

    async fn sweep_manifest(&self, session_id: &str, past_return: bool) -> Result<(), RegisterError> {
        let store = &self.store;
        let Some((manifest, etag)) = store.read_manifest(session_id).await? else {
            return Ok(());
        };
        if manifest.upload_id.is_some() {
            tracing::warn!(
                session_id,
                key = manifest.key,
                "nobody goes on with this recording; it is closed with what is stored of it"
            );
            return self.close_orphan(manifest, etag).await;
        }
        // Whoever made the object may not have got to say so.
        self.note_object(&manifest).await?;
        if manifest.ended().is_some() || past_return {
            store.objects.delete(&store.head_key(session_id)).await?;
            store.objects.delete(&store.manifest_key(session_id)).await?;
        }
        Ok(())
    }

    /// Makes an object of the parts there are.
    async fn close_orphan(&self, manifest: Manifest, etag: String) -> Result<(), RegisterError> {
        let session_id = manifest.facts.session_id.clone();
        let Some(assembly) = Assembly::resume(self.spools.file(&session_id), &manifest) else {
            let key = self.store.manifest_key(&session_id);
            return Err(ObjectError::Manifest { key }.into());
        };
        let live = Arc::new(Live::resumed(manifest, etag, assembly));
        let file = {
            let live = Arc::clone(&live);
            super::blocking(move || Ok(live.assembly().finish()?)).await?
        };
        let end = End {
            file,
            last: None,
            complete: false,
        };
        self.store.finish(&live, &end, |_, _| {}).await?;
        let progress = live.progress.lock().await;
        match &progress.manifest {
            Some((manifest, _)) => self.note_object(manifest).await,
            None => Ok(()),
        }
    }

    async fn note_object(&self, manifest: &Manifest) -> Result<(), RegisterError> {
        let Some(object) = &manifest.object else { return Ok(()) };
        let session_id = &manifest.facts.session_id;
        // Its start may never have got into SQL, and retention goes by that.
        self.register.begun(&manifest.facts, &manifest.key).await?;
        let noted = self.register.note_or_remove(session_id, &manifest.key, object.bytes);
        Ok(noted.await?)
    }

    /// Aborts an upload that no manifest speaks of.
    async fn sweep_upload(&self, upload: &ListedUpload) -> Result<(), ObjectError> {
        let name = upload.key.rsplit('/').next().unwrap_or_default();
        let session_id = name.rsplit_once('.').map_or(name, |(session_id, _)| session_id);
        let manifest = self.store.read_manifest(session_id).await?;
        let is_used = manifest.is_some_and(|(manifest, _)| manifest.upload_id.as_deref() == Some(&upload.id));
        if is_used {
            return Ok(());
        }
        tracing::info!(key = upload.key, "an upload that nobody goes on with is aborted");
        let upload = Upload {
            key: &upload.key,
            id: &upload.id,
        };
        self.store.objects.abort(upload).await
    }
}

impl RecordingStore {
    /// What time it is where objects get their dates: an hour more or less there must not close calls that run.
    async fn time(&self) -> Result<SystemTime, ObjectError> {
        // Among the claims: one that is left behind is cleared up like them, and no node's name looks like this.
        let key = format!("{}clock-{}", self.nodes_prefix(), uuid::Uuid::new_v4().simple());
        self.objects
            .put_bytes(&key, b"what time is it?".to_vec(), &Condition::IsFirst)
            .await?;
        let listed = self.objects.list(&self.nodes_prefix()).await;
        self.objects.delete(&key).await?;
        let probe = listed?.into_iter().find(|object| object.key == key);
        probe
            .map(|probe| probe.modified)
            .ok_or(ObjectError::Answer("list_objects"))
    }
}

/// Says what could not be cleared up; the rest goes on.
fn note(key: &str, swept: Result<(), RegisterError>) {
    if let Err(error) = swept {
        tracing::warn!(
            key,
            error = chain(&error),
            "something unfinished could not be cleared up; the next try is in an hour"
        );
    }
}

fn is_older(at: SystemTime, now: SystemTime, age: Duration) -> bool {
    now.duration_since(at).is_ok_and(|elapsed| elapsed > age)
}
