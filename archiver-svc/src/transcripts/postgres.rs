//! Transcript rows in PostgreSQL, directly or through PgBouncer in transaction mode.

mod statements;

use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use service_kit::config::TranscriptDriver;
use service_kit::exit::Fatal;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions as _, Connection as _, Postgres, Row as _};
use time::OffsetDateTime;

use self::statements::{LOCK_TABLES, Statements, TABLE_EXISTS};
use super::{
    Batch, End, Erasure, Page, PoolSettings, Row, SessionRow, Start, StoreError, Table, Timing, TranscriptStore,
    not_a_dsn, refused, release, session_ids, sql, unfit,
};

/// How long to wait for a connection before the write counts as failed (and is tried again).
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows in one PostgreSQL table.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    sql: Statements,
}

type Transaction = sqlx::Transaction<'static, Postgres>;

impl PostgresStore {
    /// Connects and makes the tables when they are missing.
    pub(super) async fn open(dsn: &str, settings: PoolSettings, table: Table) -> Result<Self, Fatal> {
        let options = PgConnectOptions::from_str(dsn).map_err(|error| not_a_dsn(TranscriptDriver::Postgres, &error))?;
        let options = options
            .application_name("voxray-archiver")
            // Behind PgBouncer in transaction mode the next transaction may meet another server connection: nothing
            // may outlive a transaction, and start-up parameters it does not know are refused.
            .statement_cache_capacity(0)
            .extra_float_digits(None);
        reach(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_conns)
            .min_connections(settings.min_conns)
            .max_lifetime(settings.max_lifetime)
            .idle_timeout(settings.max_idle_time)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, _| Box::pin(release(connection)))
            .connect_lazy_with(options);
        let store = Self {
            pool,
            sql: Statements::new(&table),
        };
        let place = place(&store.pool.connect_options());
        store.create(&table).await.map_err(|error| refused(&place, &error))?;
        store.check().await.map_err(|error| unfit(&table, &error))?;
        Ok(store)
    }

    async fn create(&self, table: &Table) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        sqlx::raw_sql(LOCK_TABLES).execute(&mut *transaction).await?;
        for (name, create) in [
            (table.rows(), &self.sql.create_rows),
            (table.sessions(), &self.sql.create_sessions),
        ] {
            let there: bool = sqlx::query_scalar(TABLE_EXISTS)
                .bind(name)
                .persistent(false)
                .fetch_one(&mut *transaction)
                .await?;
            if !there {
                sqlx::raw_sql(sql(create)).execute(&mut *transaction).await?;
            }
        }
        transaction.commit().await
    }

    async fn check(&self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql(&self.sql.check_rows))
            .execute(&self.pool)
            .await
            .map(drop)
    }

    /// A transaction that alone writes to these sessions. `session_ids` are sorted.
    async fn begin_with(&self, session_ids: &[&str]) -> Result<Transaction, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        query(&self.sql.lock_sessions)
            .bind(session_ids)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }
}

/// One connection outside of the pool: the pool would only say that it timed out, not why.
async fn reach(options: &PgConnectOptions) -> Result<(), Fatal> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let connected = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await;
    let connection = connected
        .unwrap_or_else(|_| Err(silent()))
        .map_err(|error| refused(&place(options), &error))?;
    // What matters was that it opened.
    let _ = connection.close().await;
    Ok(())
}

/// Host, port and database, without user and password.
fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

/// A statement that is prepared for one use. Even so it is two round trips, which PgBouncer may send to two server
/// connections: outside of a transaction it does not work.
fn query(text: &std::sync::Arc<str>) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql(text)).persistent(false)
}

#[async_trait]
impl TranscriptStore for PostgresStore {
    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut transaction = self.begin_with(&session_ids(batch)).await?;
        if !batch.starts.is_empty() {
            insert_starts(&mut transaction, &self.sql, &batch.starts).await?;
        }
        if !batch.rows.is_empty() {
            insert_rows(&mut transaction, &self.sql, &batch.rows).await?;
        }
        if !batch.ends.is_empty() {
            insert_ends(&mut transaction, &self.sql, &batch.ends).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn rows(&self, session_id: &str) -> Result<Vec<Row>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let found = query(&self.sql.rows)
            .bind(session_id)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        found.iter().map(row_of).collect()
    }

    async fn session(&self, session_id: &str) -> Result<Option<SessionRow>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let found = query(&self.sql.session)
            .bind(session_id)
            .fetch_optional(&mut *transaction)
            .await?;
        transaction.commit().await?;
        found.as_ref().map(session_of).transpose()
    }

    async fn sessions(&self, page: &Page) -> Result<Vec<SessionRow>, StoreError> {
        let (at, id) = page.position();
        let mut transaction = self.pool.begin().await?;
        let found = query(&self.sql.sessions)
            .bind(page.from)
            .bind(page.until)
            .bind(at)
            .bind(id)
            .bind(i64::from(page.limit))
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        found.iter().map(session_of).collect()
    }

    async fn recorded(&self, session_id: &str, key: &str, bytes: u64) -> Result<bool, StoreError> {
        let mut transaction = self.begin_with(&[session_id]).await?;
        let done = query(&self.sql.recorded)
            .bind(session_id)
            .bind(key)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    async fn erase(&self, session_id: &str, now: OffsetDateTime) -> Result<Erasure, StoreError> {
        let mut transaction = self.begin_with(&[session_id]).await?;
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
            .bind(now)
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
        let mut transaction = self.begin_with(&[session_id]).await?;
        query(&self.sql.keep_key)
            .bind(session_id)
            .bind(key)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn forget_key(&self, session_id: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin_with(&[session_id]).await?;
        query(&self.sql.forget_key)
            .bind(session_id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn to_erase(
        &self,
        before: Option<OffsetDateTime>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let found = query(&self.sql.to_erase)
            .bind(before)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn delete_rows_before(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let deleted = query(&self.sql.delete_before)
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

async fn insert_starts(transaction: &mut Transaction, sql: &Statements, starts: &[Start]) -> Result<(), sqlx::Error> {
    query(&sql.insert_starts)
        .bind(column(starts, |start| start.session_id.as_str()))
        .bind(column(starts, |start| start.started_at))
        .bind(column(starts, |start| start.transport.as_str()))
        .bind(column(starts, |start| start.provider.as_str()))
        .bind(column(starts, |start| start.recording_key.as_deref()))
        .execute(&mut **transaction)
        .await
        .map(drop)
}

async fn insert_rows(transaction: &mut Transaction, sql: &Statements, rows: &[Row]) -> Result<(), sqlx::Error> {
    query(&sql.insert_rows)
        .bind(column(rows, |row| row.session_id.as_str()))
        .bind(column(rows, |row| row.role.as_str()))
        .bind(column(rows, |row| row.text.as_str()))
        .bind(column(rows, |row| row.seq))
        .bind(column(rows, |row| row.created_at))
        .bind(column(rows, |row| row.interrupted))
        .bind(column(rows, |row| row.timing.as_ref().and_then(Timing::to_json)))
        .execute(&mut **transaction)
        .await
        .map(drop)
}

async fn insert_ends(transaction: &mut Transaction, sql: &Statements, ends: &[End]) -> Result<(), sqlx::Error> {
    query(&sql.insert_ends)
        .bind(column(ends, |end| end.session_id.as_str()))
        .bind(column(ends, |end| end.ended_at))
        .bind(column(ends, |end| end.reason.as_str()))
        .bind(column(ends, |end| end.turns))
        .execute(&mut **transaction)
        .await
        .map(drop)
}

fn column<'a, T, V>(items: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    items.iter().map(value).collect()
}

fn row_of(row: &PgRow) -> Result<Row, StoreError> {
    Ok(Row {
        session_id: row.try_get(0)?,
        role: row.try_get(1)?,
        text: row.try_get(2)?,
        seq: row.try_get(3)?,
        created_at: row.try_get(4)?,
        interrupted: row.try_get(5)?,
        timing: Timing::from_json(row.try_get(6)?),
    })
}

fn session_of(row: &PgRow) -> Result<SessionRow, StoreError> {
    let text = |index| Ok::<String, sqlx::Error>(row.try_get::<Option<String>, _>(index)?.unwrap_or_default());
    Ok(SessionRow {
        session_id: row.try_get(0)?,
        started_at: row.try_get(1)?,
        ended_at: row.try_get(2)?,
        transport: text(3)?,
        provider: text(4)?,
        end_reason: text(5)?,
        turns: row.try_get(6)?,
        recording_key: row.try_get(7)?,
        recording_bytes: row.try_get::<Option<i64>, _>(8)?.map(i64::unsigned_abs),
        erased: row.try_get(9)?,
    })
}
