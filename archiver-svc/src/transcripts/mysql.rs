//! Transcript rows in MySQL (8.0 and later) or MariaDB (10.6 and later), on InnoDB tables.
//!
//! A user with MySQL's usual `caching_sha2_password` needs TLS (`ssl-mode=REQUIRED`, or the server's own certificate
//! with the default `PREFERRED`): the exchange of such a password over a plain connection is not built in.

mod statements;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use service_kit::config::TranscriptDriver;
use service_kit::exit::{self, Fatal};
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlPool, MySqlPoolOptions, MySqlRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions as _, Connection as _, MySql, Row as _, Transaction};
use time::OffsetDateTime;

use self::statements::Statements;
use super::{
    Batch, Erasure, LOCK_TIMEOUT_SECS, Page, PoolSettings, Row, SessionRow, StoreError, Table, Timing, TranscriptStore,
    not_a_dsn, refused, release, session_ids, sql, unfit,
};

/// How long to wait for a connection before the write counts as failed (and is tried again).
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server to which the connection is lost without its noticing would hold the locks of a transaction for as long as TCP
/// keeps it, hours: it is told not to wait for more than 10 s for the next statement. Only MariaDB can be told
/// (<https://mariadb.com/kb/en/transaction-timeouts/>): to MySQL it is a comment
/// (<https://mariadb.com/kb/en/comment-syntax/>), and the variable is there for a statement to be left.
const IDLE_TIMEOUT: &str = "SET @voxray_idle_timeout = 10 /*M!100300 , SESSION idle_transaction_timeout = 10 */";

/// What may stand behind the `?` of a DSN. The driver would pass over anything else without a word, `tls=true` of
/// other drivers included.
const PARAMETERS: [&str; 14] = [
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "charset",
    "collation",
    "statement-cache-capacity",
    "socket",
    "timezone",
    "time-zone",
];

/// Rows in one table.
#[derive(Debug, Clone)]
pub struct MysqlStore {
    pool: MySqlPool,
    sql: Statements,
    extended: bool,
}

impl MysqlStore {
    /// Connects and makes the tables when they are missing.
    pub(super) async fn open(dsn: &str, settings: PoolSettings, table: Table) -> Result<Self, Fatal> {
        check_parameters(dsn)?;
        let options = MySqlConnectOptions::from_str(dsn).map_err(|error| not_a_dsn(TranscriptDriver::Mysql, &error))?;
        let place = place(&options);
        reach(&options, &place).await?;
        let pool = MySqlPoolOptions::new()
            .max_connections(settings.max_conns)
            .min_connections(settings.min_conns)
            .max_lifetime(settings.max_lifetime)
            .idle_timeout(settings.max_idle_time)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_release(|connection, _| Box::pin(release(connection)))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // What another transaction has committed before this one got its lock must be seen.
                    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
                    sqlx::raw_sql(isolation).execute(&mut *connection).await?;
                    let lock_timeout = format!("SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT_SECS}");
                    let lock_timeout = sqlx::AssertSqlSafe(lock_timeout);
                    sqlx::raw_sql(lock_timeout).execute(&mut *connection).await?;
                    sqlx::raw_sql(IDLE_TIMEOUT).execute(connection).await.map(drop)
                })
            })
            .connect_lazy_with(options);
        let store = Self {
            pool,
            sql: Statements::new(&table),
            extended: table.extended(),
        };
        store.create().await.map_err(|error| refused(&place, &error))?;
        store.check().await.map_err(|error| unfit(&table, &error))?;
        Ok(store)
    }

    async fn create(&self) -> Result<(), sqlx::Error> {
        for create in [&self.sql.create_rows, &self.sql.create_sessions] {
            sqlx::raw_sql(sql(create)).execute(&self.pool).await?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql(&self.sql.check_rows))
            .execute(&self.pool)
            .await
            .map(drop)
    }

    /// A transaction that alone writes to these sessions. `session_ids` are sorted.
    async fn begin_with(&self, session_ids: &[&str]) -> Result<Transaction<'static, MySql>, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        for id in session_ids {
            query(&self.sql.lock_session)
                .bind(*id)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction)
    }
}

fn check_parameters(dsn: &str) -> Result<(), Fatal> {
    let query = dsn.split_once('?').map_or("", |(_, query)| query);
    let unknown = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key))
        .find(|key| !PARAMETERS.contains(key));
    match unknown {
        None => Ok(()),
        Some(unknown) => Err(Fatal::new(
            exit::CONFIG,
            format!("transcripts.dsn: the parameter {unknown:?} is not known"),
            format!(
                "remove it; known are pool_max_conns and its relatives, and {} (TLS: ssl-mode=REQUIRED, or \
                 VERIFY_IDENTITY with ssl-ca)",
                PARAMETERS.join(", ")
            ),
        )),
    }
}

/// One connection outside of the pool: the pool would only say that it timed out, not why.
async fn reach(options: &MySqlConnectOptions, place: &str) -> Result<(), Fatal> {
    let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let connected = tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await;
    let connection = connected
        .unwrap_or_else(|_| Err(silent()))
        .map_err(|error| refused(place, &error))?;
    // What matters was that it opened.
    let _ = connection.close().await;
    Ok(())
}

/// Host, port and database, without user and password.
fn place(options: &MySqlConnectOptions) -> String {
    let database = options.get_database().unwrap_or_default();
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

fn query(text: &Arc<str>) -> Query<'static, MySql, MySqlArguments> {
    sqlx::query(sql(text))
}

#[async_trait]
impl TranscriptStore for MysqlStore {
    async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut transaction = self.begin_with(&session_ids(batch)).await?;
        for start in &batch.starts {
            query(&self.sql.update_start)
                .bind(start.started_at)
                .bind(&start.transport)
                .bind(&start.provider)
                .bind(&start.recording_key)
                .bind(&start.session_id)
                .execute(&mut *transaction)
                .await?;
        }
        for row in &batch.rows {
            let insert = query(&self.sql.insert_row)
                .bind(&row.session_id)
                .bind(&row.role)
                .bind(&row.text)
                .bind(row.seq)
                .bind(row.created_at);
            let insert = if self.extended {
                insert
                    .bind(row.interrupted)
                    .bind(row.timing.as_ref().and_then(Timing::to_json))
            } else {
                insert
            };
            insert
                .bind(&row.session_id)
                .bind(row.seq)
                .bind(&row.session_id)
                .execute(&mut *transaction)
                .await?;
        }
        for end in &batch.ends {
            query(&self.sql.update_end)
                .bind(end.ended_at)
                .bind(&end.reason)
                .bind(end.turns)
                .bind(&end.session_id)
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
            .bind(page.from)
            .bind(page.until)
            .bind(at)
            .bind(at)
            .bind(id)
            .bind(i64::from(page.limit))
            .fetch_all(&self.pool)
            .await?;
        found.iter().map(session_of).collect()
    }

    async fn recorded(&self, session_id: &str, key: &str, bytes: u64) -> Result<bool, StoreError> {
        let mut transaction = self.begin_with(&[session_id]).await?;
        query(&self.sql.recorded)
            .bind(key)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(session_id)
            .execute(&mut *transaction)
            .await?;
        // Not the number of rows: MySQL counts those that changed, and a second time none does.
        let erased = query(&self.sql.is_erased)
            .bind(session_id)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(erased.try_get::<i64, _>(0)? == 0)
    }

    async fn erase(&self, session_id: &str, now: OffsetDateTime) -> Result<Erasure, StoreError> {
        let mut transaction = self.begin_with(&[session_id]).await?;
        let known = query(&self.sql.known_key)
            .bind(session_id)
            .fetch_one(&mut *transaction)
            .await?;
        let deleted = query(&self.sql.delete_rows)
            .bind(session_id)
            .execute(&mut *transaction)
            .await?;
        query(&self.sql.bury)
            .bind(now)
            .bind(session_id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Erasure {
            rows: deleted.rows_affected(),
            recording_key: known.try_get(0)?,
            again: known.try_get::<i64, _>(1)? != 0,
        })
    }

    async fn keep_key(&self, session_id: &str, key: &str) -> Result<(), StoreError> {
        let keep = query(&self.sql.keep_key).bind(key).bind(session_id);
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
            .bind(before)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    async fn delete_rows_before(&self, before: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let delete = query(&self.sql.delete_before).bind(before).bind(i64::from(limit));
        let deleted = delete.execute(&self.pool).await?;
        Ok(deleted.rows_affected())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn row_of(row: &MySqlRow) -> Result<Row, StoreError> {
    let seq: i64 = row.try_get(3)?;
    Ok(Row {
        session_id: row.try_get(0)?,
        role: row.try_get(1)?,
        text: row.try_get(2)?,
        seq: i32::try_from(seq).unwrap_or(i32::MAX),
        created_at: row.try_get(4)?,
        interrupted: row.try_get::<Option<i64>, _>(5)?.map(|flag| flag != 0),
        timing: Timing::from_json(row.try_get(6)?),
    })
}

fn session_of(row: &MySqlRow) -> Result<SessionRow, StoreError> {
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
        erased: row.try_get::<i64, _>(9)? != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_of_another_driver_is_refused_and_not_passed_over() {
        assert!(check_parameters("mysql://u:p@h/d?ssl-mode=REQUIRED&charset=utf8mb4").is_ok());
        assert!(check_parameters("mysql://u:p@h/d").is_ok());
        let refused = check_parameters("mysql://u:p@h/d?tls=true").unwrap_err();
        assert!(refused.what.contains("\"tls\""), "{refused}");
        assert!(refused.remedy.contains("ssl-mode"), "{refused}");
    }
}
