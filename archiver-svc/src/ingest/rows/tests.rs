//! The rows of a node and a database that is slow, away or picky.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use service_kit::shutdown::Shutdown;
use sqlx::error::{DatabaseError, ErrorKind};
use time::OffsetDateTime;

use super::super::nodes::{FinishedSessions, Nodes};
use super::locked::LOCKED_RETRY;
use super::*;
use crate::recordings::UploadQueue;
use crate::register::Register;
use crate::transcripts::{Batch, Erasure, Page, Row, SessionRow, TranscriptStore};

/// A database that takes so long for a row.
#[derive(Default)]
struct Database {
    per_row: Duration,
    is_away: AtomicBool,
    /// Refuses notes of recordings for what is in them.
    is_narrow: AtomicBool,
    /// Sessions that somebody holds.
    locked: Mutex<HashSet<&'static str>>,
    /// Sessions of which no row is ever done.
    endless: Mutex<HashSet<&'static str>>,
    rows: Mutex<Vec<i32>>,
    notes: Mutex<Vec<String>>,
}

impl Database {
    fn rows(&self) -> Vec<i32> {
        self.rows.lock().unwrap().clone()
    }

    async fn lock(&self, mut session_ids: impl Iterator<Item = &String>) -> Result<(), StoreError> {
        if session_ids.any(|id| self.locked.lock().unwrap().contains(id.as_str())) {
            tokio::time::sleep(LOCK_TIMEOUT).await;
            return Err(refusal("55P03"));
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }
}

/// How long a lock is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// An answer of PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Refusal(&'static str);

fn refusal(code: &'static str) -> StoreError {
    sqlx::Error::Database(Box::new(Refusal(code))).into()
}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        "refused"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

#[async_trait]
impl TranscriptStore for Database {
    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        tokio::time::sleep(self.per_row * batch.rows.len() as u32).await;
        if self.is_away.load(Ordering::SeqCst) {
            return Err(sqlx::Error::PoolTimedOut.into());
        }
        let endless = |row: &Row| self.endless.lock().unwrap().contains(row.session_id.as_str());
        if batch.rows.iter().any(endless) {
            std::future::pending::<()>().await;
        }
        self.lock(batch.rows.iter().map(|row| &row.session_id)).await?;
        self.rows.lock().unwrap().extend(batch.rows.iter().map(|row| row.seq));
        Ok(())
    }

    async fn recorded(&self, session_id: &str, _: &str, _: u64) -> Result<bool, StoreError> {
        if self.is_narrow.load(Ordering::SeqCst) {
            // "String data, right truncation".
            return Err(refusal("22001"));
        }
        self.lock(std::iter::once(&session_id.to_owned())).await?;
        self.notes.lock().unwrap().push(session_id.to_owned());
        Ok(true)
    }

    async fn rows(&self, _: &str) -> Result<Vec<Row>, StoreError> {
        Ok(Vec::new())
    }

    async fn session(&self, _: &str) -> Result<Option<SessionRow>, StoreError> {
        Ok(None)
    }

    async fn sessions(&self, _: &Page) -> Result<Vec<SessionRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn erase(&self, _: &str, _: OffsetDateTime) -> Result<Erasure, StoreError> {
        Ok(Erasure::default())
    }

    async fn keep_key(&self, _: &str, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forget_key(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn to_erase(&self, _: Option<OffsetDateTime>, _: &str, _: u32) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn delete_rows_before(&self, _: OffsetDateTime, _: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn close(&self) {}
}

fn archive(database: &Arc<Database>) -> Archive {
    let transcripts: Arc<dyn TranscriptStore> = Arc::clone(database) as _;
    Archive {
        transcripts: Some(Arc::clone(&transcripts)),
        recordings: None,
        register: Register {
            transcripts: Some(transcripts),
            recordings: None,
        },
        queue: Arc::new(UploadQueue::new(1)),
        id: "test".to_owned(),
        finished: Arc::default(),
        shutdown: Shutdown::new(),
    }
}

fn nodes() -> Nodes {
    Nodes::new(Duration::from_secs(30), Arc::new(FinishedSessions::default()))
}

fn row(seq: i32) -> Entry {
    row_of("call", seq)
}

fn row_of(session_id: &str, seq: i32) -> Entry {
    Entry::Row(Row {
        session_id: session_id.to_owned(),
        role: "user".to_owned(),
        text: "hello".to_owned(),
        seq,
        created_at: OffsetDateTime::UNIX_EPOCH,
        interrupted: None,
        timing: None,
    })
}

fn note(session_id: &str) -> Recorded {
    Recorded {
        session_id: session_id.to_owned(),
        key: format!("recordings/{session_id}.wav"),
        bytes: 44,
        completes: None,
    }
}

/// Longer than anything here takes that ends.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn rows_that_take_longer_than_a_transaction_may_are_all_written_once_a_few_at_a_time() {
    let database = Arc::new(Database {
        // Fifteen seconds are enough for sixty of them.
        per_row: Duration::from_millis(250),
        ..Database::default()
    });
    let (archive, nodes) = (archive(&database), nodes());
    let node = nodes.attach("n1").node.clone();
    for seq in 0..600 {
        node.rows.push(1, row(seq)).await;
    }
    node.rows.close();

    let began = Instant::now();
    let written = tokio::time::timeout(LONG, archive.write_rows(node)).await;

    assert!(written.is_ok(), "{} rows written", database.rows().len());
    assert_eq!(database.rows(), (0..600).collect::<Vec<_>>());
    // 150 s of work, and not every batch tried in vain first.
    assert!(began.elapsed() < Duration::from_secs(250), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_note_that_the_database_refuses_keeps_nothing_and_is_written_when_there_is_room_for_it() {
    let database = Arc::new(Database::default());
    database.is_narrow.store(true, Ordering::SeqCst);
    let (archive, nodes) = (archive(&database), nodes());
    let node = nodes.attach("n1").node.clone();
    assert!(node.rows.push_note(3, note("call-1")));
    node.rows.push(4, row(0)).await;
    let writing = archive.write_rows(Arc::clone(&node));
    tokio::pin!(writing);

    let soon = tokio::time::timeout(Duration::from_secs(1), &mut writing);
    assert!(soon.await.is_err());
    assert_eq!((database.rows(), database.notes().len()), (vec![0], 0));
    assert_eq!(node.rows.lock().refused.len(), 1);

    database.is_narrow.store(false, Ordering::SeqCst);
    let later = tokio::time::timeout(2 * REFUSED_RETRY, &mut writing);
    assert!(later.await.is_err());
    assert_eq!(database.notes(), ["call-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_database_with_rows_of_a_node_that_is_gone_and_with_no_others() {
    let database = Arc::new(Database::default());
    database.is_away.store(true, Ordering::SeqCst);
    let (archive, nodes) = (archive(&database), nodes());
    let gone = nodes.attach("gone").node.clone();
    gone.rows.push(2, row(1)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stays = nodes.attach("stays");
    stays.node.rows.push(2, row(2)).await;
    let writing = archive.write_rows(Arc::clone(&gone));
    tokio::pin!(writing);

    archive.shutdown.request();
    nodes.note_drain();
    nodes.close_rows();
    let other = tokio::time::timeout(LONG, archive.write_rows(Arc::clone(&stays.node))).await;
    assert!(other.is_ok(), "its node sends them again");
    let tried = tokio::time::timeout(LONG, &mut writing).await;
    assert!(tried.is_err(), "given up");
    database.is_away.store(false, Ordering::SeqCst);
    writing.await;

    assert_eq!(database.rows(), [1]);
}

/// A row of each of so many other calls.
async fn push_others(node: &Node, calls: i32) {
    for call in 0..calls {
        node.rows.push(2, row_of(&format!("call-{call}"), 1_000 + call)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_somebody_has_locked_holds_up_nothing_but_itself_and_stays_in_order() {
    let database = Arc::new(Database::default());
    database.locked.lock().unwrap().extend(["locked", "locked, too"]);
    let (archive, nodes) = (archive(&database), nodes());
    let node = nodes.attach("n1").node.clone();
    for seq in 0..300 {
        node.rows.push(2, row_of("locked", seq)).await;
    }
    push_others(&node, 50).await;
    node.rows.push(2, row_of("locked, too", 2_000)).await;
    assert!(node.rows.push_note(3, note("locked")));
    assert!(node.rows.push_note(3, note("call-1")));
    let writing = archive.write_rows(Arc::clone(&node));
    tokio::pin!(writing);

    // Once for all of the batch and once for each of them, in two batches.
    let soon = tokio::time::timeout(5 * LOCK_TIMEOUT, &mut writing);
    assert!(soon.await.is_err());
    assert_eq!(database.rows(), (1_000..1_050).collect::<Vec<_>>());
    assert_eq!(database.notes(), ["call-1"]);
    node.rows.push(2, row_of("locked", 300)).await;
    // What comes now waits for one try of one of them at the most, for hours.
    for round in 0..1_000 {
        node.rows.push(2, row_of("call-1", 3_000 + round)).await;
        let later = tokio::time::timeout(LOCK_TIMEOUT + Duration::from_millis(10), &mut writing);
        assert!(later.await.is_err());
        assert_eq!(database.rows().last(), Some(&(3_000 + round)));
    }

    database.locked.lock().unwrap().remove("locked");
    database.rows.lock().unwrap().clear();
    // Each in its turn.
    let later = tokio::time::timeout(4 * (LOCKED_RETRY + LOCK_TIMEOUT), &mut writing);
    assert!(later.await.is_err());
    assert_eq!(database.rows(), (0..=300).collect::<Vec<_>>());
    assert_eq!(database.notes(), ["call-1", "locked"]);
    database.locked.lock().unwrap().clear();
    node.rows.close();
    assert!(tokio::time::timeout(LONG, writing).await.is_ok());
    assert_eq!(database.rows().last(), Some(&2_000));
    assert_eq!(node.rows.places.available_permits(), WAITING_BYTES);
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_locked_session_hold_the_stream_back_when_they_are_all_that_may_wait_and_none_is_dropped() {
    let database = Arc::new(Database::default());
    database.locked.lock().unwrap().insert("locked");
    let (archive, nodes) = (archive(&database), nodes());
    let node = nodes.attach("n1").node.clone();
    let writing = archive.write_rows(Arc::clone(&node));
    tokio::pin!(writing);

    let mut sent = 0;
    loop {
        let pushed = tokio::time::timeout(Duration::from_secs(60), node.rows.push(2, row_of("locked", sent)));
        tokio::select! {
            pushed = pushed => match pushed {
                Ok(()) => sent += 1,
                Err(_) => break,
            },
            () = &mut writing => panic!("over"),
        }
    }
    assert!(sent as usize > WAITING_BYTES / (2 * ROW_BYTES), "{sent} rows");
    database.locked.lock().unwrap().clear();
    node.rows.close();
    assert!(tokio::time::timeout(LONG, writing).await.is_ok());

    assert_eq!(database.rows(), (0..sent).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_row_that_the_database_never_gets_done_with_leaves_the_others_their_turn() {
    let database = Arc::new(Database::default());
    database.endless.lock().unwrap().insert("endless");
    let (archive, nodes) = (archive(&database), nodes());
    let node = nodes.attach("n1").node.clone();
    node.rows.push(2, row_of("endless", 0)).await;
    push_others(&node, 50).await;
    let writing = archive.write_rows(Arc::clone(&node));
    tokio::pin!(writing);

    let later = tokio::time::timeout(Duration::from_secs(300), &mut writing);
    assert!(later.await.is_err());
    assert_eq!(database.rows(), (1_000..1_050).collect::<Vec<_>>());

    database.endless.lock().unwrap().clear();
    node.rows.close();
    assert!(tokio::time::timeout(LONG, writing).await.is_ok());
    assert_eq!(database.rows().last(), Some(&0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_a_locked_session_of_a_node_that_is_gone_and_for_no_other() {
    let database = Arc::new(Database::default());
    database.locked.lock().unwrap().insert("locked");
    let (archive, nodes) = (archive(&database), nodes());
    let gone = nodes.attach("gone").node.clone();
    gone.rows.push(2, row_of("locked", 1)).await;
    gone.rows.push(2, row(2)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let stays = nodes.attach("stays");
    stays.node.rows.push(2, row_of("locked", 3)).await;
    stays.node.rows.push(2, row(4)).await;
    let writing = archive.write_rows(Arc::clone(&gone));
    tokio::pin!(writing);

    archive.shutdown.request();
    nodes.note_drain();
    nodes.close_rows();
    let other = tokio::time::timeout(LONG, archive.write_rows(Arc::clone(&stays.node))).await;
    assert!(other.is_ok(), "its node sends them again");
    assert_eq!(database.rows(), [4]);
    let tried = tokio::time::timeout(LONG, &mut writing).await;
    assert!(tried.is_err(), "given up");
    assert_eq!(database.rows(), [4, 2]);
    database.locked.lock().unwrap().clear();
    writing.await;

    assert_eq!(database.rows(), [4, 2, 1]);
}
