//! The WebRTC sessions of this node, by session and by peer connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::sdp::Offer;
use super::{Answered, Refused};

/// What the control plane wants of a session.
pub enum Order {
    /// A further offer.
    Offer {
        /// The offer.
        offer: Box<Offer>,
        /// The peer connection it is about, or empty.
        pc_id: String,
        /// That one is to be replaced.
        restart: bool,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<Answered, Refused>>,
    },
    /// Candidates of a peer connection, translated.
    Candidates {
        /// Which one.
        pc_id: String,
        /// The candidates.
        candidates: Vec<String>,
        /// Where it is told that they were taken.
        done: oneshot::Sender<Result<(), Refused>>,
    },
}

/// All of them.
#[derive(Default)]
pub struct Sessions {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    sessions: HashMap<Arc<str>, mpsc::Sender<Order>>,
    peers: HashMap<Arc<str>, Arc<str>>,
}

impl Sessions {
    /// The way to a session.
    pub fn of_session(&self, session_id: &str) -> Option<mpsc::Sender<Order>> {
        self.lock().sessions.get(session_id).cloned()
    }

    /// The session of a peer connection, and the way to it.
    pub fn of_peer(&self, pc_id: &str) -> Option<(Arc<str>, mpsc::Sender<Order>)> {
        let table = self.lock();
        let session_id = table.peers.get(pc_id)?;
        Some((Arc::clone(session_id), table.sessions.get(session_id)?.clone()))
    }

    /// Lists a session until the entry is dropped.
    pub fn enter(self: &Arc<Self>, session_id: Arc<str>, pc_id: Arc<str>, orders: mpsc::Sender<Order>) -> Entry {
        let mut table = self.lock();
        table.sessions.insert(Arc::clone(&session_id), orders);
        table.peers.insert(Arc::clone(&pc_id), Arc::clone(&session_id));
        Entry {
            sessions: Arc::clone(self),
            session_id,
            pc_id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is listed.
pub struct Entry {
    sessions: Arc<Sessions>,
    session_id: Arc<str>,
    pc_id: Arc<str>,
}

impl Entry {
    /// Session.
    pub fn session_id(&self) -> &Arc<str> {
        &self.session_id
    }

    /// From now on the session's peer connection has this name.
    pub fn rename_peer(&mut self, pc_id: Arc<str>) {
        let mut table = self.sessions.lock();
        table.peers.remove(&self.pc_id);
        table.peers.insert(Arc::clone(&pc_id), Arc::clone(&self.session_id));
        self.pc_id = pc_id;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        table.sessions.remove(&self.session_id);
        table.peers.remove(&self.pc_id);
    }
}
