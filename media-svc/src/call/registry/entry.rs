//! What is kept of one session.

use std::sync::Arc;

use media_core::conversation::Input;
use service_kit::config::MediaTransport;
use service_kit::trace::Parent;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::types::{CallState, Listed, MediaReport, Reservation};
use crate::call::phone::PhoneLine;

pub(super) struct Entry {
    pub(super) transport: MediaTransport,
    pub(super) provider: String,
    pub(super) started_at_unix_ms: u64,
    pub(super) media: Option<watch::Receiver<MediaReport>>,
    pub(super) trace: Parent,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    Reserved {
        since: Instant,
        expires: Instant,
        /// What was said about it; `None` while it is held for somebody at the door.
        reservation: Option<Reservation>,
    },
    Connected {
        input: mpsc::Sender<Input>,
        line: Option<Arc<PhoneLine>>,
        ending: bool,
    },
}

impl Entry {
    pub(super) fn expires(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Reserved { expires, .. } => Some(*expires),
            Phase::Connected { .. } => None,
        }
    }

    pub(super) fn listed(&self, session_id: &Arc<str>) -> Listed {
        Listed {
            session_id: Arc::clone(session_id),
            transport: self.transport,
            provider: self.provider.clone(),
            state: match self.phase {
                Phase::Reserved { .. } => CallState::Reserved,
                Phase::Connected { ending: false, .. } => CallState::Connected,
                Phase::Connected { ending: true, .. } => CallState::Ending,
            },
            started_at_unix_ms: self.started_at_unix_ms,
            media: self.media.as_ref().map(|media| *media.borrow()),
            stream_is_over: match &self.phase {
                Phase::Connected { line: Some(line), .. } => line.is_done_with_stream(),
                Phase::Connected { line: None, .. } | Phase::Reserved { .. } => false,
            },
        }
    }
}
