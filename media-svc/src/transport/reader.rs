//! The reading half of a socket: limits, silence, and what ends it.

use std::time::Duration;

use axum::extract::ws::{Message, WebSocketUpgrade};
use futures_util::{Stream, StreamExt};
use media_core::conversation::EndReason;
use service_kit::config::Pipeline;
use tokio::time::Instant;

use super::writer::Closing;

/// Largest message accepted from a client or provider, in bytes; a larger one closes the socket (1009).
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Kept small on purpose: most of a socket's memory would otherwise be empty buffer.
pub const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Collected before it is written, where writes are batched; a batch that is larger is written in pieces.
const WRITE_BUFFER_BYTES: usize = 32 * 1024;

/// Applies the limits that every media socket has.
pub fn limited(upgrade: WebSocketUpgrade, pipeline: Pipeline) -> WebSocketUpgrade {
    let batched = pipeline.ws_write_coalesce_ms > 0;
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(if batched { WRITE_BUFFER_BYTES } else { 0 })
}

/// What came in.
#[derive(Debug)]
pub enum Received {
    /// A text message.
    Text(axum::extract::ws::Utf8Bytes),
    /// A binary message.
    Binary(bytes::Bytes),
    /// The far end closed, with this code.
    Gone(Option<u16>),
    /// The connection broke without a word.
    Cut,
    /// The socket has to be closed from here.
    Refuse(Closing),
}

/// What is read from a socket.
pub trait Messages: Stream<Item = Result<Message, axum::Error>> + Unpin {}

impl<S: Stream<Item = Result<Message, axum::Error>> + Unpin> Messages for S {}

/// The next message; nothing at all for `silence` refuses the socket. Pings and pongs count as a sign of life.
pub async fn next(socket: &mut impl Messages, silence: Option<Duration>) -> Received {
    loop {
        let message = match silence {
            Some(silence) => match tokio::time::timeout(silence, socket.next()).await {
                Ok(message) => message,
                Err(_) => {
                    let reason = format!("nothing was received for {} s", silence.as_secs_f64());
                    return Received::Refuse(Closing::new(Closing::POLICY, reason));
                }
            },
            None => socket.next().await,
        };
        match message {
            Some(Ok(Message::Text(text))) => return Received::Text(text),
            Some(Ok(Message::Binary(bytes))) => return Received::Binary(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => return Received::Gone(frame.map(|frame| frame.code)),
            None => return Received::Cut,
            Some(Err(error)) => return broken(&error),
        }
    }
}

/// Why a call ends whose far end takes nothing any more.
pub fn not_read() -> EndReason {
    EndReason::TransportFailed("the far end has stopped reading".to_owned())
}

/// After the close frame: reads on, so that the far end's own is taken and none of its data is left unread when the
/// connection goes (which would reset it, and our close frame might never be seen). Until then at most.
pub async fn linger(socket: &mut impl Messages, broken: bool, until: Instant) {
    let drained = async {
        while let Some(Ok(_)) = socket.next().await {}
        if broken {
            // Nothing can be read any more; the far end is left the time to read.
            std::future::pending::<()>().await;
        }
    };
    // Whoever does not close is closed.
    let _ = tokio::time::timeout_at(until, drained).await;
}

/// What a failed read means.
pub fn broken(error: &axum::Error) -> Received {
    use tokio_tungstenite::tungstenite::Error;
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match source {
        Some(Error::Capacity(_)) => {
            let reason = format!("a message is larger than {MAX_MESSAGE_BYTES} bytes");
            Received::Refuse(Closing::new(Closing::TOO_BIG, reason))
        }
        Some(Error::Utf8(_)) => Received::Refuse(Closing::new(Closing::INVALID_DATA, "text that is not UTF-8")),
        Some(Error::Protocol(problem)) if !is_reset(problem) => {
            Received::Refuse(Closing::new(Closing::PROTOCOL_ERROR, problem.to_string()))
        }
        // Everything else is a connection that is no longer there.
        Some(_) | None => Received::Cut,
    }
}

fn is_reset(problem: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    matches!(problem, ProtocolError::ResetWithoutClosingHandshake)
}
