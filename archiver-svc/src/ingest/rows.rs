//! Transcript rows on their way to SQL, one queue a node: while the database is away, audio goes on. A row that the
//! database refuses for what is in it does not hold up the others, nor does the note of a recording.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::apply::{Archive, Stopped};
use super::entry::{self, Entry, Recorded};
use super::nodes::Node;
use crate::backoff::Backoff;
use crate::metrics::{self, Waiting};
use crate::recordings::chain;
use crate::transcripts::StoreError;

/// Bytes of rows that may wait. When full, the node's stream is held back: some hours of the turns of 50 calls.
const WAITING_BYTES: usize = 4 * 1024 * 1024;
/// What a row takes beside its text, bytes.
const ROW_BYTES: usize = 256;
/// Most rows in one transaction.
const BATCH: usize = 256;
/// A refused row is tried again this long after: somebody may have given its column more room.
const REFUSED_RETRY: Duration = Duration::from_secs(60);

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
    /// Set aside until then. They keep their places: when all that may wait is refused, the stream is held back.
    refused: Vec<Pending>,
    retry_at: Option<Instant>,
    closed: bool,
}

/// One row and the event it comes from.
#[derive(Debug)]
struct Pending {
    sequence: u64,
    entry: Entry,
    /// Of one that was refused: it shows in `archive_lag_seconds`.
    refused: Option<Waiting>,
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
            refused: None,
            _place: place,
        });
        self.changed.notify_one();
    }

    /// Adds the note of a recording, without waiting: past the limit when there is no room, since an uploader that waits
    /// would hold up other nodes. While there is none the stream is held back, so that those are only the notes of what is
    /// in the upload queue. `false`: no more rows are taken.
    pub fn push_note(&self, sequence: u64, recorded: Recorded) -> bool {
        let entry = Entry::Recorded(recorded);
        let places = u32::try_from(entry.text_bytes() + ROW_BYTES).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).try_acquire_many_owned(places).ok();
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.waiting.push_back(Pending {
            sequence,
            entry,
            refused: None,
            _place: place,
        });
        drop(inner);
        self.changed.notify_one();
        true
    }

    /// No more rows will come: the writer ends when there are none left.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The oldest rows, at most so many, waiting for one; none when there will be none.
    async fn next(&self, most: usize) -> Vec<Pending> {
        loop {
            let retry_at = {
                let mut inner = self.lock();
                if inner.retry_at.is_some_and(|at| at <= Instant::now()) {
                    inner.retry_at = None;
                    let refused = std::mem::take(&mut inner.refused);
                    inner.waiting.extend(refused);
                }
                let count = inner.waiting.len().min(most);
                if count > 0 || inner.closed {
                    return inner.waiting.drain(..count).collect();
                }
                inner.retry_at
            };
            match retry_at {
                Some(at) => drop(tokio::time::timeout_at(at, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    /// Keeps a refused row until it is tried again. It is not acknowledged, so its node keeps it, too.
    fn set_aside(&self, pending: Pending) {
        let mut inner = self.lock();
        inner.refused.push(pending);
        inner.retry_at = Some(Instant::now() + REFUSED_RETRY);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Archive {
    /// Writes the rows of a node until it is gone and all of them are written, or this archiver ends: then the node
    /// sends them to another one.
    pub async fn write_rows(&self, node: Arc<Node>) {
        let mut most = BATCH;
        loop {
            let batch = node.rows.next(most).await;
            if batch.is_empty() || self.write_batch(&node, batch, &mut most).await.is_err() {
                return;
            }
        }
    }

    /// Writes all of them but those that the database refuses for what is in them, trying as long as the database is not
    /// there. `most` is how many go into one transaction: fewer when the database does not get done with so many in time.
    async fn write_batch(&self, node: &Node, batch: Vec<Pending>, most: &mut usize) -> Result<(), Stopped> {
        let _waiting = Waiting::begin();
        let is_note = |pending: &Pending| matches!(pending.entry, Entry::Recorded(_));
        let (notes, rows): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_note);
        let mut backoff = Backoff::default();
        // The last is the next: halves of what was refused, down to the one row.
        let mut parts = vec![rows];
        while let Some(mut part) = parts.pop() {
            if part.len() > *most {
                parts.push(part.split_off(*most));
            }
            match self.write_part(&part).await {
                Ok(()) => {
                    if part.len() == *most {
                        *most = BATCH.min(*most + 1);
                    }
                    backoff = Backoff::default();
                    part.iter().for_each(|pending| settle(node, pending));
                }
                Err(error) if error.is_of_content() && part.len() > 1 => {
                    let later = part.split_off(part.len() / 2);
                    parts.extend([later, part]);
                }
                Err(error) if error.is_of_content() => {
                    for pending in part {
                        refuse(node, pending, &error);
                    }
                }
                Err(error) => {
                    if matches!(error, StoreError::TimedOut(_)) {
                        // So many may take longer than a transaction may, each time again.
                        *most = (part.len() / 2).max(1);
                    }
                    parts.push(part);
                    self.pause_rows(node, &mut backoff, "cannot write transcript rows", &error)
                        .await?;
                }
            }
        }
        for note in notes {
            self.write_note(node, note).await?;
        }
        Ok(())
    }

    async fn write_part(&self, part: &[Pending]) -> Result<(), StoreError> {
        let rows = entry::batch(part.iter().map(|pending| &pending.entry));
        match &self.transcripts {
            Some(store) if !rows.is_empty() => metrics::transaction(store.write(&rows)).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Writes one note by itself: one that the database refuses does not keep the others.
    async fn write_note(&self, node: &Node, pending: Pending) -> Result<(), Stopped> {
        let Entry::Recorded(stored) = &pending.entry else {
            return Ok(());
        };
        let mut backoff = Backoff::default();
        loop {
            let noted = self
                .register
                .note_or_remove(&stored.session_id, &stored.key, stored.bytes);
            match noted.await {
                Ok(()) => {
                    settle(node, &pending);
                    return Ok(());
                }
                Err(error) if error.is_of_content() => {
                    refuse(node, pending, &error);
                    return Ok(());
                }
                Err(error) => {
                    self.pause_rows(node, &mut backoff, "cannot note where a recording is", &error)
                        .await?;
                }
            }
        }
    }

    /// Waits before rows are tried again. Draining ends this where the node sends them to another archiver; what a node sent
    /// that is gone is nowhere else, and only being hurried does.
    async fn pause_rows(
        &self,
        node: &Node,
        backoff: &mut Backoff,
        what: &'static str,
        error: &StoreError,
    ) -> Result<(), Stopped> {
        let stop = async {
            self.shutdown.draining().await;
            if node.is_gone() {
                self.shutdown.hurried().await;
            }
        };
        self.pause_until(stop, backoff, what, error).await
    }
}

/// A row is written.
fn settle(node: &Node, pending: &Pending) {
    node.settle(pending.entry.session_id(), |ledger| match &pending.entry {
        Entry::Recorded(Recorded {
            completes: Some(counts),
            ..
        }) => {
            ledger.count(*counts);
            ledger.ended();
        }
        Entry::Start(_) | Entry::Row(_) | Entry::End(_) | Entry::Recorded(_) => {
            ledger.row_written(pending.sequence);
        }
    });
}

/// A row stays until it is tried again.
fn refuse(node: &Node, mut pending: Pending, error: &StoreError) {
    if pending.refused.is_none() {
        metrics::bump(&metrics::ROWS_REFUSED);
        tracing::error!(
            session_id = pending.entry.session_id(),
            sequence = pending.sequence,
            node_id = node.id,
            is_note_of_recording = matches!(pending.entry, Entry::Recorded(_)),
            error = chain(error),
            "the database refuses a row for what is in it; the rest of its session stays in its node's outbox, and it is \
             tried again every minute: make its column fit"
        );
        pending.refused = Some(Waiting::begin());
    }
    node.rows.set_aside(pending);
}

#[cfg(test)]
mod tests;
