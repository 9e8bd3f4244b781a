//! Shared by a phone call and its stream: that the caller is being put through to somebody else.
//!
//! Providers end our stream for that, and open it again, by the same URL, when nobody takes the caller. So whoever ends
//! the stream meanwhile ends no call, and a new socket needs no cut to be let in.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// Until when a caller may come back. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Away(Arc<watch::Sender<Option<Instant>>>);

impl Away {
    /// The caller is being put through, and may come back until then.
    pub fn begin(&self, until: Instant) {
        self.0.send_replace(Some(until));
    }

    /// The caller is not expected later than this any more; one who is not away stays so.
    pub fn shorten(&self, until: Instant) {
        self.0.send_if_modified(|known| match known {
            Some(later) if *later > until => {
                *known = Some(until);
                true
            }
            Some(_) | None => false,
        });
    }

    /// The caller is back, or has never left.
    pub fn end(&self) {
        self.0.send_replace(None);
    }

    /// Until when the caller may come back; `None` when they are not away.
    pub fn until(&self) -> Option<Instant> {
        self.0.borrow().filter(|until| *until > Instant::now())
    }

    /// Whether the caller is somewhere else and may come back.
    pub fn is_on(&self) -> bool {
        self.until().is_some()
    }

    /// Tells when any of that changes.
    pub fn changes(&self) -> watch::Receiver<Option<Instant>> {
        self.0.subscribe()
    }
}

/// What it takes to bring a caller back to the same call.
#[derive(Debug, Clone)]
pub struct WayBack {
    /// Session.
    pub session_id: Arc<str>,
    /// Of the call's stream: it is let in again while the caller is away.
    pub token: String,
    /// Whether they are.
    pub away: Away,
}
