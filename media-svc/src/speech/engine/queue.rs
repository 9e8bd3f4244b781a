//! The queue in front of the recognition threads: finals before interims, both bounded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Priority, Recognised, SpeechError};

/// Final jobs that may wait, over all calls. When full, more callers have stopped speaking than the machine can
/// transcribe within seconds: further jobs fail at once with [`SpeechError::Busy`], and their calls say so.
pub const FINALS: usize = 256;

/// One piece of audio to transcribe.
pub struct Job {
    /// Mono 16 kHz.
    pub audio: Vec<i16>,
    /// Whether anyone is still interested.
    pub cancelled: Arc<AtomicBool>,
    /// Where the answer goes; a receiver that is gone is no error.
    pub reply: oneshot::Sender<Result<Recognised, SpeechError>>,
    /// Final or interim.
    pub priority: Priority,
}

/// Shared between calls and recognition threads.
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    workers: usize,
    /// Final jobs waiting, readable without the lock from inside a running decode.
    finals_waiting: AtomicUsize,
    /// Threads that wait for a job.
    idle: AtomicUsize,
}

#[derive(Default)]
struct State {
    finals: VecDeque<Job>,
    interims: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// An empty queue for this many threads.
    pub fn new(workers: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            workers,
            finals_waiting: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
        }
    }

    /// Adds a job.
    ///
    /// # Errors
    /// [`SpeechError::Busy`] when there are [`FINALS`] final jobs, or for an interim job when no thread is free for it;
    /// [`SpeechError::Stopped`] after [`close`](Self::close).
    pub fn push(&self, job: Job) -> Result<(), SpeechError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SpeechError::Stopped);
        }
        match job.priority {
            Priority::Final => {
                if state.finals.len() >= FINALS {
                    state.finals.retain(|job| !job.cancelled.load(Ordering::Relaxed));
                }
                if state.finals.len() >= FINALS {
                    return Err(SpeechError::Busy);
                }
                state.finals.push_back(job);
                self.finals_waiting.store(state.finals.len(), Ordering::Relaxed);
            }
            Priority::Interim => {
                // Only free threads take interims: what has to wait would be out of date when it is its turn.
                let waiting = state.finals.len() + state.interims.len();
                if waiting >= self.idle.load(Ordering::Relaxed) {
                    return Err(SpeechError::Busy);
                }
                state.interims.push_back(job);
            }
        }
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits for a job nobody has cancelled; `None` when the queue is closed.
    pub fn pop(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let job = state.finals.pop_front().or_else(|| state.interims.pop_front());
            self.finals_waiting.store(state.finals.len(), Ordering::Relaxed);
            match job {
                Some(job) if job.cancelled.load(Ordering::Relaxed) => {}
                Some(job) => return Some(job),
                None => {
                    self.idle.fetch_add(1, Ordering::Relaxed);
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                    self.idle.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether an interim job in progress should make way: final jobs wait and no thread is free.
    pub fn finals_are_waiting(&self) -> bool {
        self.finals_waiting.load(Ordering::Relaxed) > self.idle.load(Ordering::Relaxed)
    }

    /// Jobs that wait, final and interim.
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.finals.len() + state.interims.len()
    }

    /// Number of threads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Lets the threads end; jobs that wait are dropped, which their tickets report as [`SpeechError::Stopped`].
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.finals.clear();
        state.interims.clear();
        drop(state);
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(priority: Priority, mark: i16) -> (Job, Arc<AtomicBool>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let job = Job {
            audio: vec![mark],
            cancelled: Arc::clone(&cancelled),
            reply: oneshot::channel().0,
            priority,
        };
        (job, cancelled)
    }

    fn mark(queue: &Queue) -> i16 {
        queue.pop().unwrap().audio[0]
    }

    #[test]
    fn finals_go_before_interims_that_came_first() {
        let queue = Queue::new(1);
        queue.idle.store(2, Ordering::Relaxed);
        queue.push(job(Priority::Interim, 1).0).unwrap();
        queue.push(job(Priority::Final, 2).0).unwrap();
        queue.push(job(Priority::Final, 3).0).unwrap();
        assert_eq!([mark(&queue), mark(&queue), mark(&queue)], [2, 3, 1]);
    }

    #[test]
    fn an_interim_is_refused_while_no_thread_is_free() {
        let queue = Queue::new(2);
        assert!(matches!(
            queue.push(job(Priority::Interim, 1).0),
            Err(SpeechError::Busy)
        ));
        queue.idle.store(1, Ordering::Relaxed);
        queue.push(job(Priority::Interim, 1).0).unwrap();
        assert!(matches!(
            queue.push(job(Priority::Interim, 2).0),
            Err(SpeechError::Busy)
        ));
    }

    #[test]
    fn cancelled_jobs_are_skipped() {
        let queue = Queue::new(1);
        let (first, cancelled) = job(Priority::Final, 1);
        queue.push(first).unwrap();
        queue.push(job(Priority::Final, 2).0).unwrap();
        cancelled.store(true, Ordering::Relaxed);
        assert_eq!(mark(&queue), 2);
    }

    #[test]
    fn a_full_queue_refuses_finals_until_some_are_cancelled() {
        let queue = Queue::new(1);
        let flags: Vec<_> = (0..FINALS)
            .map(|_| {
                let (job, cancelled) = job(Priority::Final, 0);
                queue.push(job).unwrap();
                cancelled
            })
            .collect();
        assert!(matches!(queue.push(job(Priority::Final, 1).0), Err(SpeechError::Busy)));
        flags[7].store(true, Ordering::Relaxed);
        queue.push(job(Priority::Final, 1).0).unwrap();
    }

    #[test]
    fn a_closed_queue_lets_its_threads_go_and_takes_nothing() {
        let queue = Arc::new(Queue::new(1));
        let thread = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.pop().is_none()
        });
        queue.close();
        assert!(thread.join().unwrap());
        assert!(matches!(
            queue.push(job(Priority::Final, 1).0),
            Err(SpeechError::Stopped)
        ));
    }
}
