//! Nodes: their sessions outlive their streams, so that a reconnect goes on where it was.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::session::Session;
use crate::metrics::KindCounts;

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
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    streams: usize,
    /// When the last stream ended.
    idle_since: Instant,
    /// Ends the stream in charge.
    current: CancellationToken,
    /// Sessions whose recording was stored since the stream in charge last looked.
    stored: Vec<String>,
}

/// A stream's hold on its node.
#[derive(Debug)]
pub struct Attachment {
    /// The node.
    pub node: Arc<Node>,
    /// Cancelled when another stream of this node takes over.
    pub taken_over: CancellationToken,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut inner = self.node.lock();
        inner.streams = inner.streams.saturating_sub(1);
        inner.idle_since = Instant::now();
    }
}

impl Node {
    fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            sessions: tokio::sync::Mutex::default(),
            acks: Acks::default(),
            inner: Mutex::new(Inner {
                streams: 0,
                idle_since: Instant::now(),
                current: CancellationToken::new(),
                stored: Vec::new(),
            }),
        }
    }

    /// Sessions stored since the last call.
    pub fn take_stored(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().stored)
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
}

impl Nodes {
    /// None yet.
    pub fn new(dead_after: Duration) -> Self {
        Self {
            nodes: Mutex::default(),
            dead_after,
        }
    }

    /// A stream of this node begins: it takes over from an earlier one.
    pub fn attach(&self, node_id: &str) -> Attachment {
        let mut nodes = self.lock();
        let node = Arc::clone(
            nodes
                .entry(node_id.to_owned())
                .or_insert_with(|| Arc::new(Node::new(node_id))),
        );
        let taken_over = CancellationToken::new();
        {
            let mut inner = node.lock();
            inner.streams += 1;
            std::mem::replace(&mut inner.current, taken_over.clone()).cancel();
        }
        Attachment { node, taken_over }
    }

    /// Forgets and returns the nodes that are dead.
    pub fn take_dead(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.lock();
        let dead: Vec<_> = nodes
            .values()
            .filter(|node| {
                let inner = node.lock();
                inner.streams == 0 && inner.idle_since.elapsed() >= self.dead_after
            })
            .cloned()
            .collect();
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
    /// Last sequence of sessions that went on behind their end while their recording was being stored.
    trailing: HashMap<String, u64>,
}

impl FinishedSessions {
    /// Sequence of the last event, when the session is finished.
    pub fn last(&self, session_id: &str) -> Option<u64> {
        self.lock().last.get(session_id).copied()
    }

    /// Remembers a finished session, and returns its last sequence: this one, or a later one it was extended to.
    pub fn insert(&self, session_id: &str, last: u64) -> u64 {
        let mut inner = self.lock();
        let last = inner.trailing.remove(session_id).map_or(last, |later| later.max(last));
        if inner.last.insert(session_id.to_owned(), last).is_none() {
            inner.oldest_first.push_back(session_id.to_owned());
        }
        if inner.oldest_first.len() > MAX_FINISHED
            && let Some(oldest) = inner.oldest_first.pop_front()
        {
            inner.last.remove(&oldest);
        }
        last
    }

    /// An ended session goes on, with events in which there is nothing to store. `true`: it is finished, and durable
    /// to there at once; `false`: it will be when it is finished.
    pub fn extend(&self, session_id: &str, last: u64) -> bool {
        let mut inner = self.lock();
        if let Some(known) = inner.last.get_mut(session_id) {
            *known = last.max(*known);
            return true;
        }
        inner.trailing.insert(session_id.to_owned(), last);
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Finished> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a node that a session is durable to its end.
#[derive(Debug)]
pub struct Delivery {
    /// Who is told.
    pub node: Arc<Node>,
    /// The session.
    pub session_id: String,
    /// Sequence of its end.
    pub last: u64,
    /// Events that become durable with it.
    pub counts: KindCounts,
    /// Where the session is remembered.
    pub finished: Arc<FinishedSessions>,
}

impl Delivery {
    /// It is durable now.
    pub fn confirm(self) {
        self.counts.are_durable();
        let last = self.finished.insert(&self.session_id, self.last);
        self.node.acks.durable(&self.session_id, last);
        self.node.lock().stored.push(self.session_id);
    }
}
