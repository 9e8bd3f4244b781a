//! Transcript rows in PostgreSQL, directly or through PgBouncer in transaction mode.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use service_kit::exit::{self, Fatal};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use time::OffsetDateTime;

use super::{PoolSettings, Row, StoreError, Table, TranscriptStore, refused, sql};

/// How long to wait for a connection before the write counts as failed (and is tried again).
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Rows in one PostgreSQL table.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
    insert: Arc<str>,
    select: Arc<str>,
    count: Arc<str>,
}

/// Two archivers that are sent the same session write one after the other, so that a table without a unique key gets
/// no row twice either. The ids are sorted: two transactions never wait for each other.
const LOCK_SESSIONS: &str = "SELECT pg_advisory_xact_lock(hashtextextended(s, 0)) FROM unnest($1::text[]) AS s";

impl PostgresStore {
    /// Connects and makes the table when it is missing.
    pub(super) async fn open(dsn: &str, settings: PoolSettings, table: Table) -> Result<Self, Fatal> {
        let options = PgConnectOptions::from_str(dsn).map_err(|error| {
            Fatal::new(
                exit::CONFIG,
                format!("transcripts.dsn is not a PostgreSQL DSN: {error}"),
                "set transcripts.dsn like postgres://user:password@host:5432/database?pool_max_conns=10",
            )
        })?;
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
            .connect_lazy_with(options);
        let store = Self {
            pool,
            insert: insert(&table),
            select: select(&table),
            count: count(&table),
        };
        let place = place(&store.pool.connect_options());
        store.create(&table).await.map_err(|error| refused(&place, &error))?;
        Ok(store)
    }

    async fn create(&self, table: &Table) -> Result<(), sqlx::Error> {
        let name = table.as_str();
        let mut transaction = self.pool.begin().await?;
        // Two archivers that start together would both try: IF NOT EXISTS alone fails then on pg_type's unique key.
        sqlx::raw_sql("SELECT pg_advisory_xact_lock(7238143109)")
            .execute(&mut *transaction)
            .await?;
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(name)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
        if !there {
            let index = table.companion("created_at_idx");
            sqlx::raw_sql(AssertSqlSafe(format!(
                "CREATE TABLE {name} (session_id TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, \
                 seq INTEGER NOT NULL, created_at TIMESTAMP WITH TIME ZONE NOT NULL, UNIQUE (session_id, seq)); \
                 CREATE INDEX {index} ON {name} (created_at)"
            )))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
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

#[async_trait]
impl TranscriptStore for PostgresStore {
    async fn write(&self, rows: &[Row]) -> Result<(), StoreError> {
        let mut sessions: Vec<&str> = rows.iter().map(|row| row.session_id.as_str()).collect();
        sessions.sort_unstable();
        sessions.dedup();
        let mut transaction = self.pool.begin().await?;
        sqlx::query(LOCK_SESSIONS)
            .bind(sessions)
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(sql(&self.insert))
            .bind(rows.iter().map(|row| row.session_id.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.role.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.seq).collect::<Vec<_>>())
            .bind(rows.iter().map(|row| row.created_at).collect::<Vec<_>>())
            .persistent(false)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn rows(&self, session_id: &str) -> Result<Vec<Row>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let found = sqlx::query(sql(&self.select))
            .bind(session_id)
            .persistent(false)
            .fetch_all(&mut *transaction)
            .await?;
        transaction.commit().await?;
        found.iter().map(row_of).collect()
    }

    async fn turns_before(&self, session_id: &str, seq: i32) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let turns: i64 = sqlx::query_scalar(sql(&self.count))
            .bind(session_id)
            .bind(seq)
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(turns.unsigned_abs())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn row_of(row: &sqlx::postgres::PgRow) -> Result<Row, StoreError> {
    Ok(Row {
        session_id: row.try_get(0)?,
        role: row.try_get(1)?,
        text: row.try_get(2)?,
        seq: row.try_get(3)?,
        created_at: row.try_get::<OffsetDateTime, _>(4)?,
    })
}

fn insert(table: &Table) -> Arc<str> {
    let table = table.as_str();
    format!(
        "INSERT INTO {table} (session_id, role, text, seq, created_at) \
         SELECT v.session_id, v.role, v.text, v.seq, v.created_at \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::timestamptz[]) \
         AS v (session_id, role, text, seq, created_at) \
         WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE t.session_id = v.session_id AND t.seq = v.seq)"
    )
    .into()
}

fn select(table: &Table) -> Arc<str> {
    let table = table.as_str();
    // The casts let a table made by someone else (VARCHAR, BIGINT, TIMESTAMP) be read as well.
    format!(
        "SELECT session_id::text, role::text, text::text, seq::int4, created_at::timestamptz FROM {table} \
         WHERE session_id = $1 ORDER BY seq"
    )
    .into()
}

fn count(table: &Table) -> Arc<str> {
    let table = table.as_str();
    format!("SELECT COUNT(DISTINCT seq) FROM {table} WHERE session_id = $1 AND seq < $2").into()
}
