//! A slot for somebody at the door: taken before a token is used up or a connection is made, so that who is let in has a
//! place, and a node that has none uses nothing up.

use std::sync::Arc;
use std::time::Duration;

use service_kit::config::MediaTransport;
use service_kit::trace::Parent;
use tokio::time::Instant;

use super::types::Refusal;
use super::{Calls, Entry, Phase, Shared, unix_ms};

/// Longest stay at the door: the session store is asked, other nodes perhaps, and a WebRTC connection looks for its
/// addresses, which all have shorter limits.
const AT_THE_DOOR: Duration = Duration::from_secs(20);

/// A slot that [`Calls::connect`] takes; given back when dropped before.
pub struct Held {
    shared: Arc<Shared>,
    /// `None` where there was a slot already: it is not this one's to give back.
    session_id: Option<Arc<str>>,
}

impl Calls {
    /// Keeps a slot for a session that is about to connect. What was reserved for it stays reserved, for as long as it
    /// takes to come in at least. A refusal is not counted: another node may take the session
    /// ([`count_refusal`](Self::count_refusal)).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn hold(&self, transport: MediaTransport, session_id: &str) -> Result<Held, Refusal> {
        let session_id: Arc<str> = session_id.into();
        let taken = self.shared.hold(transport, &session_id)?;
        Ok(Held {
            shared: Arc::clone(&self.shared),
            session_id: taken.then_some(session_id),
        })
    }
}

impl Shared {
    /// True when a slot was taken, false when there was one.
    fn hold(&self, transport: MediaTransport, session_id: &Arc<str>) -> Result<bool, Refusal> {
        let mut entries = self.current();
        let until = Instant::now() + AT_THE_DOOR;
        match entries.get_mut(session_id).map(|entry| &mut entry.phase) {
            Some(Phase::Connected { .. }) => return Err(Refusal::AlreadyConnected),
            // A reservation is for what was asked: it is no way around `media.transports`.
            Some(Phase::Reserved { expires, .. }) if self.transports.contains(&transport) => {
                *expires = until.max(*expires);
                return Ok(false);
            }
            Some(Phase::Reserved { .. }) | None => self.admit(transport, &entries)?,
        }
        let entry = Entry {
            transport,
            provider: String::new(),
            started_at_unix_ms: unix_ms(),
            media: None,
            trace: Parent::default(),
            phase: Phase::Reserved {
                since: Instant::now(),
                expires: until,
                reservation: None,
            },
        };
        entries.insert(Arc::clone(session_id), entry);
        self.count(&entries);
        self.reserved.notify_one();
        Ok(true)
    }
}

impl Drop for Held {
    /// What was reserved meanwhile, and what has connected, stays.
    fn drop(&mut self) {
        let Some(session_id) = &self.session_id else { return };
        let mut entries = self.shared.lock();
        let unused = entries
            .get(session_id)
            .is_some_and(|entry| matches!(entry.phase, Phase::Reserved { reservation: None, .. }));
        if unused {
            entries.remove(session_id);
            self.shared.count(&entries);
        }
    }
}
