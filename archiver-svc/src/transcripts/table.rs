//! Names of tables and indexes.

use service_kit::exit::{self, Fatal};

/// Longest name, bytes: with what is put behind it, it stays below the 63 of PostgreSQL and the 64 of MySQL.
const MAX_NAME_BYTES: usize = 48;

/// A table name that can be put into SQL as it is: letters, digits and `_`, not starting with a digit; one schema
/// (`archive.calls`) may stand before it. `{name}_sessions` is a table of ours beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    rows: String,
    sessions: String,
    extended: bool,
}

impl Table {
    /// Checks a name.
    ///
    /// # Errors
    /// [`exit::CONFIG`] when it is not one.
    pub fn parse(name: &str, extended: bool) -> Result<Self, Fatal> {
        let plain = |part: &str| {
            part.len() <= MAX_NAME_BYTES
                && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let parts: Vec<_> = name.split('.').collect();
        if parts.len() <= 2 && parts.iter().all(|part| plain(part)) {
            Ok(Self {
                rows: name.to_owned(),
                sessions: format!("{name}_sessions"),
                extended,
            })
        } else {
            Err(Fatal::new(
                exit::CONFIG,
                format!("transcripts.table_name {name:?} is not a table name"),
                "use letters, digits and _, not starting with a digit, at most 48 of them, like call_transcripts",
            ))
        }
    }

    /// The table of turns, as it stands in SQL.
    pub fn rows(&self) -> &str {
        &self.rows
    }

    /// The table of sessions, as it stands in SQL.
    pub fn sessions(&self) -> &str {
        &self.sessions
    }

    /// Whether rows have the further columns.
    pub fn extended(&self) -> bool {
        self.extended
    }

    /// The columns of the table of turns.
    pub fn columns(&self) -> &'static str {
        if self.extended {
            "session_id, role, text, seq, created_at, interrupted, timing"
        } else {
            "session_id, role, text, seq, created_at"
        }
    }

    /// The name of an index of the table of turns.
    pub fn rows_index(&self) -> String {
        format!("{}_created_at_idx", last(&self.rows))
    }

    /// The name of an index of the table of sessions.
    pub fn sessions_index(&self) -> String {
        format!("{}_idx", last(&self.sessions))
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_are_table_names() {
        for good in ["call_transcripts", "_a1", "archive.calls"] {
            assert_eq!(Table::parse(good, false).unwrap().rows(), good);
        }
        for bad in ["", "1a", "a b", "a;drop table b", "a.b.c", "a\"b", ".a", "größe", "a-b"] {
            assert_eq!(Table::parse(bad, false).unwrap_err().status, exit::CONFIG, "{bad}");
        }
    }

    #[test]
    fn companions_stand_in_the_same_schema_and_indexes_have_none() {
        let table = Table::parse("archive.calls", false).unwrap();
        assert_eq!(table.sessions(), "archive.calls_sessions");
        assert_eq!(table.rows_index(), "calls_created_at_idx");
        assert_eq!(table.sessions_index(), "calls_sessions_idx");
        let longest = Table::parse(&"x".repeat(MAX_NAME_BYTES), false).unwrap();
        assert!(longest.rows_index().len() <= 63 && longest.sessions_index().len() <= 63);
    }
}
