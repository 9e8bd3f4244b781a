//! The archiver's metrics; names and labels are the contract of the specification.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};
use service_kit::metrics::{counter_vec, gauge_vec, histogram_vec};

use crate::transcripts::StoreError;

/// Longest that a transaction or query may take. A database that takes longer has stopped answering, or the way to it has:
/// TCP alone notices that after a quarter of an hour, and until then whoever waits can do nothing else.
const SQL_LIMIT: Duration = Duration::from_secs(15);
/// The same for what goes through whole tables, once an hour.
const LONG_SQL_LIMIT: Duration = Duration::from_secs(600);

/// Recordings handed to the uploaders.
pub static JOBS_ENQUEUED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "recording_jobs_enqueued_total",
        "Recordings, and batches of parts of running recordings, handed to the uploaders.",
        &[],
    )
});
/// Recordings that are stored.
pub static JOBS_SUCCESS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "recording_jobs_success_total",
        "Recordings, and batches of parts of running recordings, that are stored.",
        &[],
    )
});
/// Recordings whose quick retries ran out (they wait for another turn) or whose bytes did not match their hash.
pub static JOBS_FAILED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "recording_jobs_failed_total",
        "Uploads whose quick retries ran out, and recordings whose bytes did not match their hash.",
        &[],
    )
});
/// Recordings waiting for an uploader.
pub static QUEUE_DEPTH: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "recording_queue_depth",
        "Recordings, and batches of parts of running recordings, waiting for an uploader.",
        &[],
    )
});
/// Events that arrived, duplicates included.
pub static EVENTS_RECEIVED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "archive_events_received_total",
        "Archive events that arrived, duplicates included.",
        &["kind"],
    )
});
/// Events that are stored for good.
pub static EVENTS_DURABLE: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "archive_events_durable_total",
        "Archive events that are stored for good.",
        &["kind"],
    )
});
/// Events that had already arrived.
pub static DUPLICATES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "archive_duplicates_total",
        "Archive events that had already arrived.",
        &["kind"],
    )
});
/// Sessions with a gap that nothing fills: an operator has to look at the node's disk.
pub static SET_ASIDE: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "archive_sessions_set_aside_total",
        "Sessions set aside because events are missing that their node does not send.",
        &[],
    )
});
/// Sessions with a recording whose node went away before their end arrived: what is missing is on the disk of that node.
pub static LEFT_OPEN: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "archive_sessions_left_open_total",
        "Recorded sessions whose node went away before their end arrived.",
        &[],
    )
});
/// Rows that the database refuses for what is in them.
pub static ROWS_REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "archive_rows_refused_total",
        "Transcript rows that the database refuses for what is in them.",
        &[],
    )
});
/// Age of the oldest write that is waiting for SQL or the object store; 0 when nothing waits.
pub static LAG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "archive_lag_seconds",
        "Age of the oldest write waiting for SQL or the object store.",
        &[],
    )
});
/// Time of one transaction.
pub static DB_WRITE: LazyLock<HistogramVec> =
    LazyLock::new(|| histogram_vec("db_write_duration_seconds", "Time of one transcript transaction.", &[]));
/// Failed transactions.
pub static DB_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "db_errors_total",
        "Failed transcript transactions and queries.",
        &["error_type"],
    )
});
/// Time of one S3 request.
pub static S3_REQUEST: LazyLock<HistogramVec> =
    LazyLock::new(|| histogram_vec("s3_request_duration_seconds", "Time of one S3 request.", &["operation"]));
/// Failed S3 requests.
pub static S3_ERRORS: LazyLock<IntCounterVec> =
    LazyLock::new(|| counter_vec("s3_errors_total", "Failed S3 requests.", &["operation", "error_type"]));

/// Makes every metric appear in `/metrics` from the first scrape, at zero.
pub fn declare() {
    for counter in [
        &JOBS_ENQUEUED,
        &JOBS_SUCCESS,
        &JOBS_FAILED,
        &SET_ASIDE,
        &LEFT_OPEN,
        &ROWS_REFUSED,
    ] {
        counter.with_label_values(&[] as &[&str]);
    }
    QUEUE_DEPTH.with_label_values(&[] as &[&str]);
    LAG.with_label_values(&[] as &[&str]);
    DB_WRITE.with_label_values(&[] as &[&str]);
    for kind in Kind::ALL {
        for counter in [&EVENTS_RECEIVED, &EVENTS_DURABLE, &DUPLICATES] {
            counter.with_label_values(&[kind.label()]);
        }
    }
    // One for all: an alert asks whether any of them grows, and goes on growing.
    DB_ERRORS.with_label_values(&["timeout"]);
    S3_ERRORS.with_label_values(&["upload_part", "timeout"]);
    LazyLock::force(&S3_REQUEST);
}

/// Adds one to a counter without labels.
pub fn bump(counter: &IntCounterVec) {
    counter.with_label_values(&[] as &[&str]).inc();
}

/// Times a transaction that writes, and counts it when it fails or takes too long. One that took too long may have been
/// committed: everything that is written can be written again.
pub async fn transaction<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timed(query(work)).await
}

/// [`transaction`] for what goes through a whole table.
pub async fn long_transaction<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timed(within(LONG_SQL_LIMIT, work)).await
}

/// Counts a query that fails or takes too long.
pub async fn query<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(SQL_LIMIT, work).await
}

/// [`query`] for what goes through a whole table.
pub async fn long_query<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(LONG_SQL_LIMIT, work).await
}

async fn timed<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let started = Instant::now();
    let outcome = work.await;
    DB_WRITE
        .with_label_values(&[] as &[&str])
        .observe(started.elapsed().as_secs_f64());
    outcome
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let outcome = tokio::time::timeout(limit, work).await;
    let outcome = outcome.unwrap_or(Err(StoreError::TimedOut(limit)));
    if let Err(error) = &outcome {
        DB_ERRORS.with_label_values(&[error.kind()]).inc();
    }
    outcome
}

/// Kind of an archive event, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `SessionStarted`
    Started,
    /// `Turn`
    Turn,
    /// `AudioChunk`
    Audio,
    /// `SessionEnded`
    Ended,
    /// No body, or one of a kind that this release does not know.
    Unknown,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Started, Self::Turn, Self::Audio, Self::Ended, Self::Unknown];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Turn => "turn",
            Self::Audio => "audio",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

/// How many events of each kind: what a session has applied and not yet made durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindCounts {
    started: u64,
    turn: u64,
    audio: u64,
    ended: u64,
    unknown: u64,
}

impl KindCounts {
    /// One more of this kind.
    pub fn add(&mut self, kind: Kind) {
        match kind {
            Kind::Started => self.started += 1,
            Kind::Turn => self.turn += 1,
            Kind::Audio => self.audio += 1,
            Kind::Ended => self.ended += 1,
            Kind::Unknown => self.unknown += 1,
        }
    }

    /// These too.
    pub fn merge(&mut self, more: Self) {
        self.started += more.started;
        self.turn += more.turn;
        self.audio += more.audio;
        self.ended += more.ended;
        self.unknown += more.unknown;
    }

    /// Counts them as durable.
    pub fn are_durable(self) {
        let each = [self.started, self.turn, self.audio, self.ended, self.unknown];
        for (kind, count) in Kind::ALL.into_iter().zip(each) {
            EVENTS_DURABLE.with_label_values(&[kind.label()]).inc_by(count);
        }
    }
}

static WAITING: Mutex<(u64, BTreeMap<u64, Instant>)> = Mutex::new((0, BTreeMap::new()));

/// Something that waits for SQL or the object store, for as long as this guard lives.
#[derive(Debug)]
pub struct Waiting(u64);

impl Waiting {
    /// Starts to wait.
    pub fn begin() -> Self {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.0 += 1;
        let id = waiting.0;
        waiting.1.insert(id, Instant::now());
        Self(id)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.1.remove(&self.0);
    }
}

/// Brings `archive_lag_seconds` up to date.
pub fn update_lag() {
    LAG.with_label_values(&[] as &[&str])
        .set(lag().as_secs().try_into().unwrap_or(i64::MAX));
}

/// For how long the oldest write has been waiting for SQL or the object store.
pub fn lag() -> Duration {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    // Ids grow with time, so the first is the oldest.
    let oldest = waiting.1.first_key_value();
    oldest.map_or(Duration::ZERO, |(_, since)| since.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_does_not_answer_is_given_up_after_a_while() {
        let began = tokio::time::Instant::now();
        let outcome = transaction(std::future::pending::<Result<(), StoreError>>()).await;
        assert_eq!(outcome.unwrap_err().kind(), "timeout");
        assert_eq!(began.elapsed(), SQL_LIMIT);
        let outcome = long_query(std::future::pending::<Result<(), StoreError>>()).await;
        assert_eq!(outcome.unwrap_err().kind(), "timeout");
        assert_eq!(began.elapsed(), SQL_LIMIT + LONG_SQL_LIMIT);
    }
}
