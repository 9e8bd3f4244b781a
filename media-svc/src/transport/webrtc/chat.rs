//! The data channel `chat`: RTVI both ways, `ping: <ms>` once a second, and signalling about the connection itself.

use std::collections::VecDeque;
use std::time::Duration;

use media_core::conversation::{EndReason, Notice};
use media_core::wire::rtvi::Narrator;
use serde::Deserialize;
use service_kit::tasks::{AbortOnDrop, TaskScope};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::peer::Chat;

/// Messages kept for a channel that is not open yet; when there are more, the oldest are lost.
const BEFORE_OPEN: usize = 50;
/// Messages that wait for a client to take them; when it is full, messages are lost, and a client that goes on like
/// this is given up.
const WAITING: usize = 256;
/// How often it is looked whether the last messages have left.
const FLUSH: Duration = Duration::from_millis(10);
/// Longest message that is read.
const LONGEST: usize = 64 * 1024;

/// Whether a message is about the connection, or a sign of life: nothing to do.
pub fn is_housekeeping(text: &str) -> bool {
    text.starts_with("ping") || is_signalling(text)
}

/// Whether a message is longer than any client's.
pub fn is_oversized(text: &str) -> bool {
    text.len() > LONGEST
}

/// `{"type":"signalling","message":{…}}`: which tracks a client has muted. Silence is heard without being told of it.
fn is_signalling(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        r#type: String,
        label: Option<String>,
    }
    serde_json::from_str::<Envelope>(text).is_ok_and(|read| read.label.is_none() && read.r#type == "signalling")
}

/// Says that the agent is gone.
pub fn peer_left() -> String {
    r#"{"type":"signalling","message":{"type":"peerLeft"}}"#.to_owned()
}

/// The way to the client, over one channel after the other.
#[derive(Default)]
pub struct Outbox {
    narrator: Narrator,
    before_open: VecDeque<String>,
    open: Option<Open>,
}

struct Open {
    messages: mpsc::Sender<String>,
    flushed: CancellationToken,
    _writer: AbortOnDrop,
}

impl Outbox {
    /// A channel is open: what has waited is sent.
    pub fn open(&mut self, chat: Chat, scope: &TaskScope) {
        let (messages, mut waiting) = mpsc::channel::<String>(WAITING);
        let flushed = CancellationToken::new();
        let flushing = flushed.clone().drop_guard();
        let _writer = scope.spawn_owned("webrtc chat", async move {
            while let Some(message) = waiting.recv().await {
                if !chat.send(message).await {
                    return;
                }
            }
            // The last ones have to leave before the connection is closed.
            while chat.waiting().await > 0 {
                tokio::time::sleep(FLUSH).await;
            }
            drop(flushing);
        });
        for message in self.before_open.drain(..) {
            // There is room: it is the first.
            let _ = messages.try_send(message);
        }
        self.open = Some(Open {
            messages,
            flushed,
            _writer,
        });
    }

    /// The channel is gone; another one may come.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Closes the channel's queue and waits until the client has all of it, or not for longer than this.
    pub async fn flush(&mut self, longest: Duration) {
        let Some(open) = self.open.take() else { return };
        drop(open.messages);
        // A client that takes nothing is not waited for.
        let _ = tokio::time::timeout(longest, open.flushed.cancelled()).await;
    }

    /// Tells what happens; false when the client does not take messages any more.
    pub fn narrate(&mut self, notice: Notice) -> bool {
        let timestamp = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let mut taken = true;
        for message in self.narrator.messages(notice, &timestamp) {
            taken &= self.send(message.to_json(None));
        }
        taken
    }

    /// Tells why it was the last, where that is a failure.
    pub fn end(&mut self, reason: &EndReason) {
        if let Some(message) = self.narrator.end(reason) {
            self.send(message.to_json(None));
        }
    }

    /// Sends a message, now or when the channel opens; false when the client does not take messages any more.
    pub fn send(&mut self, message: String) -> bool {
        let Some(open) = &self.open else {
            if self.before_open.len() == BEFORE_OPEN {
                self.before_open.pop_front();
            }
            self.before_open.push_back(message);
            return true;
        };
        // A writer that is gone has lost its channel: that is no refusal.
        !matches!(open.messages.try_send(message), Err(mpsc::error::TrySendError::Full(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pings_and_signalling_are_housekeeping_and_rtvi_is_not() {
        assert!(is_housekeeping("ping: 1732300000000"));
        let status = r#"{"type":"signalling","message":{"type":"trackStatus","receiver_index":1,"enabled":true}}"#;
        assert!(is_housekeeping(status));
        assert!(!is_housekeeping(
            r#"{"label":"rtvi-ai","type":"disconnect-bot","id":"2"}"#
        ));
        assert!(!is_housekeeping("junk"));
    }

    #[test]
    fn fifty_messages_wait_for_a_channel() {
        let mut outbox = Outbox::default();
        for number in 0..60 {
            assert!(outbox.send(number.to_string()));
        }
        assert_eq!(outbox.before_open.len(), BEFORE_OPEN);
        assert_eq!(outbox.before_open.front().map(String::as_str), Some("10"));
    }

    proptest! {
        #[test]
        fn no_message_upsets_it(text: String) {
            is_housekeeping(&text);
        }
    }
}
