//! Where transcripts go, and what is taken out of them before.

use super::load::Profile;
use super::secret::Secret;
use super::sources::{Merged, Values};
use super::value::Value;

/// Transcript rows.
#[derive(Debug, Clone)]
pub struct Transcripts {
    /// Whether turns are written to SQL.
    pub enable: bool,
    /// Database kind.
    pub driver: TranscriptDriver,
    /// Connection string of the driver.
    pub dsn: Secret,
    /// Table name, a plain SQL identifier; one schema may stand before it.
    pub table_name: String,
    /// Whether rows say which turns of the agent the caller cut off.
    pub extended: bool,
    /// What is taken out of turns before they leave the media node.
    pub redact: Vec<Redact>,
    /// Whose matches are taken out as well.
    pub redact_patterns: Vec<regex::Regex>,
}

/// Databases that take transcripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranscriptDriver {
    /// PostgreSQL
    Postgres,
    /// MySQL and MariaDB
    Mysql,
    /// SQLite
    Sqlite,
}

/// What can be taken out of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redact {
    /// Payment card numbers.
    Card,
    /// Phone numbers.
    Phone,
    /// E-mail addresses.
    Email,
}

pub(super) fn build(merged: &mut Merged, profile: Profile) -> Transcripts {
    let dsn = merged.values.word("transcripts.dsn");
    let by_dsn = match dsn.split("://").next() {
        Some("sqlite") => Some(TranscriptDriver::Sqlite),
        Some("postgres" | "postgresql") => Some(TranscriptDriver::Postgres),
        Some("mysql" | "mariadb") => Some(TranscriptDriver::Mysql),
        Some(_) | None => None,
    };
    let by_name = match merged.values.word("transcripts.driver").as_str() {
        "sqlite" => Some(TranscriptDriver::Sqlite),
        "postgres" => Some(TranscriptDriver::Postgres),
        "mysql" => Some(TranscriptDriver::Mysql),
        _ => None,
    };
    let enable = merged.values.flag("transcripts.enable");
    // The database's password is the archiver's: the others only need to know that there are transcripts.
    let writes = profile != Profile::Service;
    if enable && writes && dsn.is_empty() && !merged.is_broken("transcripts.dsn") {
        let message = "needed because transcripts.enable is true (postgres://user:password@host/database, \
                       mysql://user:password@host/database or sqlite://path)";
        merged.problem("transcripts.dsn", message);
    }
    if let (Some(by_name), Some(by_dsn)) = (by_name, by_dsn)
        && by_name != by_dsn
    {
        let message =
            format!("{by_name:?} does not fit transcripts.dsn, which is for {by_dsn:?}; set both or only the DSN");
        merged.problem("transcripts.driver", message.to_lowercase());
    }
    let table_name = merged.values.word("transcripts.table_name");
    if !is_table_name(&table_name) {
        merged.problem(
            "transcripts.table_name",
            format!(
                "{table_name:?} is not allowed; allowed: a letter or _, then letters, digits and _, at most 48, and \
                 before it a schema and a dot"
            ),
        );
    } else if enable && writes && by_name.or(by_dsn).is_none_or(is_sqlite) && table_name.contains('.') {
        let message = format!("{table_name:?} names a schema, which SQLite does not have; give the table alone");
        merged.problem("transcripts.table_name", message);
    }
    let driver = by_name.or(by_dsn).unwrap_or(TranscriptDriver::Sqlite);
    if by_name.is_none() && by_dsn.is_some() {
        let name = match driver {
            TranscriptDriver::Postgres => "postgres",
            TranscriptDriver::Mysql => "mysql",
            TranscriptDriver::Sqlite => "sqlite",
        };
        merged.values.derive("transcripts.driver", Value::Text(name.to_owned()));
    }
    let retention_days: u32 = merged.values.number("archive.retention_days");
    if retention_days > 0 && !enable && merged.values.flag("recording.enable") {
        let message = "needs transcripts.enable=true: the age of a call is known from its table alone";
        merged.problem("archive.retention_days", message);
    }
    Transcripts {
        enable,
        driver,
        dsn: Secret::new(dsn),
        table_name,
        extended: merged.values.flag("transcripts.extended"),
        redact: redacted_kinds(&merged.values),
        redact_patterns: redacted_patterns(merged),
    }
}

fn is_sqlite(driver: TranscriptDriver) -> bool {
    driver == TranscriptDriver::Sqlite
}

/// One or two plain SQL identifiers: a table, and before it a schema.
fn is_table_name(name: &str) -> bool {
    let mut parts = name.split('.');
    parts.by_ref().take(2).all(is_identifier) && parts.next().is_none()
}

/// A plain SQL identifier that every database keeps whole, also with what stands behind it in the names of indexes
/// (PostgreSQL: 63 bytes, MySQL: 64).
fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts_well = bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    starts_well && name.len() <= 48 && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn redacted_kinds(v: &Values) -> Vec<Redact> {
    let kinds = v.list("transcripts.redact").into_iter();
    kinds
        .filter_map(|kind| match kind.as_str() {
            "card" => Some(Redact::Card),
            "phone" => Some(Redact::Phone),
            "email" => Some(Redact::Email),
            _ => None,
        })
        .collect()
}

fn redacted_patterns(merged: &mut Merged) -> Vec<regex::Regex> {
    const KEY: &str = "transcripts.redact_patterns";
    let mut patterns = Vec::new();
    for pattern in merged.values.list(KEY) {
        match regex::Regex::new(&pattern) {
            Ok(compiled) if compiled.is_match("") => {
                merged.problem(
                    KEY,
                    format!("{pattern:?} matches the empty text; make it match something"),
                );
            }
            Ok(compiled) => patterns.push(compiled),
            Err(error) => {
                // The last line says what is wrong; those before it draw the pattern.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                let hint = "outside of the file a comma separates patterns";
                merged.problem(KEY, format!("{pattern:?} is no regular expression: {why} ({hint})"));
            }
        }
    }
    patterns
}
