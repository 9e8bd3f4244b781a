//! The SQL of MySQL and MariaDB, made once at start for one table.

use std::sync::Arc;

use crate::transcripts::Table;

/// Each by what it does.
#[derive(Debug, Clone)]
pub struct Statements {
    pub create_rows: Arc<str>,
    pub create_sessions: Arc<str>,
    pub check_rows: Arc<str>,
    pub lock_session: Arc<str>,
    pub update_start: Arc<str>,
    pub insert_row: Arc<str>,
    pub update_end: Arc<str>,
    pub rows: Arc<str>,
    pub is_erased: Arc<str>,
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
            "CAST(interrupted AS SIGNED), timing"
        } else {
            "CAST(NULL AS SIGNED), CAST(NULL AS CHAR)"
        };
        Self {
            create_rows: create_rows(table),
            // Ids are ASCII and compared byte by byte. DATETIME and not TIMESTAMP, which ends in 2038; all in UTC.
            create_sessions: format!(
                "CREATE TABLE IF NOT EXISTS {s} (\
                 session_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
                 started_at DATETIME(3) NULL, ended_at DATETIME(3) NULL, transport VARCHAR(64) NULL, \
                 provider VARCHAR(64) NULL, end_reason VARCHAR(255) NULL, turns INT NULL, \
                 recording_key VARCHAR(1024) NULL, recording_bytes BIGINT NULL, erased_at DATETIME(3) NULL, \
                 INDEX {} (started_at, session_id)) ENGINE=InnoDB CHARACTER SET utf8mb4",
                table.sessions_index()
            )
            .into(),
            check_rows: format!("SELECT {} FROM {t} LIMIT 0", table.columns()).into(),
            // Makes the row when it is missing, and either way locks it until the transaction ends.
            lock_session: format!(
                "INSERT INTO {s} (session_id) VALUES (?) ON DUPLICATE KEY UPDATE session_id = {s}.session_id"
            )
            .into(),
            update_start: format!(
                "UPDATE {s} SET started_at = ?, transport = ?, provider = ?, \
                 recording_key = COALESCE(recording_key, ?) WHERE session_id = ? AND erased_at IS NULL"
            )
            .into(),
            insert_row: insert_row(table),
            update_end: format!(
                "UPDATE {s} SET ended_at = ?, end_reason = ?, turns = ? WHERE session_id = ? AND erased_at IS NULL"
            )
            .into(),
            // The casts let a table made by someone else (VARCHAR, BIGINT, TIMESTAMP) be read as well.
            rows: format!(
                "SELECT session_id, role, text, CAST(seq AS SIGNED), created_at, {further} FROM {t} \
                 WHERE session_id = ? ORDER BY seq"
            )
            .into(),
            is_erased: format!("SELECT COUNT(*) FROM {s} WHERE session_id = ? AND erased_at IS NOT NULL").into(),
            session: format!("SELECT {session} FROM {s} WHERE session_id = ?").into(),
            sessions: format!(
                "SELECT {session} FROM {s} WHERE started_at >= ? AND started_at < ? AND erased_at IS NULL \
                 AND (started_at > ? OR (started_at = ? AND session_id > ?)) ORDER BY started_at, session_id LIMIT ?"
            )
            .into(),
            recorded: format!(
                "UPDATE {s} SET recording_key = ?, recording_bytes = ? WHERE session_id = ? AND erased_at IS NULL"
            )
            .into(),
            known_key: format!("SELECT recording_key, erased_at IS NOT NULL FROM {s} WHERE session_id = ?").into(),
            delete_rows: format!("DELETE FROM {t} WHERE session_id = ?").into(),
            bury: format!(
                "UPDATE {s} SET erased_at = COALESCE(erased_at, ?), started_at = NULL, ended_at = NULL, \
                 transport = NULL, provider = NULL, end_reason = NULL, turns = NULL, recording_bytes = NULL \
                 WHERE session_id = ?"
            )
            .into(),
            keep_key: format!("UPDATE {s} SET recording_key = ? WHERE session_id = ? AND erased_at IS NOT NULL").into(),
            forget_key: format!("UPDATE {s} SET recording_key = NULL WHERE session_id = ? AND erased_at IS NOT NULL")
                .into(),
            to_erase: format!(
                "SELECT session_id FROM {s} WHERE ((started_at < ? AND erased_at IS NULL) \
                 OR (erased_at IS NOT NULL AND recording_key IS NOT NULL)) AND session_id > ? \
                 ORDER BY session_id LIMIT ?"
            )
            .into(),
            delete_before: format!("DELETE FROM {t} WHERE created_at < ? ORDER BY created_at LIMIT ?").into(),
        }
    }
}

fn create_rows(table: &Table) -> Arc<str> {
    let (t, index) = (table.rows(), table.rows_index());
    let further = if table.extended() {
        ", interrupted BOOLEAN NULL, timing TEXT NULL"
    } else {
        ""
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {t} (\
         session_id VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, role VARCHAR(64) NOT NULL, \
         text MEDIUMTEXT NOT NULL, seq INT NOT NULL, created_at DATETIME(3) NOT NULL{further}, \
         UNIQUE (session_id, seq), INDEX {index} (created_at)) ENGINE=InnoDB CHARACTER SET utf8mb4"
    )
    .into()
}

/// The session's row is locked by then: nobody else writes rows of it, and it is not erased meanwhile.
fn insert_row(table: &Table) -> Arc<str> {
    let (t, s, columns) = (table.rows(), table.sessions(), table.columns());
    let further = if table.extended() { ", ?, ?" } else { "" };
    format!(
        "INSERT INTO {t} ({columns}) SELECT ?, ?, ?, ?, ?{further} FROM DUAL \
         WHERE NOT EXISTS (SELECT 1 FROM {t} t WHERE t.session_id = ? AND t.seq = ?) \
         AND NOT EXISTS (SELECT 1 FROM {s} s WHERE s.session_id = ? AND s.erased_at IS NOT NULL)"
    )
    .into()
}
