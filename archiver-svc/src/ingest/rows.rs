//! Transcript rows on their way to SQL, one queue a node: while the database is away, audio goes on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::apply::{Archive, Stopped};
use super::entry::{self, Entry};
use super::nodes::Node;
use crate::backoff::Backoff;
use crate::metrics::{self, Waiting};

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
    entry: Entry,
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
    pub async fn push(&self, sequence: u64, entry: Entry) {
        let bytes = (entry.text_bytes() + ROW_BYTES).min(WAITING_BYTES);
        let places = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed; without a permit the row would still be queued, only past the limit.
        let place = Arc::clone(&self.places).acquire_many_owned(places).await.ok();
        self.lock().waiting.push_back(Pending {
            sequence,
            entry,
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
        let rows = entry::batch(batch.iter().map(|pending| &pending.entry));
        let _waiting = Waiting::begin();
        let mut backoff = Backoff::default();
        while !rows.is_empty() {
            match metrics::transaction(store.write(&rows)).await {
                Ok(()) => break,
                Err(error) => {
                    self.pause(&mut backoff, "cannot write transcript rows", &error).await?;
                }
            }
        }
        for pending in &batch {
            let Entry::Recorded(stored) = &pending.entry else {
                continue;
            };
            let noted = || {
                self.register
                    .note_or_remove(&stored.session_id, &stored.key, stored.bytes)
            };
            while let Err(error) = noted().await {
                self.pause(&mut backoff, "cannot note where a recording is", &error).await?;
            }
        }
        for pending in batch {
            node.settle(pending.entry.session_id(), |ledger| {
                ledger.row_written(pending.sequence)
            });
        }
        Ok(())
    }
}
