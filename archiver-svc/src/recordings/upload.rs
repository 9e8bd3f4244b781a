//! Uploaders: they store recordings until it has worked.

use std::sync::Arc;

use service_kit::shutdown::Shutdown;
use tokio::time::Instant;

use super::{Finished, Recording, Stored, UploadQueue, chain};
use crate::backoff::Backoff;
use crate::ingest::Delivery;
use crate::ledger::Ledger;
use crate::metrics::{self, Waiting};

/// One recording to be stored.
#[derive(Debug)]
pub struct Job {
    /// What goes where.
    pub recording: Recording,
    /// Keeps the file until the job is done.
    pub _file: Option<Finished>,
    /// Who is told when it is stored; `None` for what a dead node left.
    pub delivery: Option<Delivery>,
    /// Failures so far.
    pub backoff: Backoff,
    /// Makes the job count as waiting in `archive_lag_seconds`.
    pub _waiting: Waiting,
}

/// Takes jobs until the queue is closed and empty. A job that fails `max_retries` times in a row goes to the back of
/// the queue, so that one bad recording does not hold up the others; it is tried until it works.
pub async fn run_uploader(store: Arc<Ledger>, queue: Arc<UploadQueue>, max_retries: u32, shutdown: Shutdown) {
    while let Some(job) = queue.pop().await {
        upload(&store, &queue, job, max_retries, &shutdown).await;
    }
}

async fn upload(store: &Ledger, queue: &UploadQueue, mut job: Job, max_retries: u32, shutdown: &Shutdown) {
    let mut quick_retries = 0;
    loop {
        let error = match store.store(&job.recording).await {
            Ok(stored) => return finish(queue, job, stored),
            Err(error) => error,
        };
        if shutdown.is_draining() {
            // It was not acknowledged: the node sends it again to another archiver.
            tracing::warn!(
                error = chain(&error),
                key = job.recording.key,
                "shutting down without this recording"
            );
            return queue.done(&job.recording.key);
        }
        let wait = job.backoff.next_wait();
        if job.backoff.failures() == 1 {
            tracing::warn!(
                error = chain(&error),
                key = job.recording.key,
                "a recording is not stored yet, trying again"
            );
        }
        if quick_retries >= max_retries {
            metrics::bump(&metrics::JOBS_FAILED);
            tracing::warn!(
                error = chain(&error),
                key = job.recording.key,
                failures = job.backoff.failures(),
                "a recording cannot be stored; it waits for its next turn: check the store, its space and its rights"
            );
            return queue.put_back(job, Instant::now() + wait);
        }
        quick_retries += 1;
        tokio::time::sleep(wait).await;
    }
}

fn finish(queue: &UploadQueue, job: Job, stored: Stored) {
    queue.done(&job.recording.key);
    metrics::bump(&metrics::JOBS_SUCCESS);
    tracing::info!(
        key = job.recording.key,
        bytes = job.recording.bytes,
        complete = job.recording.complete,
        already_there = stored == Stored::AlreadyThere,
        failures = job.backoff.failures(),
        "recording stored"
    );
    if let Some(delivery) = job.delivery {
        delivery.confirm();
    }
}

#[cfg(test)]
impl Job {
    /// A job of this key without a file.
    pub(super) fn test(key: &str) -> Self {
        Self {
            recording: Recording {
                key: key.to_owned(),
                file: std::path::PathBuf::new(),
                bytes: 0,
                pcm_sha256: String::new(),
                complete: true,
            },
            _file: None,
            delivery: None,
            backoff: Backoff::default(),
            _waiting: Waiting::begin(),
        }
    }
}
