//! Transcript rows on their way to SQL, one queue a node: while the database is away, audio goes on.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::apply::{Archive, Stopped};
use super::nodes::Node;
use crate::backoff::Backoff;
use crate::metrics::{DB_ERRORS, DB_WRITE, Waiting};
use crate::transcripts::Row;

/// Bytes of rows that may wait. When full, the node's stream is held back: some hours of the turns of 50 calls.
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// What a row takes beside its text, bytes.
const ROW_BYTES: usize = 256;
/// Most rows in one transaction.
const BATCH: usize = 256;

/// Rows that wait to be written.
#[derive(Debug)]
pub struct Rows {
    places: Arc<Semaphore>,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Pending>,
    closed: bool,
}

/// One row and the event it comes from.
#[derive(Debug)]
struct Pending {
    sequence: u64,
    row: Row,
    _place: Option<OwnedSemaphorePermit>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(WAITING_BYTES)),
            inner: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl Rows {
    /// Adds the row of an event, waiting for room as long as it takes.
    pub async fn push(&self, sequence: u64, row: Row) {
        let bytes = (row.text.len() + ROW_BYTES).min(WAITING_BYTES);
        let places = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed; without a permit the row would still be queued, only past the limit.
        let place = Arc::clone(&self.places).acquire_many_owned(places).await.ok();
        self.lock().waiting.push_back(Pending {
            sequence,
            row,
            _place: place,
        });
        self.changed.notify_one();
    }

    /// No more rows will come: the writer ends when there are none left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The oldest rows, waiting for one; none when there will be none.
    async fn next(&self) -> Vec<Pending> {
        loop {
            {
                let mut inner = self.lock();
                let count = inner.waiting.len().min(BATCH);
                if count > 0 || inner.closed {
                    return inner.waiting.drain(..count).collect();
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Writes the rows of a node until it is gone and all of them are written, or this archiver ends: then the node
    /// sends them to another one.
    pub async fn write_rows(&self, node: Arc<Node>) {
        loop {
            let batch = node.rows.next().await;
            if batch.is_empty() || self.write_batch(&node, batch).await.is_err() {
                return;
            }
        }
    }

    async fn write_batch(&self, node: &Node, batch: Vec<Pending>) -> Result<(), Stopped> {
        let Some(store) = &self.transcripts else { return Ok(()) };
        // One statement does not see its own rows: a turn number used twice would break the unique key for ever.
        let mut seen = HashSet::new();
        let rows: Vec<_> = batch
            .iter()
            .filter(|pending| seen.insert((&pending.row.session_id, pending.row.seq)))
            .map(|pending| pending.row.clone())
            .collect();
        let _waiting = Waiting::begin();
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let outcome = store.write(&rows).await;
            DB_WRITE
                .with_label_values(&[] as &[&str])
                .observe(started.elapsed().as_secs_f64());
            match outcome {
                Ok(()) => break,
                Err(error) => {
                    DB_ERRORS.with_label_values(&[error.kind()]).inc();
                    self.pause(&mut backoff, "cannot write transcript rows", &error).await?;
                }
            }
        }
        for pending in batch {
            node.settle(&pending.row.session_id, |ledger| ledger.row_written(pending.sequence));
        }
        Ok(())
    }
}
