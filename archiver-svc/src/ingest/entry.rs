//! What events come to in SQL.

use std::collections::HashSet;

use voxray_proto::archive::{SessionEnded, SessionStarted};

use super::session::date;
use crate::metrics::KindCounts;
use crate::transcripts::{Batch, End, Row, Start};

/// Longest word (transport, provider, role), characters: as wide as the columns of MySQL.
const MAX_WORD_CHARS: usize = 64;
/// Longest reason, characters.
const MAX_REASON_CHARS: usize = 255;

/// One of the things that go to SQL.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A session begins.
    Start(Start),
    /// A turn.
    Row(Row),
    /// A session has ended.
    End(End),
    /// A recording is stored and not noted: by this archiver, or by one that may not have got to it.
    Recorded(Recorded),
}

/// A stored recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its session.
    pub session_id: String,
    /// Where it is.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// The session is durable to its end with this note, and so many events of its audio with it. `None`: it waits for the
    /// note as for any other row.
    pub completes: Option<KindCounts>,
}

impl Entry {
    /// Its session.
    pub fn session_id(&self) -> &str {
        match self {
            Self::Start(start) => &start.session_id,
            Self::Row(row) => &row.session_id,
            Self::End(end) => &end.session_id,
            Self::Recorded(recorded) => &recorded.session_id,
        }
    }

    /// About what it takes in memory, beside a few numbers, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Start(start) => start.recording_key.as_ref().map_or(0, String::len),
            Self::Row(row) => row.text.len(),
            Self::End(end) => end.reason.len(),
            Self::Recorded(recorded) => recorded.key.len(),
        }
    }
}

/// Makes one transaction of them, but for stored recordings, which are noted by themselves.
pub fn batch<'a>(entries: impl Iterator<Item = &'a Entry>) -> Batch {
    let mut batch = Batch::default();
    // One statement does not see its own rows: a turn number used twice would break the unique key for ever.
    let (mut begun, mut turns) = (HashSet::new(), HashSet::new());
    for entry in entries {
        match entry {
            Entry::Start(start) if begun.insert(&start.session_id) => batch.starts.push(start.clone()),
            Entry::Row(row) if turns.insert((&row.session_id, row.seq)) => batch.rows.push(row.clone()),
            Entry::End(end) => {
                // The last one counts: an earlier end was none.
                batch.ends.retain(|earlier| earlier.session_id != end.session_id);
                batch.ends.push(end.clone());
            }
            Entry::Start(_) | Entry::Row(_) | Entry::Recorded(_) => {}
        }
    }
    for row in &mut batch.rows {
        clip(&mut row.role, MAX_WORD_CHARS);
    }
    batch
}

/// A session begins, with its recording under this key.
pub fn start(session_id: &str, started: SessionStarted, recording_key: Option<String>) -> Start {
    Start {
        session_id: session_id.to_owned(),
        started_at: date(started.started_at_unix_ms),
        transport: word(started.transport, MAX_WORD_CHARS),
        provider: word(started.provider, MAX_WORD_CHARS),
        recording_key,
    }
}

/// A session has ended.
pub fn end(session_id: &str, ended: &SessionEnded) -> End {
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

    fn ended(reason: &str) -> Entry {
        let ended = SessionEnded {
            reason: reason.to_owned(),
            ..SessionEnded::default()
        };
        Entry::End(end("s", &ended))
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
            timing: None,
        };
        let again = Row {
            text: "second".to_owned(),
            ..row.clone()
        };
        let begun = || Entry::Start(start("s", SessionStarted::default(), None));
        let entries = [
            begun(),
            begun(),
            Entry::Row(row),
            Entry::Row(again),
            ended("lost"),
            ended(&"ü\0".repeat(200)),
        ];

        let batch = batch(entries.iter());

        assert_eq!((batch.starts.len(), batch.rows.len(), batch.ends.len()), (1, 1, 1));
        assert_eq!((batch.rows[0].text.as_str(), batch.rows[0].role.len()), ("first", 64));
        assert_eq!(batch.ends[0].reason.chars().count(), 255);
        assert!(!batch.ends[0].reason.contains('\0'));
    }
}
