//! A recognition thread: waits for jobs, loads the models when the first one comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::queue::{Job, Queue};
use super::{Priority, Recognised, SpeechError};
use crate::speech::models::ModelPaths;
use crate::speech::moonshine::{ModelBytes, Moonshine};
use crate::speech::utterance;

/// Model bytes, read by the first thread that needs them and shared by all.
pub struct Models {
    paths: ModelPaths,
    read: Mutex<Option<Arc<ModelBytes>>>,
}

impl Models {
    /// Nothing is read yet.
    pub fn new(paths: ModelPaths) -> Self {
        Self {
            paths,
            read: Mutex::new(None),
        }
    }

    fn get(&self) -> Result<Arc<ModelBytes>, SpeechError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*read {
            return Ok(Arc::clone(bytes));
        }
        let bytes = Arc::new(ModelBytes::read(&self.paths).map_err(SpeechError::model)?);
        *read = Some(Arc::clone(&bytes));
        Ok(bytes)
    }
}

/// Serves jobs until the queue closes. A load that fails fails one job; the next job tries again, so that models
/// repaired meanwhile are picked up.
pub fn run(queue: &Queue, models: &Models) {
    while let Some(first) = queue.pop() {
        let bytes = match models.get() {
            Ok(bytes) => bytes,
            Err(error) => {
                answer(first, Err(error));
                continue;
            }
        };
        match Moonshine::load(&bytes) {
            Ok(mut model) => serve(queue, &mut model, first),
            Err(error) => answer(first, Err(SpeechError::model(error))),
        }
    }
}

/// Returns when the queue is closed, or after a panic, to start over with fresh sessions.
fn serve(queue: &Queue, model: &mut Moonshine<'_>, first: Job) {
    let mut next = Some(first);
    while let Some(job) = next.take().or_else(|| queue.pop()) {
        let outcome = catch_unwind(AssertUnwindSafe(|| recognise(queue, model, &job)));
        let panicked = outcome.is_err();
        answer(job, outcome.unwrap_or(Err(SpeechError::Panicked)));
        if panicked {
            return;
        }
    }
}

fn recognise(queue: &Queue, model: &mut Moonshine<'_>, job: &Job) -> Result<Recognised, SpeechError> {
    let audio = utterance::levelled(&job.audio);
    let stop = || {
        job.cancelled.load(Ordering::Relaxed)
            || match job.priority {
                Priority::Final => false,
                Priority::Interim => queue.finals_are_waiting(),
            }
    };
    let transcript = model
        .transcribe(&audio, stop)
        .map_err(SpeechError::model)?
        .ok_or(SpeechError::Cancelled)?;
    Ok(Recognised {
        text: transcript.text,
        confidence: transcript.confidence,
        first_token: transcript.first_token,
        took: transcript.took,
    })
}

fn answer(job: Job, outcome: Result<Recognised, SpeechError>) {
    // The call may have lost interest meanwhile.
    drop(job.reply.send(outcome));
}
