//! The SQL of SQLite, made once at start for one table.

use std::sync::Arc;

use crate::transcripts::Table;

/// Whether a table is there.
pub const TABLE_EXISTS: &str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";

/// Names of a table's columns.
pub const COLUMNS: &str = "SELECT name FROM pragma_table_info(?1)";

/// Each by what it does.
#[derive(Debug, Clone)]
pub struct Statements {
    pub create_rows: Arc<str>,
    pub create_sessions: Arc<str>,
    /// Further columns and how each is added.
    pub add_columns: [(&'static str, Arc<str>); 2],
    pub check_rows: Arc<str>,
    pub insert_start: Arc<str>,
    pub insert_row: Arc<str>,
    pub insert_end: Arc<str>,
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
        let further = if table.extended() {
            "interrupted, timing"
        } else {
            "NULL, NULL"
        };
        Self {
            create_rows: create_rows(table),
            create_sessions: format!(
                "CREATE TABLE IF NOT EXISTS {s} (session_id TEXT PRIMARY KEY, started_at TIMESTAMP, ended_at TIMESTAMP, \
                 transport TEXT, provider TEXT, end_reason TEXT, turns INTEGER, recording_key TEXT, \
                 recording_bytes INTEGER, erased_at TIMESTAMP);\
                 CREATE INDEX IF NOT EXISTS {} ON {s} (started_at, session_id);",
                table.sessions_index()
            )
            .into(),
            add_columns: [("interrupted", "BOOLEAN"), ("timing", "TEXT")]
                .map(|(name, kind)| (name, format!("ALTER TABLE {t} ADD COLUMN {name} {kind}").into())),
            check_rows: format!("SELECT {} FROM {t} LIMIT 0", table.columns()).into(),
            insert_start: format!(
                "INSERT INTO {s} AS t (session_id, started_at, transport, provider, recording_key) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (session_id) DO UPDATE SET \
                 started_at = excluded.started_at, transport = excluded.transport, provider = excluded.provider, \
                 recording_key = COALESCE(t.recording_key, excluded.recording_key) WHERE t.erased_at IS NULL"
            )
            .into(),
            insert_row: insert_row(table),
            insert_end: format!(
                "INSERT INTO {s} AS t (session_id, ended_at, end_reason, turns) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (session_id) DO UPDATE SET ended_at = excluded.ended_at, \
                 end_reason = excluded.end_reason, turns = excluded.turns WHERE t.erased_at IS NULL"
            )
            .into(),
            rows: format!(
                "SELECT session_id, role, text, seq, created_at, {further} FROM {t} WHERE session_id = ?1 ORDER BY seq"
            )
            .into(),
            session: format!("SELECT {session} FROM {s} WHERE session_id = ?1").into(),
            sessions: format!(
                "SELECT {session} FROM {s} WHERE started_at >= ?1 AND started_at < ?2 AND erased_at IS NULL \
                 AND (started_at, session_id) > (?3, ?4) ORDER BY started_at, session_id LIMIT ?5"
            )
            .into(),
            recorded: format!(
                "INSERT INTO {s} AS t (session_id, recording_key, recording_bytes) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (session_id) DO UPDATE SET recording_key = excluded.recording_key, \
                 recording_bytes = excluded.recording_bytes WHERE t.erased_at IS NULL"
            )
            .into(),
            known_key: format!("SELECT recording_key, erased_at IS NOT NULL FROM {s} WHERE session_id = ?1").into(),
            delete_rows: format!("DELETE FROM {t} WHERE session_id = ?1").into(),
            bury: format!(
                "INSERT INTO {s} AS t (session_id, erased_at) VALUES (?1, ?2) ON CONFLICT (session_id) DO UPDATE SET \
                 erased_at = COALESCE(t.erased_at, excluded.erased_at), started_at = NULL, ended_at = NULL, \
                 transport = NULL, provider = NULL, end_reason = NULL, turns = NULL, recording_bytes = NULL"
            )
            .into(),
            keep_key: format!(
                "UPDATE {s} SET recording_key = ?2 WHERE session_id = ?1 AND erased_at IS NOT NULL"
            )
            .into(),
            forget_key: format!("UPDATE {s} SET recording_key = NULL WHERE session_id = ?1 AND erased_at IS NOT NULL")
                .into(),
            to_erase: format!(
                "SELECT session_id FROM {s} WHERE ((started_at < ?1 AND erased_at IS NULL) \
                 OR (erased_at IS NOT NULL AND recording_key IS NOT NULL)) AND session_id > ?2 \
                 ORDER BY session_id LIMIT ?3"
            )
            .into(),
            delete_before: format!(
                "DELETE FROM {t} WHERE rowid IN (SELECT rowid FROM {t} WHERE created_at < ?1 LIMIT ?2)"
            )
            .into(),
        }
    }
}

fn create_rows(table: &Table) -> Arc<str> {
    let (t, index) = (table.rows(), table.rows_index());
    let further = if table.extended() {
        ", interrupted BOOLEAN, timing TEXT"
    } else {
        ""
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {t} (\
         session_id TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, seq INTEGER NOT NULL, \
         created_at TIMESTAMP NOT NULL{further}, UNIQUE (session_id, seq));\
         CREATE INDEX IF NOT EXISTS {index} ON {t} (created_at);"
    )
    .into()
}

fn insert_row(table: &Table) -> Arc<str> {
    let (t, s, columns) = (table.rows(), table.sessions(), table.columns());
    let further = if table.extended() { ", ?6, ?7" } else { "" };
    format!(
        "INSERT INTO {t} ({columns}) SELECT ?1, ?2, ?3, ?4, ?5{further} \
         WHERE NOT EXISTS (SELECT 1 FROM {t} WHERE session_id = ?1 AND seq = ?4) \
         AND NOT EXISTS (SELECT 1 FROM {s} WHERE session_id = ?1 AND erased_at IS NOT NULL)"
    )
    .into()
}
