//! Sessions that somebody has locked in the database, and their rows in the order in which they came.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Pending;
use crate::metrics::Waiting;
use crate::recordings::chain;
use crate::transcripts::StoreError;

/// One of the locked sessions is tried again this long after the last try. Each takes as long as a lock is waited for, and all
/// other rows wait meanwhile.
pub(super) const LOCKED_RETRY: Duration = Duration::from_secs(5);

/// What of a batch was found to be locked while the rest of it is written.
#[derive(Debug, Default)]
pub(super) struct Held {
    sessions: Vec<HeldSession>,
}

#[derive(Debug)]
struct HeldSession {
    session_id: String,
    rows: Vec<Pending>,
    error: StoreError,
}

impl Held {
    /// Keeps rows of one session, which is locked.
    pub fn hold(&mut self, rows: Vec<Pending>, error: StoreError) {
        if let Some(first) = rows.first() {
            self.sessions.push(HeldSession {
                session_id: first.entry.session_id().to_owned(),
                rows,
                error,
            });
        }
    }

    /// What the database said of one of them, if there is any.
    pub fn error(&self) -> Option<&StoreError> {
        self.sessions.first().map(|session| &session.error)
    }

    /// Keeps what belongs to sessions that are locked, and returns the rest.
    pub fn keep_theirs(&mut self, part: Vec<Pending>) -> Vec<Pending> {
        if self.sessions.is_empty() {
            return part;
        }
        let mut rest = Vec::new();
        for pending in part {
            let is_its = |session: &&mut HeldSession| session.session_id == pending.entry.session_id();
            match self.sessions.iter_mut().find(is_its) {
                Some(session) => session.rows.push(pending),
                None => rest.push(pending),
            }
        }
        rest
    }
}

/// Sessions that are locked. Their rows wait here and keep their places among all that may wait.
#[derive(Debug, Default)]
pub(super) struct LockedSessions {
    /// The one whose turn it is first.
    sessions: VecDeque<Locked>,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Locked {
    session_id: String,
    rows: VecDeque<Pending>,
    /// It shows in `archive_lag_seconds`.
    _waiting: Waiting,
}

impl LockedSessions {
    /// When one of them is to be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Where the next row of a session waits, when it is locked.
    pub fn rows_of(&mut self, session_id: &str) -> Option<&mut VecDeque<Pending>> {
        let locked = self.sessions.iter_mut().find(|locked| locked.session_id == session_id);
        locked.map(|locked| &mut locked.rows)
    }

    /// The oldest rows of the session whose turn it is, if it is anybody's.
    pub fn take_turn(&mut self, most: usize, now: Instant) -> Option<Vec<Pending>> {
        self.retry_at.filter(|at| *at <= now)?;
        // Others come before the next try, however this one goes.
        self.retry_at = Some(now + LOCKED_RETRY);
        Some(self.take_first(most))
    }

    /// The oldest rows of the session that has waited longest for its turn.
    pub fn take_first(&mut self, most: usize) -> Vec<Pending> {
        let Some(first) = self.sessions.front_mut() else {
            return Vec::new();
        };
        let count = first.rows.len().min(most);
        first.rows.drain(..count).collect()
    }

    /// Takes rows that were found to be locked, and those of their sessions that wait to be written. Their turn comes behind
    /// that of the sessions that waited before them.
    pub fn lock(&mut self, held: Held, waiting: &mut VecDeque<Pending>) {
        for HeldSession {
            session_id,
            rows,
            error,
        } in held.sessions
        {
            let known = self.sessions.iter().position(|locked| locked.session_id == session_id);
            let mut locked = known.and_then(|at| self.sessions.remove(at)).unwrap_or_else(|| {
                tracing::warn!(
                    session_id,
                    error = chain(&error),
                    "the rows of a session cannot be written, and those of others need not wait for them: look for who has \
                     locked it in the database; trying until it works"
                );
                let is_its = |pending: &Pending| pending.entry.session_id() == session_id;
                let (theirs, others) = waiting.drain(..).partition(is_its);
                *waiting = others;
                Locked {
                    session_id,
                    rows: theirs,
                    _waiting: Waiting::begin(),
                }
            });
            for pending in rows.into_iter().rev() {
                locked.rows.push_front(pending);
            }
            self.sessions.push_back(locked);
            self.retry_at = Some(Instant::now() + LOCKED_RETRY);
        }
    }

    /// The database has taken something of these sessions: their other rows go before what waits to be written. Who let go of
    /// one may have let go of all: the next has its turn at once.
    pub fn unlock(&mut self, part: &[Pending], waiting: &mut VecDeque<Pending>) {
        if self.sessions.is_empty() {
            return;
        }
        let written: HashSet<&str> = part.iter().map(|pending| pending.entry.session_id()).collect();
        let is_free = |locked: &Locked| written.contains(locked.session_id.as_str());
        let (free, locked): (VecDeque<_>, _) = self.sessions.drain(..).partition(is_free);
        self.sessions = locked;
        if free.is_empty() {
            return;
        }
        for pending in free.into_iter().flat_map(|free| free.rows).rev() {
            waiting.push_front(pending);
        }
        self.retry_at = (!self.sessions.is_empty()).then(Instant::now);
    }
}

/// Whether all rows belong to the same session.
pub(super) fn is_of_one_session(part: &[Pending]) -> bool {
    let mut ids = part.iter().map(|pending| pending.entry.session_id());
    let first = ids.next();
    ids.all(|id| Some(id) == first)
}

/// The rows of each session by themselves.
pub(super) fn by_session(part: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut sessions: Vec<Vec<Pending>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for pending in part {
        let next = sessions.len();
        let place = *places.entry(pending.entry.session_id().to_owned()).or_insert(next);
        match sessions.get_mut(place) {
            Some(session) => session.push(pending),
            None => sessions.push(vec![pending]),
        }
    }
    sessions
}
