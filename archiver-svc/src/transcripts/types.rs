//! What goes into SQL and comes out of it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// One row: one turn of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The session.
    pub session_id: String,
    /// `user` or `assistant`.
    pub role: String,
    /// What was said, or for the assistant what was heard.
    pub text: String,
    /// 0-based number of the turn within the session.
    pub seq: i32,
    /// When the turn was closed; kept in whole milliseconds.
    pub created_at: OffsetDateTime,
    /// Whether the caller cut the agent off; kept with `transcripts.extended` only. `None`: a turn of the caller, or
    /// not known.
    pub interrupted: Option<bool>,
    /// Where the turn lies in the recording and how long an answer took; kept with `transcripts.extended` only.
    pub timing: Option<Timing>,
}

/// When a turn was spoken, and of an answer how long the caller waited for it. In SQL it is JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// First word, milliseconds since the session (and its recording) began.
    pub start_ms: u64,
    /// Last word.
    pub end_ms: u64,
    /// Of an answer to something spoken.
    #[serde(flatten)]
    pub latency: Option<Latency>,
}

/// Counted from the end of the caller's speech, milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Until the turn was judged over.
    pub endpoint_ms: u32,
    /// Until the final transcript.
    pub transcript_ms: u32,
    /// Until the model's first token.
    pub first_token_ms: u32,
    /// Until the first audio of the answer was sent.
    pub first_audio_ms: u32,
}

impl Timing {
    /// As it stands in SQL.
    pub(super) fn to_json(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// What is not ours is not known.
    pub(super) fn from_json(text: Option<&str>) -> Option<Self> {
        text.and_then(|text| serde_json::from_str(text).ok())
    }
}

/// A session begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The session.
    pub session_id: String,
    /// When.
    pub started_at: OffsetDateTime,
    /// `telephony`, `websocket`, `webrtc`.
    pub transport: String,
    /// Telephony provider, or empty.
    pub provider: String,
    /// Where its recording will be; `None` when it is not recorded.
    pub recording_key: Option<String>,
}

/// A session has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The session.
    pub session_id: String,
    /// When.
    pub ended_at: OffsetDateTime,
    /// Why, in a word.
    pub reason: String,
    /// Turns of both sides.
    pub turns: i32,
}

/// What is waiting to be written: one transaction. No `(session_id, seq)` comes twice in it, and no session has two
/// starts or two ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Sessions that begin.
    pub starts: Vec<Start>,
    /// Turns.
    pub rows: Vec<Row>,
    /// Sessions that end.
    pub ends: Vec<End>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.rows.is_empty() && self.ends.is_empty()
    }
}

/// What is known of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionRow {
    /// The session.
    pub session_id: String,
    /// `None`: its start never came (or it was erased).
    pub started_at: Option<OffsetDateTime>,
    /// `None`: it runs, or its node was lost.
    pub ended_at: Option<OffsetDateTime>,
    /// `telephony`, `websocket`, `webrtc`; empty when not known.
    pub transport: String,
    /// Telephony provider, or empty.
    pub provider: String,
    /// Why it ended; empty when not known.
    pub end_reason: String,
    /// Turns of both sides; `None` until it has ended.
    pub turns: Option<i32>,
    /// Where its recording is or will be.
    pub recording_key: Option<String>,
    /// Length of the recording in bytes; `None` until it is stored.
    pub recording_bytes: Option<u64>,
    /// It was erased.
    pub erased: bool,
}

/// Which sessions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// First start that counts.
    pub from: OffsetDateTime,
    /// First start that does not count any more.
    pub until: OffsetDateTime,
    /// The last session of the page before.
    pub after: Option<(OffsetDateTime, String)>,
    /// Most sessions.
    pub limit: u32,
}

impl Page {
    /// Start and id behind which this page begins.
    pub(super) fn position(&self) -> (OffsetDateTime, &str) {
        match &self.after {
            Some((at, id)) => (*at, id),
            // No id is empty, so nothing at this very start is left out.
            None => (self.from, ""),
        }
    }
}

/// What erasing a session came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Rows that were deleted.
    pub rows: u64,
    /// Where its recording is or may be, until that is forgotten.
    pub recording_key: Option<String>,
    /// It had been erased before.
    pub again: bool,
}
