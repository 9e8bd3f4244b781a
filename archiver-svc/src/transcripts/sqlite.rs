//! Transcript rows in a SQLite file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use service_kit::exit::{self, Fatal};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{PoolSettings, Row, StoreError, Table, TranscriptStore, sql};

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows in one SQLite file in WAL mode.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    insert: Arc<str>,
    select: Arc<str>,
    count: Arc<str>,
}

impl SqliteStore {
    /// Opens `sqlite://PATH`, `sqlite:PATH`, `file:PATH` or `PATH`; makes folder, file and table when missing.
    pub(super) async fn open(dsn: &str, settings: PoolSettings, table: Table) -> Result<Self, Fatal> {
        let path = file_of(dsn);
        let cannot = |what: String| {
            Fatal::new(
                exit::CANNOT_CREATE,
                format!("cannot open the transcript file {}: {what}", path.display()),
                "name a file in a folder this user can write in transcripts.dsn, like sqlite:///var/lib/voxray/transcripts.db",
            )
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| cannot(error.to_string()))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A row that was acknowledged must survive a power cut: in WAL mode only FULL flushes every commit.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(settings.max_conns)
            .min_connections(settings.min_conns)
            .max_lifetime(settings.max_lifetime)
            .idle_timeout(settings.max_idle_time)
            .connect_with(options)
            .await
            .map_err(|error| cannot(error.to_string()))?;
        let store = Self {
            pool,
            insert: insert(&table),
            select: select(&table),
            count: count(&table),
        };
        store.create(&table).await.map_err(|error| cannot(error.to_string()))?;
        Ok(store)
    }

    async fn create(&self, table: &Table) -> Result<(), sqlx::Error> {
        let name = table.as_str();
        let there: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        if there.is_some() {
            return Ok(());
        }
        let index = table.companion("created_at_idx");
        let create: Arc<str> = format!(
            "CREATE TABLE IF NOT EXISTS {name} (\
             session_id TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, seq INTEGER NOT NULL, \
             created_at TIMESTAMP NOT NULL, UNIQUE (session_id, seq));\
             CREATE INDEX IF NOT EXISTS {index} ON {name} (created_at);"
        )
        .into();
        sqlx::raw_sql(sql(&create)).execute(&self.pool).await?;
        Ok(())
    }
}

#[async_trait]
impl TranscriptStore for SqliteStore {
    async fn write(&self, rows: &[Row]) -> Result<(), StoreError> {
        // IMMEDIATE takes the write lock before the look for existing rows, so that two writers cannot both miss one.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for row in rows {
            sqlx::query(sql(&self.insert))
                .bind(&row.session_id)
                .bind(&row.role)
                .bind(&row.text)
                .bind(row.seq)
                .bind(row.created_at.format(&Rfc3339).unwrap_or_default())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn rows(&self, session_id: &str) -> Result<Vec<Row>, StoreError> {
        let found = sqlx::query(sql(&self.select))
            .bind(session_id)
            .fetch_all(&self.pool)
            .await?;
        found.iter().map(row_of).collect()
    }

    async fn turns_before(&self, session_id: &str, seq: i32) -> Result<u64, StoreError> {
        let turns: i64 = sqlx::query_scalar(sql(&self.count))
            .bind(session_id)
            .bind(seq)
            .fetch_one(&self.pool)
            .await?;
        Ok(turns.unsigned_abs())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn row_of(row: &sqlx::sqlite::SqliteRow) -> Result<Row, StoreError> {
    let created_at: String = row.try_get(4)?;
    Ok(Row {
        session_id: row.try_get(0)?,
        role: row.try_get(1)?,
        text: row.try_get(2)?,
        seq: row.try_get(3)?,
        created_at: OffsetDateTime::parse(&created_at, &Rfc3339).map_err(StoreError::Date)?,
    })
}

fn file_of(dsn: &str) -> PathBuf {
    let path = dsn.split_once('?').map_or(dsn, |(path, _)| path);
    let path = ["sqlite://", "sqlite:", "file://", "file:"]
        .iter()
        .find_map(|scheme| path.strip_prefix(scheme))
        .unwrap_or(path);
    Path::new(path).to_owned()
}

fn insert(table: &Table) -> Arc<str> {
    let table = table.as_str();
    format!(
        "INSERT INTO {table} (session_id, role, text, seq, created_at) SELECT ?1, ?2, ?3, ?4, ?5 \
         WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE session_id = ?1 AND seq = ?4)"
    )
    .into()
}

fn select(table: &Table) -> Arc<str> {
    let table = table.as_str();
    format!("SELECT session_id, role, text, seq, created_at FROM {table} WHERE session_id = ?1 ORDER BY seq").into()
}

fn count(table: &Table) -> Arc<str> {
    let table = table.as_str();
    format!("SELECT COUNT(DISTINCT seq) FROM {table} WHERE session_id = ?1 AND seq < ?2").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_spelling_names_the_file() {
        for dsn in ["sqlite:///a/b.db", "sqlite:/a/b.db", "file:/a/b.db?mode=rwc", "/a/b.db"] {
            assert_eq!(file_of(dsn), Path::new("/a/b.db"), "{dsn}");
        }
        assert_eq!(file_of("sqlite://data/b.db"), Path::new("data/b.db"));
    }
}
