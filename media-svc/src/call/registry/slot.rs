//! The place of one connected session.

use std::sync::Arc;

use media_core::conversation::Notice;
use service_kit::config::MediaTransport;
use service_kit::trace::Parent;
use tokio::sync::watch;

use super::types::{MediaReport, Reservation, transport_name};
use super::{Phase, Shared};
use crate::call::phone::PhoneLine;
use crate::metrics::SESSIONS_ACTIVE;

/// A connected session's place on this node; free again when dropped.
pub struct Slot {
    shared: Arc<Shared>,
    session_id: Arc<str>,
    transport: MediaTransport,
    reservation: Option<Reservation>,
    trace: Parent,
}

impl Slot {
    pub(super) fn new(
        shared: Arc<Shared>,
        session_id: Arc<str>,
        transport: MediaTransport,
        reservation: Option<Reservation>,
        trace: Parent,
    ) -> Self {
        Self {
            shared,
            session_id,
            transport,
            reservation,
            trace,
        }
    }

    /// Session.
    pub fn session_id(&self) -> &Arc<str> {
        &self.session_id
    }

    /// What was said about the session before it connected; `None` when it came unannounced.
    pub fn reservation(&self) -> Option<&Reservation> {
        self.reservation.as_ref()
    }

    /// Where the session's trace began; empty when it came unannounced.
    pub fn trace(&self) -> &Parent {
        &self.trace
    }

    /// The session's trace began elsewhere.
    pub fn set_trace(&mut self, trace: Parent) {
        self.trace = trace;
    }

    /// Lets the node's control steer the phone call behind this session.
    pub fn attach(&self, phone: Arc<PhoneLine>) {
        if let Some(Phase::Connected { line, .. }) = self
            .shared
            .lock()
            .get_mut(&self.session_id)
            .map(|entry| &mut entry.phase)
        {
            *line = Some(phone);
        }
    }

    /// Lets the node's control see what the session's media is like.
    pub fn watch_media(&self, media: watch::Receiver<MediaReport>) {
        if let Some(entry) = self.shared.lock().get_mut(&self.session_id) {
            entry.media = Some(media);
        }
    }

    /// Tells observers.
    pub fn notify(&self, notice: Notice) {
        // No observer is no error.
        let _ = self.shared.notices.send((Arc::clone(&self.session_id), notice));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut entries = self.shared.lock();
        entries.remove(&self.session_id);
        self.shared.count(&entries);
        SESSIONS_ACTIVE
            .with_label_values(&[transport_name(self.transport)])
            .dec();
    }
}
