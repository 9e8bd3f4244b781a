//! What is in the outbox, without any I/O: which segment holds which part of which session, and what may be deleted.
//!
//! Memory is one [`Part`] per session and segment, whatever the number of events.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::tally::Tally;

/// Marks kept per session to tell the age of its oldest unacknowledged event; thinned out when full, so that memory
/// stays flat however long the archiver is away (the age is then known less exactly, never too young).
const AGE_MARKS: usize = 64;
/// Marks are not made more often than this, in milliseconds.
const AGE_MARK_MS: u64 = 500;
/// Marks are never further apart than this many doublings: some days.
const AGE_THINNED_MAX: u32 = 20;

/// Everything known about the events on disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    segments: BTreeMap<u64, Segment>,
    sessions: HashMap<Arc<str>, Session>,
    bytes: u64,
    undurable: u64,
}

/// One file.
#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    /// How much of it has been flushed to disk and may be sent.
    readable: u64,
    sealed: bool,
    /// Sessions with a record here that must be kept.
    holds: usize,
    sessions: Vec<Arc<str>>,
}

/// One session with at least one record on disk, or open.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Highest sequence written; 0 = none.
    pub last: u64,
    /// Highest sequence the archiver has safe.
    pub durable: u64,
    /// A `SessionEnded` is written.
    pub ended: bool,
    /// Its beginning was damaged, and nothing tells the format of its audio.
    pub start_lost: bool,
    /// What its events add up to.
    pub tally: Tally,
    /// Audio is missing behind its last audio event, which says so.
    pub gap: bool,
    parts: VecDeque<Part>,
    /// Parts at the front that no longer hold their segment.
    released: usize,
    ages: VecDeque<(u64, u64)>,
    /// How often the marks have been thinned out: each time doubles the time between new ones.
    age_thinned: u32,
}

/// A session's records within one segment.
#[derive(Debug)]
struct Part {
    segment: u64,
    first: u64,
    last: u64,
}

impl Session {
    /// Up to here records may go. The newest record of an open session stays, although durable: after a crash it tells
    /// that the session was never ended, and at which sequence to end it.
    fn releasable(&self) -> u64 {
        if self.ended {
            self.durable
        } else {
            self.durable.min(self.last.saturating_sub(1))
        }
    }

    /// First sequence on disk.
    pub(super) fn first(&self) -> Option<u64> {
        self.parts.front().map(|part| part.first)
    }

    /// Segments that hold a part of it, oldest first.
    pub(super) fn segments(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.segment).collect()
    }

    fn undurable(&self) -> u64 {
        self.last.saturating_sub(self.durable)
    }

    fn note_age(&mut self, sequence: u64, now_ms: u64) {
        let spacing = AGE_MARK_MS << self.age_thinned;
        if self
            .ages
            .back()
            .is_none_or(|(_, at)| now_ms >= at.saturating_add(spacing))
        {
            if self.ages.len() >= AGE_MARKS {
                let mut keep = false;
                self.ages.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.age_thinned = (self.age_thinned + 1).min(AGE_THINNED_MAX);
            }
            self.ages.push_back((sequence, now_ms));
        }
    }

    /// When the oldest undurable event was written, at the latest.
    fn oldest_ms(&mut self) -> Option<u64> {
        if self.undurable() == 0 {
            self.ages.clear();
            self.age_thinned = 0;
            return None;
        }
        // A mark is the age of every event from its own sequence up to the next mark.
        while self
            .ages
            .get(1)
            .is_some_and(|(sequence, _)| *sequence <= self.durable + 1)
        {
            self.ages.pop_front();
        }
        self.ages.front().map(|(_, at)| *at)
    }
}

impl Index {
    /// Bytes in all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Events that the archiver does not have safe.
    pub(super) fn undurable(&self) -> u64 {
        self.undurable
    }

    /// A session that is open or has records here.
    pub(super) fn session(&self, session_id: &str) -> Option<&Session> {
        self.sessions.get(session_id)
    }

    /// The same, to note what an event added.
    pub(super) fn session_mut(&mut self, session_id: &str) -> Option<&mut Session> {
        self.sessions.get_mut(session_id)
    }

    /// All sessions.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (&Arc<str>, &Session)> {
        self.sessions.iter()
    }

    /// Makes room for a session that has written nothing yet. False: it is known already.
    pub(super) fn open(&mut self, session_id: &Arc<str>) -> bool {
        if self.sessions.contains_key(session_id) {
            return false;
        }
        self.sessions.insert(Arc::clone(session_id), Session::default());
        true
    }

    /// Forgets a session that never wrote anything.
    pub(super) fn close_unused(&mut self, session_id: &str) {
        if self.sessions.get(session_id).is_some_and(|session| session.last == 0) {
            self.sessions.remove(session_id);
        }
    }

    /// A new segment of this many bytes.
    pub(super) fn add_segment(&mut self, segment: u64, bytes: u64) {
        self.bytes += bytes;
        let fresh = Segment {
            bytes,
            ..Segment::default()
        };
        self.segments.insert(segment, fresh);
    }

    /// Records `first..=last` of a session have been written to a segment.
    pub(super) fn add(&mut self, segment: u64, session_id: &Arc<str>, first: u64, last: u64, bytes: u64, now_ms: u64) {
        let session = self.sessions.entry(Arc::clone(session_id)).or_default();
        let Some(file) = self.segments.get_mut(&segment) else {
            return;
        };
        file.bytes += bytes;
        self.bytes += bytes;
        self.undurable -= session.undurable();
        session.last = session.last.max(last);
        self.undurable += session.undurable();
        session.note_age(first, now_ms);
        match session.parts.back_mut() {
            Some(part) if part.segment == segment => part.last = last,
            Some(_) | None => {
                session.parts.push_back(Part { segment, first, last });
                file.holds += 1;
                file.sessions.push(Arc::clone(session_id));
            }
        }
        self.release(session_id);
    }

    /// The session's last event is written: nothing follows.
    pub(super) fn end(&mut self, session_id: &str) {
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.ended = true;
        }
        self.release(session_id);
    }

    /// The archiver has everything up to `sequence` safe. False: that was known.
    pub(super) fn acknowledge(&mut self, session_id: &str, sequence: u64) -> bool {
        let Some(session) = self.sessions.get_mut(session_id) else {
            return false;
        };
        let sequence = sequence.min(session.last);
        if sequence <= session.durable {
            return false;
        }
        self.undurable -= session.undurable();
        session.durable = sequence;
        self.undurable += session.undurable();
        self.release(session_id);
        true
    }

    /// Takes over what an earlier process knew. A watermark beyond the last record on disk means that later segments
    /// are gone, which happens to sessions that ended only.
    pub(super) fn restore_watermark(&mut self, session_id: &str, sequence: u64) {
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.ended |= sequence > session.last;
        }
        self.acknowledge(session_id, sequence);
    }

    /// Nothing more will be written to this segment.
    pub(super) fn seal(&mut self, segment: u64) {
        if let Some(file) = self.segments.get_mut(&segment) {
            file.sealed = true;
        }
    }

    /// Whether a segment has records, none of which must be kept.
    pub(super) fn is_spent(&self, segment: u64) -> bool {
        self.segments
            .get(&segment)
            .is_some_and(|file| file.holds == 0 && !file.sessions.is_empty())
    }

    /// Takes out the sealed segments that nobody needs; their files are the caller's to delete.
    pub(super) fn take_spent(&mut self) -> Vec<u64> {
        let spent: Vec<u64> = self
            .segments
            .iter()
            .filter(|(_, file)| file.sealed && file.holds == 0)
            .map(|(segment, _)| *segment)
            .collect();
        for segment in &spent {
            let Some(file) = self.segments.remove(segment) else {
                continue;
            };
            self.bytes -= file.bytes;
            for session_id in &file.sessions {
                self.forget_part(session_id, *segment);
            }
        }
        spent
    }

    /// The segment may be read up to here.
    pub(super) fn set_readable(&mut self, segment: u64, bytes: u64) {
        if let Some(file) = self.segments.get_mut(&segment) {
            file.readable = file.readable.max(bytes);
        }
    }

    /// The first segment at or after `from`: its number, how far it may be read, and whether it is complete by that.
    pub(super) fn readable(&self, from: u64) -> Option<(u64, u64, bool)> {
        let (segment, file) = self.segments.range(from..).next()?;
        Some((*segment, file.readable, file.sealed && file.readable >= file.bytes))
    }

    /// When the oldest undurable event was written, by the clock of [`Self::add`].
    pub(super) fn oldest_undurable_ms(&mut self) -> Option<u64> {
        self.sessions.values_mut().filter_map(Session::oldest_ms).min()
    }

    fn release(&mut self, session_id: &str) {
        let Some(session) = self.sessions.get_mut(session_id) else {
            return;
        };
        let upto = session.releasable();
        while let Some(part) = session.parts.get(session.released).filter(|part| part.last <= upto) {
            if let Some(file) = self.segments.get_mut(&part.segment) {
                file.holds = file.holds.saturating_sub(1);
            }
            session.released += 1;
        }
    }

    fn forget_part(&mut self, session_id: &Arc<str>, segment: u64) {
        let Some(session) = self.sessions.get_mut(session_id) else {
            return;
        };
        let before = session.parts.len();
        session.parts.retain(|part| part.segment != segment);
        session.released = session.released.saturating_sub(before - session.parts.len());
        if session.parts.is_empty() && session.ended {
            self.sessions.remove(session_id);
        }
    }
}
