//! Transcript rows in SQL: one trait, and one file of SQL a database.

mod dsn;
mod postgres;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use service_kit::config::{Config, TranscriptDriver};
use service_kit::exit::{self, Fatal};
use time::OffsetDateTime;

pub use dsn::PoolSettings;
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

/// One row: one turn of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The session.
    pub session_id: String,
    /// `user` or `assistant`.
    pub role: String,
    /// What was said, or for the assistant what was heard.
    pub text: String,
    /// 0-based number of the turn within the session.
    pub seq: i32,
    /// When the turn was closed; kept in whole milliseconds.
    pub created_at: OffsetDateTime,
}

/// Where transcript rows are kept. Writing a row twice leaves one row.
#[async_trait]
pub trait TranscriptStore: Send + Sync {
    /// Writes these rows in one transaction; rows whose `(session_id, seq)` is there already are left as they are.
    async fn write(&self, rows: &[Row]) -> Result<(), StoreError>;

    /// All rows of a session in the order spoken.
    async fn rows(&self, session_id: &str) -> Result<Vec<Row>, StoreError>;

    /// How many different turns before `seq` are there.
    async fn turns_before(&self, session_id: &str, seq: i32) -> Result<u64, StoreError>;

    /// Closes the connections.
    async fn close(&self);
}

/// Why SQL did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or the way to it.
    #[error("the transcript database did not take part")]
    Sql(#[from] sqlx::Error),
    /// A row holds a date that is none.
    #[error("created_at of a transcript row is not a date")]
    Date(#[source] time::error::Parse),
}

impl StoreError {
    /// Value of the label `error_type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Date(_) => "decode",
            Self::Sql(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed) => "connection",
            Self::Sql(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => "pool",
            Self::Sql(sqlx::Error::Database(error)) if error.kind() != sqlx::error::ErrorKind::Other => "constraint",
            Self::Sql(sqlx::Error::Database(_)) => "database",
            Self::Sql(_) => "other",
        }
    }
}

/// Connects to the configured database and makes the table when it is missing.
///
/// # Errors
/// A bad DSN or table name ([`exit::CONFIG`]), a database that refuses ([`exit::UNAVAILABLE`]), a SQLite folder that
/// cannot be written ([`exit::CANNOT_CREATE`]).
pub async fn open(config: &Config) -> Result<Option<Arc<dyn TranscriptStore>>, Fatal> {
    let transcripts = &config.transcripts;
    if !transcripts.enable {
        return Ok(None);
    }
    let table = identifier(&transcripts.table_name)?;
    let (dsn, pool) = dsn::split(transcripts.dsn.expose()).map_err(|error| {
        let example = match transcripts.driver {
            TranscriptDriver::Postgres => "postgres://user:password@host:5432/database?pool_max_conns=10",
            TranscriptDriver::Sqlite => "sqlite:///var/lib/voxray/transcripts.db",
        };
        Fatal::new(
            exit::CONFIG,
            error.to_string(),
            format!("set transcripts.dsn like {example}"),
        )
    })?;
    Ok(Some(match transcripts.driver {
        TranscriptDriver::Postgres => Arc::new(PostgresStore::open(&dsn, pool, table).await?),
        TranscriptDriver::Sqlite => Arc::new(SqliteStore::open(&dsn, pool, table).await?),
    }))
}

/// A table name that can be put into SQL as it is: letters, digits and `_`, not starting with a digit; one schema
/// (`archive.calls`) may stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(String);

impl Table {
    /// The name as it stands in SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of an index or constraint of this table.
    fn companion(&self, suffix: &str) -> String {
        let name = self.0.rsplit('.').next().unwrap_or_default();
        format!("{name}_{suffix}")
    }
}

fn identifier(name: &str) -> Result<Table, Fatal> {
    let plain = |part: &str| {
        part.len() <= 48
            && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let parts: Vec<_> = name.split('.').collect();
    if parts.len() <= 2 && parts.iter().all(|part| plain(part)) {
        Ok(Table(name.to_owned()))
    } else {
        Err(Fatal::new(
            exit::CONFIG,
            format!("transcripts.table_name {name:?} is not a table name"),
            "use letters, digits and _, not starting with a digit, at most 48 of them, like call_transcripts",
        ))
    }
}

fn refused(place: &str, error: &sqlx::Error) -> Fatal {
    Fatal::new(
        exit::UNAVAILABLE,
        format!("the transcript database {place} refused: {error}"),
        "check that the database runs, that transcripts.dsn names host, database and user that exist, and that this \
         user may create and write the table; or set transcripts.enable to false",
    )
}

/// SQL made once at start from a checked table name and texts of ours.
fn sql(text: &Arc<str>) -> sqlx::AssertSqlSafe<Arc<str>> {
    sqlx::AssertSqlSafe(Arc::clone(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_are_table_names() {
        for good in ["call_transcripts", "_a1", "archive.calls"] {
            assert_eq!(identifier(good).unwrap().as_str(), good);
        }
        for bad in ["", "1a", "a b", "a;drop table b", "a.b.c", "a\"b", ".a", "größe", "a-b"] {
            assert_eq!(identifier(bad).unwrap_err().status, exit::CONFIG, "{bad}");
        }
    }
}
