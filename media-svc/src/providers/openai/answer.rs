//! An answer as it arrives: every wait for a piece has an end, and so has the answer.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt, stream};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use super::error::OpenAiError;

/// Longest answer read, bytes: two minutes of speech at 24 kHz; text is far shorter.
const LONGEST_ANSWER: usize = 6 * 1024 * 1024;

/// Longest line of server-sent events, bytes: one piece of text each, so this is no event.
const LONGEST_LINE: usize = 256 * 1024;

/// The data of server-sent events.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<String, OpenAiError>> + Send>>;

/// A successful answer whose head has arrived.
pub(super) struct Answer {
    response: Response,
    patience: Duration,
    received: usize,
}

impl Answer {
    /// `patience` is the longest wait between two pieces.
    pub(super) fn new(response: Response, patience: Duration) -> Self {
        Self {
            response,
            patience,
            received: 0,
        }
    }

    /// The media type without its parameters, lower case; empty when there is none.
    pub(super) fn content_type(&self) -> String {
        let value = self.response.headers().get(CONTENT_TYPE);
        let value = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// More of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, OpenAiError> {
        let piece = tokio::time::timeout(self.patience, self.response.chunk())
            .await
            .map_err(|_| OpenAiError::TimedOut(self.patience))?
            .map_err(|error| OpenAiError::BrokenOff(error.without_url()))?;
        self.received += piece.as_ref().map_or(0, Bytes::len);
        if self.received > LONGEST_ANSWER {
            return Err(OpenAiError::Malformed(format!("more than {LONGEST_ANSWER} bytes")));
        }
        Ok(piece)
    }

    /// The whole body.
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, OpenAiError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// The body as server-sent events. An error is the last item.
    pub(super) fn events(self) -> Events {
        let pieces = stream::unfold((self, 0), |(mut answer, mut line)| async move {
            let piece = answer.piece().await.transpose()?;
            let piece = piece.and_then(|piece| {
                // A line is put together in memory until it ends.
                line = match piece.iter().rposition(|&byte| byte == b'\n') {
                    Some(end) => piece.len() - end,
                    None => line + piece.len(),
                };
                let too_long = || OpenAiError::Malformed(format!("a line of more than {LONGEST_LINE} bytes"));
                (line <= LONGEST_LINE).then_some(piece).ok_or_else(too_long)
            });
            Some((piece, (answer, line)))
        });
        Box::pin(Box::pin(pieces).eventsource().map(|event| match event {
            Ok(event) => Ok(event.data),
            Err(EventStreamError::Transport(error)) => Err(error),
            Err(EventStreamError::Utf8(_)) => Err(OpenAiError::Malformed("text that is not UTF-8".to_owned())),
            Err(EventStreamError::Parser(_)) => Err(OpenAiError::Malformed("no server-sent events".to_owned())),
        }))
    }
}
