//! Uploaders: they store recordings until it has worked.

use std::sync::Arc;

use service_kit::shutdown::Shutdown;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::encode::EncodeError;
use super::{End, Live, ObjectError, RecordingStore, Stored, UploadQueue, chain};
use crate::backoff::Backoff;
use crate::ingest::Delivery;
use crate::metrics::{self, Waiting};
use crate::register::Register;
use crate::transcripts::StoreError;

/// Something to be stored.
#[derive(Debug)]
pub struct Job {
    /// Of which recording.
    pub live: Arc<Live>,
    /// What.
    pub task: Task,
    /// Who is told when it is stored; `None` for what a dead node left.
    pub delivery: Option<Delivery>,
    /// How it went, once it is stored and only the database is waited for.
    done: Option<Stored>,
    /// Failures so far.
    pub backoff: Backoff,
    /// Makes the job count as waiting in `archive_lag_seconds`.
    pub waiting: Waiting,
    /// Its place in the queue, until it is done: what waits for another try is held back, too.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// What is to be stored.
#[derive(Debug)]
pub enum Task {
    /// The parts that are whole; the call goes on.
    Parts,
    /// All of it.
    Finish(End),
}

impl Job {
    /// A job that has not failed yet.
    pub fn new(live: Arc<Live>, task: Task, delivery: Option<Delivery>) -> Self {
        Self {
            live,
            task,
            delivery,
            done: None,
            backoff: Backoff::default(),
            waiting: Waiting::begin(),
            place: None,
        }
    }
}

/// Where recordings go, and where that is noted.
struct Place {
    store: Arc<RecordingStore>,
    register: Register,
}

/// Why a job is not done.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("cannot note where a recording is")]
    Sql(#[from] StoreError),
}

/// Takes jobs until the queue is closed and empty. A job that fails goes to the back of the queue and is tried until it
/// works. It waits there and not here: some bad recordings do not hold up the others. More than `max_retries` failures
/// in a row are reported, and each further one is counted.
pub async fn run_uploader(
    store: Arc<RecordingStore>,
    register: Register,
    queue: Arc<UploadQueue>,
    max_retries: u32,
    shutdown: Shutdown,
) {
    let place = Place { store, register };
    while let Some(job) = queue.pop().await {
        upload(&place, &queue, job, max_retries, &shutdown).await;
    }
}

async fn upload(place: &Place, queue: &UploadQueue, mut job: Job, max_retries: u32, shutdown: &Shutdown) {
    let error = match run(place, &mut job).await {
        Ok(stored) => return finish(queue, job, stored),
        Err(error) => error,
    };
    let (key, cause) = (&job.live.key, chain(&error));
    if shutdown.is_draining() {
        // It was not acknowledged: the node sends it again to another archiver.
        tracing::warn!(error = cause, key, "shutting down without this recording");
        job.live.uploader_left();
        return queue.done(key);
    }
    match verdict(&error) {
        Verdict::TryAgain => {}
        Verdict::BeginAgain => {
            metrics::bump(&metrics::JOBS_FAILED);
            let asked = job.delivery.as_ref().is_some_and(Delivery::begin_again);
            tracing::error!(
                error = cause,
                key,
                asked_again = asked,
                "a recording has changed on this archiver's disk and is not stored; its node has it, too, and is \
                 asked to send it again: check this disk"
            );
            return queue.done(key);
        }
        Verdict::Never => {
            metrics::bump(&metrics::JOBS_FAILED);
            tracing::error!(
                error = cause,
                key,
                "a recording is not stored; what is missing of it stays with its node"
            );
            if let Some(delivery) = &job.delivery {
                delivery.refuse();
            }
            return queue.done(key);
        }
    }
    let wait = job.backoff.next_wait();
    let failures = job.backoff.failures();
    if failures > max_retries {
        metrics::bump(&metrics::JOBS_FAILED);
    }
    // Then about one a minute: an outage is seen and does not fill the disk.
    if failures == max_retries.saturating_add(1) || (failures > max_retries && failures.is_multiple_of(16)) {
        tracing::warn!(
            error = cause,
            key,
            failures,
            "a recording cannot be stored; it waits for its next turn: check the store, its space and its rights"
        );
    } else if failures == 1 {
        tracing::warn!(error = cause, key, "a recording is not stored yet, trying again");
    }
    queue.put_back(job, Instant::now() + wait);
}

/// Nothing of an erased session is stored, and what was stored just before it was erased goes again: after the grave is
/// dug, every job sees it.
async fn run(place: &Place, job: &mut Job) -> Result<Option<Stored>, UploadError> {
    let Place { store, register } = place;
    let (session_id, key) = (&job.live.facts.session_id, &job.live.key);
    let stored = |sequence, counts| {
        if let Some(delivery) = &job.delivery {
            delivery.audio_stored(sequence, counts);
        }
    };
    match &job.task {
        Task::Parts => {
            // Audio goes on while the database is away; the end of the recording looks again.
            let is_erased = async || register.is_erased(session_id).await.unwrap_or(false);
            if !is_erased().await {
                store.store_parts(&job.live, stored).await?;
            }
            if is_erased().await {
                store.erase(session_id, key).await?;
            }
            Ok(None)
        }
        Task::Finish(end) => {
            // Storing goes on while the database is away; the node is not told before it has said that this is kept.
            let mut erased = register.is_erased(session_id).await.unwrap_or(false);
            if !erased {
                if job.done.is_none() {
                    job.done = Some(store.finish(&job.live, end, stored).await?);
                }
                erased = !register.recorded(session_id, key, end.file.bytes).await?;
            }
            if erased {
                tracing::info!(session_id, "the recording of an erased session is not kept");
                store.erase(session_id, key).await?;
            }
            Ok(Some(job.done.unwrap_or(Stored::AlreadyThere)))
        }
    }
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It may pass.
    TryAgain,
    /// What is here is no good, and the node has it, too.
    BeginAgain,
    /// Nothing that is done again can help.
    Never,
}

fn verdict(error: &UploadError) -> Verdict {
    let UploadError::Object(error) = error else {
        return Verdict::TryAgain;
    };
    match error {
        ObjectError::Damaged(_) => Verdict::BeginAgain,
        ObjectError::Different { .. } => Verdict::Never,
        ObjectError::Encode(error) => match error {
            EncodeError::File(_) => Verdict::TryAgain,
            EncodeError::Flac(_) | EncodeError::Opus(_) => Verdict::Never,
        },
        ObjectError::Conflict { .. }
        | ObjectError::UploadGone { .. }
        | ObjectError::S3 { .. }
        | ObjectError::Answer(_)
        | ObjectError::Digest { .. }
        | ObjectError::VersionsStay { .. }
        | ObjectError::File(_)
        | ObjectError::Manifest { .. } => Verdict::TryAgain,
    }
}

fn finish(queue: &UploadQueue, job: Job, stored: Option<Stored>) {
    queue.done(&job.live.key);
    metrics::bump(&metrics::JOBS_SUCCESS);
    match (&job.task, stored) {
        (Task::Finish(end), stored) => {
            tracing::info!(
                key = job.live.key,
                bytes = end.file.bytes,
                complete = end.complete,
                already_there = stored == Some(Stored::AlreadyThere),
                failures = job.backoff.failures(),
                "recording stored"
            );
            if let Some(delivery) = &job.delivery {
                let counts = job.live.assembly().take_counts();
                delivery.recording_stored(counts);
            }
        }
        (Task::Parts, _) => tracing::debug!(key = job.live.key, "parts of a running recording stored"),
    }
    drop(job.waiting);
}

#[cfg(test)]
impl Job {
    /// A job of this key that does nothing.
    pub(super) fn test(key: &str) -> Self {
        let format = super::Format {
            sample_rate_hz: 8000,
            channels: 2,
        };
        let dir = tempfile::tempdir().unwrap();
        let file = super::SpoolDir::open(dir.path()).unwrap().file("test");
        let facts = super::Facts {
            session_id: "test".to_owned(),
            transport: String::new(),
            provider: String::new(),
            started_at_unix_ms: 0,
        };
        let live = Live::new(facts, key.to_owned(), super::Assembly::new(file, format, None));
        Self::new(Arc::new(live), Task::Parts, None)
    }
}

#[cfg(test)]
mod tests;
