//! Transcript rows and what is known of each session in SQL: one trait, and one module of SQL a database.

mod dsn;
mod mysql;
mod postgres;
mod sqlite;
mod table;
mod types;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use service_kit::config::{Config, TranscriptDriver};
use service_kit::exit::{self, Fatal};
use time::OffsetDateTime;

pub use dsn::PoolSettings;
pub use mysql::MysqlStore;
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
pub use table::Table;
pub use types::{Batch, End, Erasure, Latency, Page, Row, SessionRow, Start, Timing};

/// How long a connection may take to become free after its use. One that takes longer is closed, or one that a database has
/// stopped answering would be missing in the pool until TCP gives it up.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a statement waits for a lock that somebody else holds, seconds: the rows of other sessions wait with it. A
/// transaction of another archiver takes milliseconds.
const LOCK_TIMEOUT_SECS: u32 = 3;

/// Where transcripts are kept. Everything here can be done twice and changes nothing the second time; nothing is ever
/// added to a session that was erased.
#[async_trait]
pub trait TranscriptStore: Send + Sync {
    /// Writes all of this in one transaction. Rows whose `(session_id, seq)` is there already are left as they are,
    /// also in a table without a unique key.
    async fn write(&self, batch: &Batch) -> Result<(), StoreError>;

    /// All rows of a session in the order spoken.
    async fn rows(&self, session_id: &str) -> Result<Vec<Row>, StoreError>;

    /// What is known of a session; `None` when nothing is.
    async fn session(&self, session_id: &str) -> Result<Option<SessionRow>, StoreError>;

    /// Sessions by their start, oldest first, erased ones left out.
    async fn sessions(&self, page: &Page) -> Result<Vec<SessionRow>, StoreError>;

    /// Notes that the recording of a session is stored under this key. `false`: the session was erased meanwhile, and
    /// nothing is noted.
    async fn recorded(&self, session_id: &str, key: &str, bytes: u64) -> Result<bool, StoreError>;

    /// Deletes the rows of a session and all that is known of it but that it was erased, and its recording's key,
    /// which [`forget_key`](Self::forget_key) removes when the recording is gone.
    async fn erase(&self, session_id: &str, now: OffsetDateTime) -> Result<Erasure, StoreError>;

    /// The recording of an erased session is there, or may be: [`to_erase`](Self::to_erase) finds the session until that is
    /// forgotten. Changes nothing of a session that was not erased.
    async fn keep_key(&self, session_id: &str, key: &str) -> Result<(), StoreError>;

    /// The recording of an erased session is gone.
    async fn forget_key(&self, session_id: &str) -> Result<(), StoreError>;

    /// Sessions that are to be erased or whose erasure is not complete: begun before this, or erased with a recording
    /// that is still there. By their ids, those behind `after`, at most `limit`; with `before` = `None` only the latter.
    async fn to_erase(
        &self,
        before: Option<OffsetDateTime>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// Deletes rows from before this, whatever their session (those of older releases have none), at most `limit`, and returns
    /// how many.
    async fn delete_rows_before(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;

    /// Closes the connections.
    async fn close(&self);
}

/// Why SQL did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or the way to it.
    #[error("the transcript database did not take part")]
    Sql(#[from] sqlx::Error),
    /// No answer came for this long. What was asked may have been done.
    #[error("the transcript database did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// A row holds a date that is none.
    #[error("a date of a transcript row is not a date")]
    Date(#[source] time::error::Parse),
}

impl StoreError {
    /// Value of the label `error_type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Date(_) => "decode",
            Self::TimedOut(_) => "timeout",
            Self::Sql(_) if self.is_of_lock() => "lock",
            Self::Sql(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed) => "connection",
            Self::Sql(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => "pool",
            Self::Sql(sqlx::Error::Database(error)) if error.kind() != sqlx::error::ErrorKind::Other => "constraint",
            Self::Sql(sqlx::Error::Database(_)) => "database",
            Self::Sql(_) => "other",
        }
    }
}

impl StoreError {
    /// The database takes part, and refuses a row for what is in it (too long, or against a constraint or trigger of the table):
    /// the same row is refused again, and another one may not be.
    pub fn is_of_content(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else {
            return false;
        };
        if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
            // Primary result codes TOOBIG, CONSTRAINT and MISMATCH (<https://www.sqlite.org/rescode.html>).
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            return code.is_some_and(|code| matches!(code & 0xff, 18..=20));
        }
        // 1366: text that the column's character set does not have; its SQLSTATE says nothing.
        let mysql = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
        let is_of_charset = mysql.is_some_and(|error| error.number() == 1366);
        // MySQL says HY000 of a CHECK that is violated (3819), and the driver knows the number.
        let is_of_constraint = error.kind() != sqlx::error::ErrorKind::Other;
        // Data exceptions, integrity constraint violations and those of a view (SQL:2016, part 2, clause 24); what triggers
        // raise in MySQL (45000, "unhandled user-defined exception") and PostgreSQL (P0001); and its rows that are too large
        // for an index (54000, <https://www.postgresql.org/docs/current/errcodes-appendix.html>).
        let is_of_class = |code: &str| {
            ["22", "23", "44", "45"].iter().any(|class| code.starts_with(class)) || ["P0001", "54000"].contains(&code)
        };
        is_of_charset || is_of_constraint || error.code().is_some_and(|code| is_of_class(&code))
    }

    /// The database takes part, and somebody holds a lock on what is to be written: only who waits for that lock is in
    /// the way.
    pub fn is_of_lock(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else {
            return false;
        };
        // MySQL: ER_LOCK_WAIT_TIMEOUT; its SQLSTATE says nothing. PostgreSQL: lock_not_available.
        let mysql = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
        mysql.is_some_and(|error| error.number() == 1205) || error.code().is_some_and(|code| code == "55P03")
    }
}

/// Connects to the configured database and makes the tables when they are missing.
///
/// # Errors
/// A bad DSN or table name, or a table that is there and lacks a column ([`exit::CONFIG`]), a database that refuses
/// ([`exit::UNAVAILABLE`]), a SQLite folder that cannot be written ([`exit::CANNOT_CREATE`]).
pub async fn open(config: &Config) -> Result<Option<Arc<dyn TranscriptStore>>, Fatal> {
    let transcripts = &config.transcripts;
    if !transcripts.enable {
        return Ok(None);
    }
    let table = Table::parse(&transcripts.table_name, transcripts.extended)?;
    let (dsn, pool) = dsn::split(transcripts.dsn.expose()).map_err(|error| {
        let example = example(transcripts.driver);
        let remedy = format!("set transcripts.dsn like {example}");
        Fatal::new(exit::CONFIG, error.to_string(), remedy)
    })?;
    Ok(Some(match transcripts.driver {
        TranscriptDriver::Postgres => Arc::new(PostgresStore::open(&dsn, pool, table).await?),
        TranscriptDriver::Mysql => Arc::new(MysqlStore::open(&dsn, pool, table).await?),
        TranscriptDriver::Sqlite => Arc::new(SqliteStore::open(&dsn, pool, table).await?),
    }))
}

fn example(driver: TranscriptDriver) -> &'static str {
    match driver {
        TranscriptDriver::Postgres => "postgres://user:password@host:5432/database?pool_max_conns=10",
        TranscriptDriver::Mysql => "mysql://user:password@host:3306/database?pool_max_conns=10",
        TranscriptDriver::Sqlite => "sqlite:///var/lib/voxray/transcripts.db",
    }
}

fn not_a_dsn(driver: TranscriptDriver, error: &sqlx::Error) -> Fatal {
    Fatal::new(
        exit::CONFIG,
        format!("transcripts.dsn is not a {driver:?} DSN: {error}"),
        format!("set transcripts.dsn like {}", example(driver)),
    )
}

fn refused(place: &str, error: &sqlx::Error) -> Fatal {
    Fatal::new(
        exit::UNAVAILABLE,
        format!("the transcript database {place} refused: {error}"),
        "check that the database runs, that transcripts.dsn names host, database and user that exist, and that this \
         user may create and write the table (transcripts.table_name) and the one beside it (…_sessions); or set \
         transcripts.enable to false",
    )
}

/// A table that is there and cannot be used as it is.
fn unfit(table: &Table, error: &sqlx::Error) -> Fatal {
    let (name, columns) = (table.rows(), table.columns());
    let further = if table.extended() {
        format!(
            "; when only interrupted or timing is missing: ALTER TABLE {name} ADD COLUMN interrupted BOOLEAN; ALTER \
             TABLE {name} ADD COLUMN timing TEXT; or transcripts.extended=false"
        )
    } else {
        String::new()
    };
    Fatal::new(
        exit::CONFIG,
        format!("the table {name} is there, but cannot be used: {error}"),
        format!("give it the columns {columns}, or set transcripts.table_name to another name{further}"),
    )
}

/// Sees to it that a connection goes back to its pool within [`RELEASE_TIMEOUT`]; by itself the pool waits for ever for the
/// answer to what was given up.
async fn release<C: sqlx::Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// SQL made once at start from a checked table name and texts of ours.
fn sql(text: &Arc<str>) -> sqlx::AssertSqlSafe<Arc<str>> {
    sqlx::AssertSqlSafe(Arc::clone(text))
}

/// The sessions of a batch, each once and sorted: locks are taken in one order, so that no two transactions wait for
/// each other.
fn session_ids(batch: &Batch) -> Vec<&str> {
    let starts = batch.starts.iter().map(|start| start.session_id.as_str());
    let rows = batch.rows.iter().map(|row| row.session_id.as_str());
    let ends = batch.ends.iter().map(|end| end.session_id.as_str());
    let sorted: BTreeSet<&str> = starts.chain(rows).chain(ends).collect();
    sorted.into_iter().collect()
}
