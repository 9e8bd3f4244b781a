//! Streams that may come back after a network cut.
//!
//! A stream is remembered by the token it was opened with, which is the only thing a provider that connects again has:
//! it uses the same URL. While the first socket lives, that token stays used up. Once the socket is cut, or nothing has
//! come on it for [`STALLED`], the same token on the same node brings the same call back, whatever its expiry; on
//! another node it is refused like any used token, because the call is not there. The same holds while the caller is
//! being put through to somebody else ([`Away`]): a provider whose transfer nobody takes opens the stream again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::line::Connection;
use crate::call::Away;

/// A socket on which not one of a hundred expected frames has come is as good as cut.
pub const STALLED: Duration = Duration::from_secs(2);

/// All streams of this node that have begun.
#[derive(Default)]
pub struct HeldStreams {
    streams: Mutex<HashMap<[u8; 32], Arc<Stream>>>,
}

/// One stream, as seen from its present socket and from one that wants to replace it.
pub struct Stream {
    /// Session.
    pub session_id: Arc<str>,
    /// The provider's call id that a new socket must carry.
    pub call_id: String,
    returns: mpsc::Sender<Connection>,
    away: Away,
    opened: Instant,
    heard_ms: AtomicU64,
    is_cut: AtomicBool,
    is_returning: AtomicBool,
}

impl Stream {
    /// Something was received.
    pub fn heard(&self) {
        self.heard_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// The socket is gone, or there is one again.
    pub fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
        self.heard();
    }

    /// Whether a new socket is there that has not said yet whose stream it is.
    pub fn is_returning(&self) -> bool {
        self.is_returning.load(Ordering::Relaxed)
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn may_be_replaced(&self) -> bool {
        let silent = self.age_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        self.is_cut.load(Ordering::Relaxed) || self.away.is_on() || u128::from(silent) >= STALLED.as_millis()
    }
}

/// A stream that is remembered until this is dropped.
pub struct Remembered<'a> {
    held: &'a HeldStreams,
    key: Option<[u8; 32]>,
    /// The stream.
    pub stream: Arc<Stream>,
    /// Sockets with which it comes back.
    pub returns: mpsc::Receiver<Connection>,
}

impl Drop for Remembered<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.held.lock().remove(key);
        }
    }
}

/// The right to bring a stream back; given up when dropped.
pub struct Return {
    /// The stream.
    pub stream: Arc<Stream>,
}

impl Return {
    /// Hands the new socket over, or gives it back when the call has ended meanwhile.
    pub async fn connect(self, connection: Connection) -> Result<(), Box<Connection>> {
        let sent = self.stream.returns.send(connection).await;
        sent.map_err(|error| Box::new(error.0))
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        self.stream.is_returning.store(false, Ordering::Relaxed);
    }
}

impl HeldStreams {
    /// Remembers a stream that has begun; without a token it cannot come back.
    pub fn remember(&self, token: Option<&str>, session_id: Arc<str>, call_id: String, away: Away) -> Remembered<'_> {
        // One at a time: whoever comes while another one waits is refused before its upgrade.
        let (sender, returns) = mpsc::channel(1);
        let stream = Arc::new(Stream {
            session_id,
            call_id,
            returns: sender,
            away,
            opened: Instant::now(),
            heard_ms: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            is_returning: AtomicBool::new(false),
        });
        let key = token.map(key);
        if let Some(key) = key {
            self.lock().insert(key, Arc::clone(&stream));
        }
        Remembered {
            held: self,
            key,
            stream,
            returns,
        }
    }

    /// The stream of this token, if it may be brought back now.
    pub fn reclaim(&self, token: &str) -> Option<Return> {
        let stream = self.lock().get(&key(token)).cloned()?;
        let free = stream.may_be_replaced() && !stream.is_returning.swap(true, Ordering::Relaxed);
        free.then_some(Return { stream })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Stream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tokens are kept as their hash: looking one up tells nothing about the others.
fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
