//! What a batch of events comes to in SQL.

use std::collections::HashSet;

use voxray_proto::archive::{SessionEnded, SessionStarted};

use super::session::date;
use crate::recordings;
use crate::transcripts::{Batch, End, Row, Start};

/// Longest word (transport, provider, role), characters: as wide as the columns of MySQL.
const MAX_WORD_CHARS: usize = 64;
/// Longest reason, characters.
const MAX_REASON_CHARS: usize = 255;

/// Makes one transaction of them.
pub fn of(
    base_path: &str,
    starts: Vec<(String, SessionStarted)>,
    mut rows: Vec<Row>,
    ends: &[(String, SessionEnded)],
) -> Batch {
    // One statement does not see its own rows: a turn number used twice would break the unique key for ever.
    let mut seen = HashSet::new();
    rows.retain(|row| seen.insert((row.session_id.clone(), row.seq)));
    for row in &mut rows {
        clip(&mut row.role, MAX_WORD_CHARS);
    }
    let mut seen = HashSet::new();
    let starts = starts.into_iter().filter(|(id, _)| seen.insert(id.clone()));
    // The last one counts: an earlier end was none.
    let mut seen = HashSet::new();
    let ends = ends.iter().rev().filter(|(id, _)| seen.insert(id.as_str()));
    Batch {
        starts: starts.map(|(id, started)| start(base_path, id, started)).collect(),
        rows,
        ends: ends.map(|(id, ended)| end(id, ended)).collect(),
    }
}

fn start(base_path: &str, session_id: String, started: SessionStarted) -> Start {
    let started_at = date(started.started_at_unix_ms);
    let recording_key = started
        .recording
        .is_some()
        .then(|| recordings::object_key(base_path, started_at, &session_id));
    Start {
        session_id,
        started_at,
        transport: word(started.transport, MAX_WORD_CHARS),
        provider: word(started.provider, MAX_WORD_CHARS),
        recording_key,
    }
}

fn end(session_id: &str, ended: &SessionEnded) -> End {
    End {
        session_id: session_id.to_owned(),
        ended_at: date(ended.ended_at_unix_ms),
        reason: word(ended.reason.clone(), MAX_REASON_CHARS),
        turns: i32::try_from(ended.turns).unwrap_or(i32::MAX),
    }
}

/// Text that every database takes: PostgreSQL has no NUL, and no column is endless.
fn word(text: String, max_chars: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    clip(&mut text, max_chars);
    text
}

fn clip(text: &mut String, max_chars: usize) {
    if let Some((at, _)) = text.char_indices().nth(max_chars) {
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(reason: &str) -> (String, SessionEnded) {
        let ended = SessionEnded {
            reason: reason.to_owned(),
            ..SessionEnded::default()
        };
        ("s".to_owned(), ended)
    }

    #[test]
    fn nothing_comes_twice_and_nothing_is_wider_than_its_column() {
        let row = Row {
            session_id: "s".to_owned(),
            role: "x".repeat(100),
            text: "first".to_owned(),
            seq: 0,
            created_at: time::OffsetDateTime::UNIX_EPOCH,
            interrupted: None,
        };
        let again = Row {
            text: "second".to_owned(),
            ..row.clone()
        };
        let starts = vec![("s".to_owned(), SessionStarted::default()); 2];

        let batch = of(
            "",
            starts,
            vec![row, again],
            &[ended("lost"), ended(&"ü\0".repeat(200))],
        );

        assert_eq!((batch.starts.len(), batch.rows.len(), batch.ends.len()), (1, 1, 1));
        assert_eq!((batch.rows[0].text.as_str(), batch.rows[0].role.len()), ("first", 64));
        assert_eq!(batch.ends[0].reason.chars().count(), 255);
        assert!(!batch.ends[0].reason.contains('\0'));
    }
}
