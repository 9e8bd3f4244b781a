//! The rows of a node and a database that is slow, away or picky.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use service_kit::shutdown::Shutdown;
use sqlx::error::{DatabaseError, ErrorKind};
use time::OffsetDateTime;

use super::super::nodes::{FinishedSessions, Nodes};
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
    rows: Mutex<Vec<i32>>,
    notes: Mutex<Vec<String>>,
}

impl Database {
    fn rows(&self) -> Vec<i32> {
        self.rows.lock().unwrap().clone()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap().clone()
    }
}

/// "String data, right truncation".
#[derive(Debug, thiserror::Error)]
#[error("value too long")]
struct TooLong;

impl DatabaseError for TooLong {
    fn message(&self) -> &str {
        "value too long"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some("22001".into())
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
        self.rows.lock().unwrap().extend(batch.rows.iter().map(|row| row.seq));
        Ok(())
    }

    async fn recorded(&self, session_id: &str, _: &str, _: u64) -> Result<bool, StoreError> {
        if self.is_narrow.load(Ordering::SeqCst) {
            return Err(sqlx::Error::Database(Box::new(TooLong)).into());
        }
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
    Entry::Row(Row {
        session_id: "call".to_owned(),
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
