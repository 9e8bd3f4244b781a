//! Transcript rows on their way to SQL, one queue a node: while the database is away, audio goes on. A row that the
//! database refuses for what is in it does not hold up the others, nor does the note of a recording, nor a session that
//! somebody has locked in the database.

mod locked;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::locked::{Held, LockedSessions, by_session, is_of_one_session};
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
    locked: LockedSessions,
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
        self.lock().add(Pending {
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
        inner.add(Pending {
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

    /// The oldest rows that can be written, at most so many, waiting for one; none when there will be none.
    async fn next(&self, most: usize) -> Vec<Pending> {
        loop {
            let retry_at = {
                let mut inner = self.lock();
                if inner.retry_at.is_some_and(|at| at <= Instant::now()) {
                    inner.retry_at = None;
                    let refused = std::mem::take(&mut inner.refused);
                    refused.into_iter().for_each(|pending| inner.add(pending));
                }
                let batch = inner.take(most);
                if !batch.is_empty() || inner.closed {
                    return batch;
                }
                inner.retry_at.into_iter().chain(inner.locked.retry_at()).min()
            };
            match retry_at {
                Some(at) => drop(tokio::time::timeout_at(at, self.changed.notified()).await),
                None => self.changed.notified().await,
            }
        }
    }

    /// Takes back what cannot be written because somebody has locked it.
    fn give_back(&self, held: Held) {
        let Inner { locked, waiting, .. } = &mut *self.lock();
        locked.lock(held, waiting);
    }

    /// The database takes rows of these sessions.
    fn unlock(&self, part: &[Pending]) {
        let Inner { locked, waiting, .. } = &mut *self.lock();
        locked.unlock(part, waiting);
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
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

impl Inner {
    fn add(&mut self, pending: Pending) {
        let locked = self.locked.rows_of(pending.entry.session_id());
        locked.unwrap_or(&mut self.waiting).push_back(pending);
    }

    /// The rows of a locked session whose turn it is, or the oldest of the others.
    fn take(&mut self, most: usize) -> Vec<Pending> {
        if let Some(rows) = self.locked.take_turn(most, Instant::now()) {
            return rows;
        }
        let count = self.waiting.len().min(most);
        if count == 0 && self.closed {
            // There is nothing else to do.
            return self.locked.take_first(most);
        }
        self.waiting.drain(..count).collect()
    }
}

/// How rows are written at the moment.
struct Pace {
    /// Most rows in one transaction: fewer when the database does not get done with so many in time.
    most: usize,
    backoff: Backoff,
}

impl Archive {
    /// Writes the rows of a node until it is gone and all of them are written, or this archiver ends: then the node
    /// sends them to another one.
    pub async fn write_rows(&self, node: Arc<Node>) {
        let mut pace = Pace {
            most: BATCH,
            backoff: Backoff::default(),
        };
        loop {
            let batch = node.rows.next(pace.most).await;
            if batch.is_empty() || self.write_batch(&node, batch, &mut pace).await.is_err() {
                return;
            }
        }
    }

    /// Writes all of them but those that the database refuses for what is in them, and those of sessions that somebody has
    /// locked, trying as long as the database is not there.
    async fn write_batch(&self, node: &Node, batch: Vec<Pending>, pace: &mut Pace) -> Result<(), Stopped> {
        let _waiting = Waiting::begin();
        let is_note = |pending: &Pending| matches!(pending.entry, Entry::Recorded(_));
        let (notes, rows): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_note);
        // The last is the next: all rows, and then each note by itself. Rows that cannot be written together are cut up
        // until it is known which of them it is.
        let mut parts: Vec<_> = notes.into_iter().rev().map(|note| vec![note]).collect();
        parts.push(rows);
        let mut held = Held::default();
        while let Some(part) = parts.pop() {
            let mut part = held.keep_theirs(part);
            if part.is_empty() {
                continue;
            }
            if part.len() > pace.most {
                parts.push(part.split_off(pace.most));
            }
            let error = match self.write_part(&part).await {
                Ok(()) => {
                    if part.len() == pace.most {
                        pace.most = BATCH.min(pace.most + 1);
                    }
                    pace.backoff = Backoff::default();
                    node.rows.unlock(&part);
                    part.iter().for_each(|pending| settle(node, pending));
                    continue;
                }
                Err(error) => error,
            };
            if error.is_of_content() {
                match part.len() {
                    1 => {
                        node.rows.unlock(&part);
                        part.into_iter().for_each(|pending| refuse(node, pending, &error));
                    }
                    rows => {
                        let later = part.split_off(rows / 2);
                        parts.extend([later, part]);
                    }
                }
                continue;
            }
            if error.is_of_lock() && !is_of_one_session(&part) {
                parts.extend(by_session(part).into_iter().rev());
                continue;
            }
            if error.is_of_lock() {
                held.hold(part, error);
                continue;
            }
            let what = "cannot write transcript rows";
            self.pause(node, &mut pace.backoff, what, &error).await?;
            match (error, part.len()) {
                (error @ StoreError::TimedOut(_), 1) => held.hold(part, error),
                (StoreError::TimedOut(_), rows) => {
                    // So many may take longer than a transaction may, each time again.
                    pace.most = (rows / 2).max(1);
                    parts.push(part);
                }
                _ => parts.push(part),
            }
        }
        // The others need not wait for what is locked. When no more of them will come, it is all there is to do.
        if let (Some(error), true) = (held.error(), node.rows.is_closed()) {
            let what = "cannot write the last transcript rows of a node";
            self.pause(node, &mut pace.backoff, what, error).await?;
        }
        node.rows.give_back(held);
        Ok(())
    }

    /// Writes rows in one transaction, or one note.
    async fn write_part(&self, part: &[Pending]) -> Result<(), StoreError> {
        if let [pending] = part
            && let Entry::Recorded(stored) = &pending.entry
        {
            let noted = self
                .register
                .note_or_remove(&stored.session_id, &stored.key, stored.bytes);
            return noted.await;
        }
        let rows = entry::batch(part.iter().map(|pending| &pending.entry));
        match &self.transcripts {
            Some(store) if !rows.is_empty() => metrics::transaction(store.write(&rows)).await,
            Some(_) | None => Ok(()),
        }
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
