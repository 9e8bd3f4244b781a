//! What comes in on a client socket, by its dialect.

use super::json::JsonPeer;
use super::{Dialect, Heard, Message, Session};
use crate::wire::pipecat::{self, PipecatFrame};
use crate::wire::rtvi::RtviPeer;
use crate::wire::telephony::Frame;

/// Reads one client socket.
#[derive(Debug)]
pub enum Inbound {
    /// pipecat's frames.
    Protobuf(RtviPeer),
    /// RTVI as text.
    Rtvi(RtviPeer),
    /// Envelopes.
    Json(JsonPeer),
}

/// A message of a kind that the dialect does not have; the socket has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongKind {
    /// Text where bytes are spoken.
    #[error("expected binary messages: this socket speaks protobuf")]
    Text,
    /// Bytes where text is spoken.
    #[error("expected text messages: this socket speaks JSON; audio goes as base64, or use format=protobuf")]
    Binary,
}

impl Inbound {
    /// At the start of a socket.
    pub fn new(dialect: Dialect, session: Session) -> Self {
        match dialect {
            Dialect::Protobuf => Self::Protobuf(RtviPeer::new(session)),
            Dialect::Rtvi => Self::Rtvi(RtviPeer::new(session)),
            Dialect::Json => Self::Json(JsonPeer::new(session)),
        }
    }

    /// What one message means.
    ///
    /// # Errors
    /// [`WrongKind`]
    pub fn read(&mut self, frame: Frame<'_>) -> Result<Heard, WrongKind> {
        match (self, frame) {
            (Self::Protobuf(peer), Frame::Binary(bytes)) => Ok(read_protobuf(peer, bytes)),
            (Self::Rtvi(peer), Frame::Text(text)) => Ok(peer.hear(text).map(Message::Text)),
            (Self::Json(peer), Frame::Text(text)) => Ok(peer.hear(text).map(Message::Text)),
            (Self::Protobuf(_), Frame::Text(_)) => Err(WrongKind::Text),
            (Self::Rtvi(_) | Self::Json(_), Frame::Binary(_)) => Err(WrongKind::Binary),
        }
    }
}

fn read_protobuf(peer: &mut RtviPeer, bytes: &[u8]) -> Heard {
    match pipecat::read(bytes) {
        Ok(PipecatFrame::Audio {
            samples,
            sample_rate_hz,
        }) => match peer.audio(samples, sample_rate_hz) {
            Ok(wish) => Heard::wish(wish),
            Err(problem) => Heard::breach(problem.to_string()),
        },
        Ok(PipecatFrame::Message(json)) => peer
            .hear(&json)
            .map(|json| Message::Binary(pipecat::message_frame(json))),
        Ok(PipecatFrame::Text(text)) => Heard::wish(super::Wish::Type(text.into())),
        Ok(PipecatFrame::Interruption) => Heard::wish(super::Wish::Interrupt),
        // Recognition is ours; what a later version sends is not known yet.
        Ok(PipecatFrame::Transcription { .. } | PipecatFrame::Unknown) => Heard::nothing(),
        Err(error) => Heard::breach(error.to_string()),
    }
}
