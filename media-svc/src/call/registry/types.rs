//! What goes into the registry of calls and comes out of it.

use std::sync::Arc;
use std::time::Duration;

use service_kit::config::MediaTransport;
use tokio::time::Instant;

/// A slot kept for a session that is about to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Session.
    pub session_id: Arc<str>,
    /// How it will connect.
    pub transport: MediaTransport,
    /// Telephony provider, or empty.
    pub provider: String,
    /// Provider's call id when it is known, else empty.
    pub call_id: String,
    /// JSON body given at the start, or empty.
    pub body_json: String,
    /// How long to wait for it.
    pub ttl: Duration,
}

/// A session that connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Session.
    pub session_id: Arc<str>,
    /// How it connected.
    pub transport: MediaTransport,
    /// Telephony provider, or empty.
    pub provider: String,
}

/// Why a session is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// All slots are taken.
    #[error("this media node is full ({capacity} sessions)")]
    Full {
        /// Its capacity.
        capacity: usize,
    },
    /// The node takes no new sessions.
    #[error("this media node is draining: place the session on another one")]
    Draining,
    /// `media.transports` does not have it.
    #[error("this node serves no {}", transport_name(*.0))]
    TransportNotServed(MediaTransport),
    /// There is a live call of this session.
    #[error("the session is connected already")]
    AlreadyConnected,
}

impl Refusal {
    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Draining => "draining",
            Self::TransportNotServed(_) => "transport_not_served",
            Self::AlreadyConnected => "already_connected",
        }
    }
}

/// Why a session was not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndError {
    /// Unknown here.
    #[error("no such session on this media node")]
    NotFound,
    /// Its task does not take orders.
    #[error("the call did not take the order to end within 2 s")]
    Stuck,
}

/// Why a session cannot be steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// Unknown here.
    #[error("no such session on this media node")]
    NotFound,
    /// It is a browser's.
    #[error("there is no telephone at the other end of this session")]
    NoPhone,
    /// Its media stream is still to come.
    #[error("the phone call has not begun yet")]
    NotBegun,
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallState {
    /// Nobody has connected yet.
    Reserved,
    /// Media flows.
    Connected,
    /// Told to end.
    Ending,
}

/// What a session's media has been like lately, as `RTCPeerConnection.getStats()` tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MediaReport {
    /// Round trip time in milliseconds; 0 until it was measured.
    pub rtt_ms: f64,
    /// Interarrival jitter of the caller's audio, in milliseconds (RFC 3550).
    pub jitter_ms: f64,
    /// Part of the caller's audio that did not come in time, in percent of the session.
    pub loss_percent: f64,
    /// How long the jitter buffer waits for a missing packet, in milliseconds.
    pub jitter_buffer_ms: f64,
}

/// A session as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Session.
    pub session_id: Arc<str>,
    /// Transport.
    pub transport: MediaTransport,
    /// Telephony provider, or empty.
    pub provider: String,
    /// State.
    pub state: CallState,
    /// When it was reserved or connected.
    pub started_at_unix_ms: u64,
    /// What its media is like, where that is measured.
    pub media: Option<MediaReport>,
    /// Nobody waits for the stream of this phone call any more.
    pub stream_is_over: bool,
}

/// How busy the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLoad {
    /// Calls and reservations.
    pub sessions: usize,
    /// Most of them.
    pub capacity: usize,
    /// Since when the node takes no new sessions.
    pub draining_since: Option<Instant>,
}

impl NodeLoad {
    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.sessions >= self.capacity
    }

    /// Whether the node takes no new sessions.
    pub fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }
}

/// The word for a transport in metrics, records and messages.
pub fn transport_name(transport: MediaTransport) -> &'static str {
    match transport {
        MediaTransport::Telephony => "telephony",
        MediaTransport::WebSocket => "websocket",
        MediaTransport::WebRtc => "webrtc",
    }
}
