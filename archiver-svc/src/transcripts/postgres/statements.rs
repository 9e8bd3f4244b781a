//! The SQL of PostgreSQL, made once at start for one table.

use std::sync::Arc;

use crate::transcripts::{LOCK_TIMEOUT_SECS, Table};

/// Two archivers that start together would both make the tables: IF NOT EXISTS alone fails then on pg_type's unique
/// key.
pub const LOCK_TABLES: &str = "SELECT pg_advisory_xact_lock(7238143109)";
/// Whether a table is there.
pub const TABLE_EXISTS: &str = "SELECT to_regclass($1) IS NOT NULL";

/// Each by what it does.
#[derive(Debug, Clone)]
pub struct Statements {
    pub create_rows: Arc<str>,
    pub create_sessions: Arc<str>,
    pub check_rows: Arc<str>,
    pub lock_sessions: Arc<str>,
    pub insert_starts: Arc<str>,
    pub insert_rows: Arc<str>,
    pub insert_ends: Arc<str>,
    pub rows: Arc<str>,
    pub session: Arc<str>,
    pub sessions: Arc<str>,
    pub recorded: Arc<str>,
    pub known_key: Arc<str>,
    pub delete_rows: Arc<str>,
    pub bury: Arc<str>,
    pub keep_key: Arc<str>,
    pub forget_key: Arc<str>,
    pub to_erase: Arc<str>,
    pub delete_before: Arc<str>,
}

impl Statements {
    pub fn new(table: &Table) -> Self {
        let (t, s) = (table.rows(), table.sessions());
        let session = "session_id, started_at, ended_at, transport, provider, end_reason, turns, recording_key, \
                       recording_bytes, erased_at IS NOT NULL";
        Self {
            create_rows: create_rows(table),
            create_sessions: format!(
                "CREATE TABLE {s} (session_id TEXT PRIMARY KEY, started_at TIMESTAMP WITH TIME ZONE, ended_at TIMESTAMP \
                 WITH TIME ZONE, transport TEXT, provider TEXT, end_reason TEXT, turns INTEGER, recording_key TEXT, \
                 recording_bytes BIGINT, erased_at TIMESTAMP WITH TIME ZONE); \
                 CREATE INDEX {} ON {s} (started_at, session_id)",
                table.sessions_index()
            )
            .into(),
            check_rows: format!("SELECT {} FROM {t} LIMIT 0", table.columns()).into(),
            lock_sessions: lock_sessions(),
            insert_starts: format!(
                "INSERT INTO {s} AS t (session_id, started_at, transport, provider, recording_key) \
                 SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[]) \
                 ON CONFLICT (session_id) DO UPDATE SET started_at = EXCLUDED.started_at, \
                 transport = EXCLUDED.transport, provider = EXCLUDED.provider, \
                 recording_key = COALESCE(t.recording_key, EXCLUDED.recording_key) WHERE t.erased_at IS NULL"
            )
            .into(),
            insert_rows: insert_rows(table),
            insert_ends: format!(
                "INSERT INTO {s} AS t (session_id, ended_at, end_reason, turns) \
                 SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::int4[]) \
                 ON CONFLICT (session_id) DO UPDATE SET ended_at = EXCLUDED.ended_at, \
                 end_reason = EXCLUDED.end_reason, turns = EXCLUDED.turns WHERE t.erased_at IS NULL"
            )
            .into(),
            rows: rows(table),
            session: format!("SELECT {session} FROM {s} WHERE session_id = $1").into(),
            sessions: format!(
                "SELECT {session} FROM {s} WHERE started_at >= $1 AND started_at < $2 AND erased_at IS NULL \
                 AND (started_at, session_id) > ($3, $4) ORDER BY started_at, session_id LIMIT $5"
            )
            .into(),
            recorded: format!(
                "INSERT INTO {s} AS t (session_id, recording_key, recording_bytes) VALUES ($1, $2, $3) \
                 ON CONFLICT (session_id) DO UPDATE SET recording_key = EXCLUDED.recording_key, \
                 recording_bytes = EXCLUDED.recording_bytes WHERE t.erased_at IS NULL"
            )
            .into(),
            known_key: format!("SELECT recording_key, erased_at IS NOT NULL FROM {s} WHERE session_id = $1").into(),
            delete_rows: format!("DELETE FROM {t} WHERE session_id = $1").into(),
            bury: format!(
                "INSERT INTO {s} AS t (session_id, erased_at) VALUES ($1, $2) ON CONFLICT (session_id) DO UPDATE SET \
                 erased_at = COALESCE(t.erased_at, EXCLUDED.erased_at), started_at = NULL, ended_at = NULL, \
                 transport = NULL, provider = NULL, end_reason = NULL, turns = NULL, recording_bytes = NULL"
            )
            .into(),
            keep_key: format!(
                "UPDATE {s} SET recording_key = $2 WHERE session_id = $1 AND erased_at IS NOT NULL"
            )
            .into(),
            forget_key: format!("UPDATE {s} SET recording_key = NULL WHERE session_id = $1 AND erased_at IS NOT NULL")
                .into(),
            to_erase: format!(
                "SELECT session_id FROM {s} WHERE ((started_at < $1 AND erased_at IS NULL) \
                 OR (erased_at IS NOT NULL AND recording_key IS NOT NULL)) AND session_id > $2 \
                 ORDER BY session_id LIMIT $3"
            )
            .into(),
            // A place in one partition is that of another row in the next: the date is asked for twice.
            delete_before: format!(
                "DELETE FROM {t} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {t} WHERE created_at < $1 LIMIT $2)) \
                 AND created_at < $1"
            )
            .into(),
        }
    }
}

/// Two archivers that are sent the same session write one after the other, so that a table without a unique key gets
/// no row twice either, and that nothing is written to a session while it is erased. The ids are sorted: two
/// transactions never wait for each other. A server to which the connection is lost without its noticing would hold the locks
/// for as long as TCP keeps it, hours: it is told not to wait for more than 10 s for the next statement. No statement waits
/// longer than this for a lock of somebody else.
fn lock_sessions() -> Arc<str> {
    format!(
        "SELECT set_config('idle_in_transaction_session_timeout', '10s', true), \
         set_config('lock_timeout', '{LOCK_TIMEOUT_SECS}s', true), \
         pg_advisory_xact_lock(hashtextextended(s, 0)) FROM unnest($1::text[]) AS s"
    )
    .into()
}

fn create_rows(table: &Table) -> Arc<str> {
    let (t, index) = (table.rows(), table.rows_index());
    let further = if table.extended() {
        ", interrupted BOOLEAN, timing TEXT"
    } else {
        ""
    };
    format!(
        "CREATE TABLE {t} (session_id TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, \
         seq INTEGER NOT NULL, created_at TIMESTAMP WITH TIME ZONE NOT NULL{further}, UNIQUE (session_id, seq)); \
         CREATE INDEX {index} ON {t} (created_at)"
    )
    .into()
}

fn insert_rows(table: &Table) -> Arc<str> {
    let (t, s, columns) = (table.rows(), table.sessions(), table.columns());
    let values: Vec<String> = columns.split(", ").map(|column| format!("v.{column}")).collect();
    let values = values.join(", ");
    format!(
        "INSERT INTO {t} ({columns}) SELECT {values} \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::int4[], $5::timestamptz[], $6::bool[], $7::text[]) \
         AS v (session_id, role, text, seq, created_at, interrupted, timing) \
         WHERE NOT EXISTS (SELECT 1 FROM {t} t WHERE t.session_id = v.session_id AND t.seq = v.seq) \
         AND NOT EXISTS (SELECT 1 FROM {s} s WHERE s.session_id = v.session_id AND s.erased_at IS NOT NULL)"
    )
    .into()
}

fn rows(table: &Table) -> Arc<str> {
    let t = table.rows();
    let further = if table.extended() {
        "interrupted, timing::text"
    } else {
        "NULL::bool, NULL::text"
    };
    // The casts let a table made by someone else (VARCHAR, BIGINT, TIMESTAMP) be read as well.
    format!(
        "SELECT session_id::text, role::text, text::text, seq::int4, created_at::timestamptz, {further} FROM {t} \
         WHERE session_id = $1 ORDER BY seq"
    )
    .into()
}
