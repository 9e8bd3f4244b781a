//! Uploaders: they store recordings until it has worked.

use std::sync::Arc;
use std::time::Duration;

use service_kit::shutdown::Shutdown;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::encode::EncodeError;
use super::{End, Live, ObjectError, RecordingStore, Stored, UploadQueue, chain};
use crate::backoff::Backoff;
use crate::ingest::{Delivery, Recorded};
use crate::metrics::{self, Waiting};
use crate::register::Register;
use crate::transcripts::StoreError;

/// How long an uploader waits to be told whether a session was erased. While the database is away it would wait as long as
/// for a connection, and audio is to go on.
const ERASED_LIMIT: Duration = Duration::from_millis(250);

/// Something to be stored.
#[derive(Debug)]
pub struct Job {
    /// Of which recording.
    pub live: Arc<Live>,
    /// What.
    pub task: Task,
    /// Who is told when it is stored; `None` for what a dead node left unended.
    pub delivery: Option<Delivery>,
    /// How it went, once it is stored and only the database is waited for: so it is with what nobody can be told of, since
    /// other notes wait with the rows of their node.
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
        Ok(done) => return finish(queue, job, done),
        Err(error) => error,
    };
    let (key, cause) = (&job.live.key, chain(&error));
    let is_draining = shutdown.is_draining();
    if is_draining && !is_nowhere_else(&job) {
        // It was not acknowledged: the node sends it again to another archiver.
        tracing::warn!(error = cause, key, "shutting down without this recording");
        job.live.uploader_left();
        return queue.done(key);
    }
    match verdict(&error) {
        Verdict::TryAgain if is_draining && is_of_content(&error) => {
            tracing::error!(
                error = cause,
                key,
                "shutting down without a note of this recording, which is stored: the database refuses it for what is in it"
            );
            return queue.done(key);
        }
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

/// What a node left that is gone: it is tried until it works or this archiver is hurried. To be asked while draining.
fn is_nowhere_else(job: &Job) -> bool {
    job.delivery.as_ref().is_none_or(Delivery::is_to_nobody)
}

fn is_of_content(error: &UploadError) -> bool {
    matches!(error, UploadError::Sql(error) if error.is_of_content())
}

/// What came of a job.
#[derive(Debug, Clone, Copy)]
enum Done {
    /// Parts of a recording that goes on are stored.
    Parts,
    /// All of it is stored and noted.
    Noted(Stored),
    /// All of it is stored; the note waits with the rows of its node, which is told when it is written.
    Noting(Stored),
    /// Its session was erased.
    Erased,
}

/// Nothing of an erased session is stored, and what was stored just before it was erased goes again: after the grave is
/// dug, every job sees it.
async fn run(place: &Place, job: &mut Job) -> Result<Done, UploadError> {
    let Place { store, register } = place;
    let (session_id, key) = (&job.live.facts.session_id, &job.live.key);
    let stored = |sequence, counts| {
        if let Some(delivery) = &job.delivery {
            delivery.audio_stored(sequence, counts);
        }
    };
    // Storing goes on while the database is away; the node is not told before it has said that this is kept.
    let is_erased = async || {
        let asked = tokio::time::timeout(ERASED_LIMIT, register.is_erased(session_id)).await;
        matches!(asked, Ok(Ok(true)))
    };
    match &job.task {
        Task::Parts => {
            if !is_erased().await {
                store.store_parts(&job.live, stored).await?;
            }
            if is_erased().await {
                register.remove(session_id, key).await?;
            }
            Ok(Done::Parts)
        }
        Task::Finish(end) => {
            if !is_erased().await {
                let stored = match job.done {
                    // By an earlier try. Since then its node may have come back, and the whole call be in its place.
                    Some(earlier) => Stored {
                        bytes: store.length(key).await?.unwrap_or(earlier.bytes),
                        ..earlier
                    },
                    None => *job.done.insert(store.finish(&job.live, end, stored).await?),
                };
                if register.transcripts.is_some() && leave_note(job, end, stored) {
                    return Ok(Done::Noting(stored));
                }
                if register.recorded(session_id, key, stored.bytes).await? {
                    return Ok(Done::Noted(stored));
                }
            }
            register.remove(session_id, key).await?;
            Ok(Done::Erased)
        }
    }
}

/// Leaves it to the rows of the node to note a recording. `false`: there is no such node, or it is gone.
fn leave_note(job: &Job, end: &End, stored: Stored) -> bool {
    let (Some(delivery), Some(last)) = (&job.delivery, end.last) else {
        return false;
    };
    let counts = job.live.assembly().take_counts();
    let taken = delivery.note(
        last,
        Recorded {
            session_id: job.live.facts.session_id.clone(),
            key: job.live.key.clone(),
            bytes: stored.bytes,
            completes: Some(counts),
        },
    );
    if !taken {
        job.live.assembly().count(counts);
    }
    taken
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
        | ObjectError::Missing { .. }
        | ObjectError::S3 { .. }
        | ObjectError::NotTagged { .. }
        | ObjectError::Answer(_)
        | ObjectError::Digest { .. }
        | ObjectError::VersionsStay { .. }
        | ObjectError::File(_)
        | ObjectError::Manifest { .. } => Verdict::TryAgain,
    }
}

fn finish(queue: &UploadQueue, job: Job, done: Done) {
    let key = &job.live.key;
    queue.done(key);
    metrics::bump(&metrics::JOBS_SUCCESS);
    let session_id = &job.live.facts.session_id;
    let trace_id = job.delivery.as_ref().and_then(|delivery| delivery.trace_id.as_deref());
    match done {
        Done::Parts => tracing::debug!(session_id, trace_id, key, "parts of a running recording stored"),
        Done::Noted(stored) | Done::Noting(stored) => tracing::info!(
            session_id,
            trace_id,
            key,
            bytes = stored.bytes,
            complete = matches!(&job.task, Task::Finish(end) if end.complete),
            already_there = stored.already_there,
            failures = job.backoff.failures(),
            "recording stored"
        ),
        Done::Erased => {}
    }
    if let (Done::Noted(_) | Done::Erased, Some(delivery)) = (done, &job.delivery) {
        let counts = job.live.assembly().take_counts();
        delivery.recording_stored(counts);
    }
    drop(job.waiting);
}

#[cfg(test)]
impl Job {
    /// A job of this key that does nothing.
    pub fn test(key: &str) -> Self {
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
