//! Nodes: their sessions outlive their streams, so that a reconnect goes on where it was.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::apply::Stopped;
use super::entry::Recorded;
use super::ledger::Ledger;
use super::max_age::{Age, MaxAge};
use super::rows::Rows;
use super::session::Session;
use crate::metrics::KindCounts;

/// How often a node is asked to send a session again because what arrived of it was no good. Its stream ends each time.
const MAX_BEGUN_AGAIN: u32 = 3;

/// A node that lives has connected again within this, here or elsewhere: it waits 2 s at most between two tries.
const RECONNECT: Duration = Duration::from_secs(5);

/// When this archiver began to drain, once it has: whoever looks first says so.
#[derive(Debug, Clone, Default)]
struct Drained(Arc<OnceLock<Instant>>);

impl Drained {
    fn at(&self) -> Instant {
        *self.0.get_or_init(Instant::now)
    }
}

/// Sessions that ended lately and are durable, kept to answer what is sent again. About 100 bytes each.
const MAX_FINISHED: usize = 16_384;

/// One media node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// Its open sessions; held by the stream that is in charge.
    pub sessions: tokio::sync::Mutex<HashMap<String, Session>>,
    /// What it is still to be told.
    pub acks: Acks,
    /// Its transcript rows on their way to SQL.
    pub rows: Rows,
    /// How far its sessions are durable.
    ledgers: Mutex<HashMap<String, Ledger>>,
    finished: Arc<FinishedSessions>,
    drained: Drained,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Streams that the node has open.
    streams: usize,
    /// Streams of which something is applied or held back, also when the node does not have them any more.
    readers: usize,
    /// When the last stream ended for the node.
    idle_since: Instant,
    /// Ends the stream in charge.
    current: Ends,
    /// What became of sessions since the stream in charge last looked.
    fates: Vec<(String, Fate)>,
    /// How often sessions have begun again.
    begun_again: HashMap<String, u32>,
}

/// What became of a session beside the stream that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of it is stored.
    Stored,
    /// What is here of it is no good: what is not durable is sent again.
    BeginsAgain,
    /// It cannot be stored, and stays with its node.
    Refused,
}

/// Why a stream is to end.
#[derive(Debug, Clone, Default)]
struct Ends {
    taken_over: CancellationToken,
    send_again: CancellationToken,
}

/// A stream's hold on its node.
#[derive(Debug)]
pub struct Attachment {
    /// The node.
    pub node: Arc<Node>,
    ends: Ends,
    age: Age,
    /// Nothing was known of this node.
    pub is_new: bool,
    is_over: AtomicBool,
}

impl Attachment {
    /// Resolves when the stream is to end.
    pub async fn ends(&self) -> Stopped {
        tokio::select! {
            biased;
            () = self.ends.taken_over.cancelled() => Stopped::TakenOver,
            () = self.ends.send_again.cancelled() => Stopped::SendAgain,
            () = self.age.is_old() => Stopped::Old,
        }
    }

    /// The stream is over for the node, whatever of it is still held back here.
    pub fn disconnected(&self) {
        if self.is_over.swap(true, Ordering::AcqRel) {
            return;
        }
        {
            let mut inner = self.node.lock();
            inner.streams = inner.streams.saturating_sub(1);
            inner.idle_since = Instant::now();
        }
        tracing::info!(node_id = self.node.id, "archive stream closed");
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.disconnected();
        let mut inner = self.node.lock();
        inner.readers = inner.readers.saturating_sub(1);
    }
}

impl Node {
    fn new(id: &str, finished: Arc<FinishedSessions>, drained: Drained) -> Self {
        Self {
            id: id.to_owned(),
            sessions: tokio::sync::Mutex::default(),
            acks: Acks::default(),
            rows: Rows::default(),
            ledgers: Mutex::default(),
            finished,
            drained,
            inner: Mutex::new(Inner {
                streams: 0,
                readers: 0,
                idle_since: Instant::now(),
                current: Ends::default(),
                fates: Vec::new(),
                begun_again: HashMap::new(),
            }),
        }
    }

    /// Whether it had no stream for [`RECONNECT`] when this archiver began to drain: what it sent may be nowhere else. To be
    /// asked while draining, not before.
    pub fn is_gone(&self) -> bool {
        let drained = self.drained.at();
        let inner = self.lock();
        inner.streams == 0 && drained.saturating_duration_since(inner.idle_since) >= RECONNECT
    }

    /// What became of sessions since the last call.
    pub fn take_fates(&self) -> Vec<(String, Fate)> {
        std::mem::take(&mut self.lock().fates)
    }

    /// Forgets a session of which something is no good here, and ends the stream: the node sends again what is not
    /// durable of it. `false`: that has not helped before, and the session is refused.
    pub fn begin_again(&self, session_id: &str) -> bool {
        self.drop_ledger(session_id);
        let mut inner = self.lock();
        let times = inner.begun_again.entry(session_id.to_owned()).or_default();
        *times += 1;
        let again = *times <= MAX_BEGUN_AGAIN;
        let fate = if again { Fate::BeginsAgain } else { Fate::Refused };
        inner.fates.push((session_id.to_owned(), fate));
        if again {
            inner.current.send_again.cancel();
        }
        again
    }

    /// Nothing more of a session is acknowledged: it cannot be stored.
    pub fn refuse(&self, session_id: &str) {
        self.drop_ledger(session_id);
        self.lock().fates.push((session_id.to_owned(), Fate::Refused));
    }

    /// A session begins here with this much of it durable.
    pub fn open_ledger(&self, session_id: &str, ledger: Ledger) {
        self.lock_ledgers().insert(session_id.to_owned(), ledger);
    }

    /// A session is forgotten: nothing more is said of it.
    pub fn drop_ledger(&self, session_id: &str) {
        self.lock_ledgers().remove(session_id);
    }

    /// Notes something about a session, and tells the node what became durable by it.
    pub fn settle(&self, session_id: &str, note: impl FnOnce(&mut Ledger)) {
        let mut ledgers = self.lock_ledgers();
        let Some(ledger) = ledgers.get_mut(session_id) else {
            return;
        };
        note(ledger);
        if let Some((durable, counts)) = ledger.settle() {
            counts.are_durable();
            self.acks.durable(session_id, durable);
        }
        if let Some(last) = ledger.finished() {
            tracing::info!(
                session_id,
                node_id = self.id,
                trace_id = ledger.trace_id(),
                "session archived"
            );
            ledgers.remove(session_id);
            self.finished.insert(session_id, last);
            let mut inner = self.lock();
            inner.begun_again.remove(session_id);
            inner.fates.push((session_id.to_owned(), Fate::Stored));
        }
    }

    fn lock_ledgers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Ledger>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All nodes that have streams, or had one a short while ago.
#[derive(Debug)]
pub struct Nodes {
    nodes: Mutex<HashMap<String, Arc<Node>>>,
    /// How long a node may be without a stream before it counts as dead.
    dead_after: Duration,
    max_age: MaxAge,
    finished: Arc<FinishedSessions>,
    drained: Drained,
}

impl Nodes {
    /// None yet.
    pub fn new(dead_after: Duration, finished: Arc<FinishedSessions>) -> Self {
        Self {
            nodes: Mutex::default(),
            dead_after,
            max_age: MaxAge::new(dead_after),
            finished,
            drained: Drained::default(),
        }
    }

    /// A stream of this node begins: it takes over from an earlier one.
    pub fn attach(&self, node_id: &str) -> Attachment {
        let mut nodes = self.lock();
        let is_new = !nodes.contains_key(node_id);
        let node = Arc::clone(
            nodes
                .entry(node_id.to_owned())
                .or_insert_with(|| Arc::new(Node::new(node_id, Arc::clone(&self.finished), self.drained.clone()))),
        );
        let ends = Ends::default();
        {
            let mut inner = node.lock();
            inner.streams += 1;
            inner.readers += 1;
            std::mem::replace(&mut inner.current, ends.clone()).taken_over.cancel();
        }
        Attachment {
            node,
            ends,
            age: self.max_age.begin(),
            is_new,
            is_over: AtomicBool::new(false),
        }
    }

    /// No stream will bring rows any more: the writers end when they have written what there is.
    pub fn close_rows(&self) {
        for node in self.lock().values() {
            node.rows.close();
        }
    }

    /// Forgets and returns the nodes that are dead, when all that had arrived from them is applied.
    pub fn take_dead(&self) -> Vec<Arc<Node>> {
        self.take(|node| {
            let inner = node.lock();
            inner.readers == 0 && inner.idle_since.elapsed() >= self.dead_after
        })
    }

    /// This archiver begins to drain, if nobody has said so.
    pub fn note_drain(&self) {
        self.drained.at();
    }

    /// Forgets and returns the nodes that are [gone](Node::is_gone). To be asked while draining, not before.
    pub fn take_gone(&self) -> Vec<Arc<Node>> {
        self.take(Node::is_gone)
    }

    fn take(&self, is_gone: impl Fn(&Node) -> bool) -> Vec<Arc<Node>> {
        let mut nodes = self.lock();
        let dead: Vec<_> = nodes.values().filter(|node| is_gone(node)).cloned().collect();
        for node in &dead {
            nodes.remove(&node.id);
        }
        dead
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions that are durable to their end, and the sequence of their last event.
#[derive(Debug, Default)]
pub struct FinishedSessions {
    inner: Mutex<Finished>,
}

#[derive(Debug, Default)]
struct Finished {
    last: HashMap<String, u64>,
    oldest_first: VecDeque<String>,
}

impl FinishedSessions {
    /// Sequence of the last event, when the session is finished.
    pub fn last(&self, session_id: &str) -> Option<u64> {
        self.lock().last.get(session_id).copied()
    }

    /// Remembers a finished session.
    pub fn insert(&self, session_id: &str, last: u64) {
        let mut inner = self.lock();
        if inner.last.insert(session_id.to_owned(), last).is_none() {
            inner.oldest_first.push_back(session_id.to_owned());
        }
        if inner.oldest_first.len() > MAX_FINISHED
            && let Some(oldest) = inner.oldest_first.pop_front()
        {
            inner.last.remove(&oldest);
        }
    }

    /// A finished session goes on, with an event in which there is nothing to store.
    pub fn extend(&self, session_id: &str, last: u64) {
        if let Some(known) = self.lock().last.get_mut(session_id) {
            *known = last.max(*known);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Finished> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a node how far the recording of a session is stored.
#[derive(Debug)]
pub struct Delivery {
    /// Who is told.
    pub node: Arc<Node>,
    /// The session.
    pub session_id: String,
    /// The trace of its call, for log lines.
    pub trace_id: Option<String>,
}

impl Delivery {
    /// For a session of this node.
    pub fn new(node: &Arc<Node>, session_id: String) -> Self {
        let ledgers = node.lock_ledgers();
        let trace_id = ledgers.get(&session_id).and_then(Ledger::trace_id);
        Self {
            node: Arc::clone(node),
            session_id,
            trace_id,
        }
    }

    /// The audio of all events up to this one is stored.
    pub fn audio_stored(&self, sequence: u64, counts: KindCounts) {
        self.node.settle(&self.session_id, |ledger| {
            ledger.count(counts);
            ledger.audio_stored(sequence);
        });
    }

    /// Whether the node may be gone for good, so that nobody sends again what is not stored here. To be asked while
    /// draining, not before.
    pub fn is_to_nobody(&self) -> bool {
        self.node.is_gone()
    }

    /// What is here of the recording is no good. `false`: sending it again has not helped before.
    pub fn begin_again(&self) -> bool {
        self.node.begin_again(&self.session_id)
    }

    /// The recording cannot be stored.
    pub fn refuse(&self) {
        self.node.refuse(&self.session_id);
    }

    /// Leaves it to the rows of the node to note that all of it is stored, up to this event; with the note it is durable, and
    /// the node is told. `false`: no rows of this node are written any more.
    pub fn note(&self, last: u64, recorded: Recorded) -> bool {
        self.node.rows.push_note(last, recorded)
    }

    /// All of it is stored and noted.
    pub fn recording_stored(&self, counts: KindCounts) {
        self.node.settle(&self.session_id, |ledger| {
            ledger.count(counts);
            ledger.ended();
        });
    }
}

#[cfg(test)]
mod tests;
