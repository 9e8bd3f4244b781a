//! Transcript rows in a SQLite file.

mod statements;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use service_kit::exit::{self, Fatal};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, Transaction};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use self::statements::{COLUMNS, Statements, TABLE_EXISTS};
use super::{
    Batch, Erasure, Page, PoolSettings, Row, SessionRow, StoreError, Table, Timing, TranscriptStore, sql, unfit,
};

/// How long a statement waits for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows in one SQLite file in WAL mode.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    sql: Statements,
    extended: bool,
}

impl SqliteStore {
    /// Opens `sqlite://PATH`, `sqlite:PATH`, `file:PATH` or `PATH`; makes folder, file and tables when missing.
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
            // What is erased is overwritten, and not only left to be reused.
            .pragma("secure_delete", "ON")
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
            sql: Statements::new(&table),
            extended: table.extended(),
        };
        store.create(&table).await.map_err(|error| cannot(error.to_string()))?;
        store.check().await.map_err(|error| unfit(&table, &error))?;
        Ok(store)
    }

    async fn create(&self, table: &Table) -> Result<(), sqlx::Error> {
        for (name, create) in [
            (table.rows(), &self.sql.create_rows),
            (table.sessions(), &self.sql.create_sessions),
        ] {
            let there: Option<i64> = sqlx::query_scalar(TABLE_EXISTS)
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
            if there.is_none() {
                sqlx::raw_sql(sql(create)).execute(&self.pool).await?;
            }
        }
        if self.extended {
            self.widen(table).await?;
        }
        Ok(())
    }

    /// Adds the further columns to a table of an earlier release: one process on a laptop has them by default, and
    /// nobody there should have to know SQL. In SQLite that is a change of the file's catalogue, whatever is in it.
    async fn widen(&self, table: &Table) -> Result<(), sqlx::Error> {
        let there: Vec<String> = sqlx::query_scalar(COLUMNS)
            .bind(table.rows())
            .fetch_all(&self.pool)
            .await?;
        for (column, add) in &self.sql.add_columns {
            if !there.iter().any(|name| name == column) {
                sqlx::raw_sql(sql(add)).execute(&self.pool).await?;
            }
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql(&self.sql.check_rows))
            .execute(&self.pool)
            .await
            .map(drop)
    }

    /// IMMEDIATE takes the write lock before the look for what is there, so that two writers cannot both miss it.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }
}

fn query<'q>(text: &Arc<str>) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql(text))
}

#[async_trait]
impl TranscriptStore for SqliteStore {
    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for start in &batch.starts {
            query(&self.sql.insert_start)
                .bind(&start.session_id)
                .bind(stamp(start.started_at))
                .bind(&start.transport)
                .bind(&start.provider)
                .bind(&start.recording_key)
                .execute(&mut *transaction)
                .await?;
        }
        for row in &batch.rows {
            let insert = query(&self.sql.insert_row)
                .bind(&row.session_id)
                .bind(&row.role)
                .bind(&row.text)
                .bind(row.seq)
                .bind(row.created_at.format(&Rfc3339).unwrap_or_default());
            let insert = if self.extended {
                insert
                    .bind(row.interrupted)
                    .bind(row.timing.as_ref().and_then(Timing::to_json))
            } else {
                insert
            };
            insert.execute(&mut *transaction).await?;
        }
        for end in &batch.ends {
            query(&self.sql.insert_end)
                .bind(&end.session_id)
                .bind(stamp(end.ended_at))
                .bind(&end.reason)
                .bind(end.turns)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn rows(&self, session_id: &str) -> Result<Vec<Row>, StoreError> {
        let found = query(&self.sql.rows).bind(session_id).fetch_all(&self.pool).await?;
        found.iter().map(row_of).collect()
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRow>, StoreError> {
        let found = query(&self.sql.session)
            .bind(session_id)
            .fetch_optional(&self.pool)
            .await?;
        found.as_ref().map(session_of).transpose()
    }

    async fn sessions(&self, page: &Page) -> Result<Vec<SessionRow>, StoreError> {
        let (at, id) = page.position();
        let found = query(&self.sql.sessions)
            .bind(stamp(page.from))
            .bind(stamp(page.until))
            .bind(stamp(at))
            .bind(id)
            .bind(i64::from(page.limit))
            .fetch_all(&self.pool)
            .await?;
        found.iter().map(session_of).collect()
    }

    async fn recorded(&self, session_id: &str, key: &str, bytes: u64) -> Result<bool, StoreError> {
        let done = query(&self.sql.recorded)
            .bind(session_id)
            .bind(key)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn erase(&self, session_id: &str, now: OffsetDateTime) -> Result<Erasure, StoreError> {
        let mut transaction = self.begin().await?;
        let known = query(&self.sql.known_key)
            .bind(session_id)
            .fetch_optional(&mut *transaction)
            .await?;
        let (recording_key, again) = match known {
            Some(row) => (row.try_get(0)?, row.try_get(1)?),
            None => (None, false),
        };
        let deleted = query(&self.sql.delete_rows)
            .bind(session_id)
            .execute(&mut *transaction)
            .await?;
        query(&self.sql.bury)
            .bind(session_id)
            .bind(stamp(now))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Erasure {
            rows: deleted.rows_affected(),
            recording_key,
            again,
        })
    }

    async fn keep_key(&self, session_id: &str, key: &str) -> Result<(), StoreError> {
        let keep = query(&self.sql.keep_key).bind(session_id).bind(key);
        keep.execute(&self.pool).await?;
        Ok(())
    }

    async fn forget_key(&self, session_id: &str) -> Result<(), StoreError> {
        query(&self.sql.forget_key).bind(session_id).execute(&self.pool).await?;
        Ok(())
    }

    async fn to_erase(
        &self,
        before: Option<OffsetDateTime>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let found = query(&self.sql.to_erase)
            .bind(before.map(stamp))
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn delete_rows_before(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let deleted = query(&self.sql.delete_before)
            .bind(stamp(before))
            .bind(limit)
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// RFC 3339 in UTC with always three digits behind the second: SQLite compares text.
fn stamp(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_offset(UtcOffset::UTC).format(&format).unwrap_or_default()
}

fn date(text: &str) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(StoreError::Date)
}

fn row_of(row: &SqliteRow) -> Result<Row, StoreError> {
    Ok(Row {
        session_id: row.try_get(0)?,
        role: row.try_get(1)?,
        text: row.try_get(2)?,
        seq: row.try_get(3)?,
        created_at: date(row.try_get(4)?)?,
        interrupted: row.try_get(5)?,
        timing: Timing::from_json(row.try_get(6)?),
    })
}

fn session_of(row: &SqliteRow) -> Result<SessionRow, StoreError> {
    let text = |index| Ok::<String, sqlx::Error>(row.try_get::<Option<String>, _>(index)?.unwrap_or_default());
    let at = |index| row.try_get::<Option<&str>, _>(index)?.map(date).transpose();
    Ok(SessionRow {
        session_id: row.try_get(0)?,
        started_at: at(1)?,
        ended_at: at(2)?,
        transport: text(3)?,
        provider: text(4)?,
        end_reason: text(5)?,
        turns: row.try_get(6)?,
        recording_key: row.try_get(7)?,
        recording_bytes: row.try_get::<Option<i64>, _>(8)?.map(i64::unsigned_abs),
        erased: row.try_get(9)?,
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

    #[test]
    fn dates_are_in_the_order_of_their_texts() {
        let dates = [0, 1, 500, 1000, 60_000].map(|ms| {
            let at = time::macros::datetime!(2026-03-04 05:06:07 +2) + Duration::from_millis(ms);
            stamp(at)
        });
        assert!(dates.is_sorted(), "{dates:?}");
        assert_eq!(dates[0], "2026-03-04T03:06:07.000Z");
    }
}
