//! Work waiting for an uploader: recordings that have ended, and parts of recordings that go on.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::upload::Job;
use crate::metrics;

/// At most `recording.queue_cap` jobs, those at work and those waiting for another try among them; when it is full,
/// [`push`](Self::push) waits, and with it the node's stream.
///
/// Two jobs for the same key never run at once: what a dead node left and its later whole version would race.
#[derive(Debug)]
pub struct UploadQueue {
    places: std::sync::Arc<Semaphore>,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Entry>,
    running: HashSet<String>,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    not_before: Instant,
}

impl UploadQueue {
    /// An empty queue with this many places.
    pub fn new(places: usize) -> Self {
        Self {
            places: std::sync::Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))),
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Adds a job, waiting for a place as long as it takes.
    pub async fn push(&self, mut job: Job) {
        // The semaphore is never closed; without a permit the job would still be queued, only past the limit.
        job.place = std::sync::Arc::clone(&self.places).acquire_owned().await.ok();
        metrics::bump(&metrics::JOBS_ENQUEUED);
        self.add(job, Instant::now());
    }

    /// Puts a job that failed at the end, to be tried again from then on. It has kept its place.
    pub fn put_back(&self, job: Job, not_before: Instant) {
        self.done(&job.live.key);
        self.add(job, not_before);
    }

    /// Says that the job of this key is no longer running.
    pub fn done(&self, key: &str) {
        self.lock().running.remove(key);
        self.changed.notify_waiters();
    }

    /// The next job that may run now; `None` when the queue is closed and empty.
    pub async fn pop(&self) -> Option<Job> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed, even before the first poll of `changed`.
            changed.as_mut().enable();
            let next_at = {
                let mut inner = self.lock();
                if let Some(job) = inner.take_ready() {
                    inner.publish_depth();
                    return Some(job);
                }
                if inner.closed && inner.waiting.is_empty() {
                    return None;
                }
                inner.next_at()
            };
            match next_at {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// No more jobs will come: uploaders end when the queue is empty.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    fn add(&self, job: Job, not_before: Instant) {
        let mut inner = self.lock();
        inner.waiting.push_back(Entry { job, not_before });
        inner.publish_depth();
        drop(inner);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_ready(&mut self) -> Option<Job> {
        let now = Instant::now();
        let ready = self
            .waiting
            .iter()
            .position(|entry| entry.not_before <= now && !self.running.contains(&entry.job.live.key))?;
        let entry = self.waiting.remove(ready)?;
        self.running.insert(entry.job.live.key.clone());
        Some(entry.job)
    }

    fn next_at(&self) -> Option<Instant> {
        let free = |entry: &&Entry| !self.running.contains(&entry.job.live.key);
        self.waiting.iter().filter(free).map(|entry| entry.not_before).min()
    }

    fn publish_depth(&self) {
        metrics::QUEUE_DEPTH
            .with_label_values(&[] as &[&str])
            .set(self.waiting.len().try_into().unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn keys(job: Option<Job>) -> String {
        job.map(|job| job.live.key.clone()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_full_queue_holds_the_sender_until_a_job_is_done() {
        let queue = UploadQueue::new(1);
        queue.push(Job::test("a")).await;
        let mut second = Box::pin(queue.push(Job::test("b")));
        assert!((&mut second).now_or_never().is_none());

        let first = queue.pop().await;
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(keys(first), "a");

        second.await;
        assert_eq!(keys(queue.pop().await), "b");
    }

    #[tokio::test]
    async fn two_jobs_of_one_key_never_run_at_once() {
        let queue = UploadQueue::new(4);
        queue.push(Job::test("a")).await;
        queue.push(Job::test("a")).await;
        queue.push(Job::test("b")).await;

        assert_eq!(keys(queue.pop().await), "a");
        assert_eq!(keys(queue.pop().await), "b");
        assert!(queue.pop().now_or_never().is_none());

        queue.done("a");
        assert_eq!(keys(queue.pop().await), "a");
    }

    #[tokio::test]
    async fn a_failed_job_waits_behind_the_others_and_comes_back() {
        let queue = UploadQueue::new(2);
        queue.push(Job::test("bad")).await;
        let bad = queue.pop().await.unwrap();
        queue.push(Job::test("good")).await;
        queue.put_back(bad, Instant::now());

        assert_eq!(keys(queue.pop().await), "good");
        assert_eq!(keys(queue.pop().await), "bad");
    }

    #[tokio::test]
    async fn jobs_that_wait_for_another_try_fill_the_queue_and_do_not_hold_up_the_others() {
        let queue = UploadQueue::new(2);
        queue.push(Job::test("bad")).await;
        let bad = queue.pop().await.unwrap();
        queue.put_back(bad, Instant::now() + Duration::from_secs(3600));
        queue.push(Job::test("good")).await;
        let mut third = Box::pin(queue.push(Job::test("third")));

        assert!((&mut third).now_or_never().is_none());
        assert_eq!(keys(queue.pop().await), "good");
        assert!(queue.pop().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_closed_queue_is_emptied_and_then_ends() {
        let queue = UploadQueue::new(1);
        queue.push(Job::test("a")).await;
        queue.close();
        assert_eq!(keys(queue.pop().await), "a");
        assert!(queue.pop().await.is_none());
    }
}
