//! The data channel `chat`: RTVI both ways, `ping: <ms>` once a second, and signalling about the connection itself.

use std::collections::VecDeque;
use std::time::Duration;

use media_core::conversation::Notice;
use media_core::wire::rtvi::{self, ClientMessageBody, Narrator, ServerMessage};
use serde::Deserialize;
use service_kit::tasks::{AbortOnDrop, TaskScope};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::peer::Chat;
use crate::call::CallerEvent;

/// Messages kept for a channel that is not open yet; when there are more, the oldest are lost.
const BEFORE_OPEN: usize = 50;
/// Messages that wait for a client to take them; when it is full, messages are lost, and a client that goes on like
/// this is given up.
const WAITING: usize = 256;
/// How often it is looked whether the last messages have left.
const FLUSH: Duration = Duration::from_millis(10);
/// Longest message that is read.
const LONGEST: usize = 64 * 1024;
/// Characters of a client's own words that are repeated in an answer to it.
const REPEATED_CHARS: usize = 64;

/// What a message means for the session.
#[derive(Debug)]
pub enum Meaning {
    /// For the call.
    Events(Vec<CallerEvent>),
    /// To be answered.
    Reply(String),
    /// The client leaves.
    Disconnect,
    /// A sign of life, nothing more.
    Alive,
    /// Nothing that is spoken here.
    Junk,
}

/// What a client says on the channel.
pub fn meaning(text: &str) -> Meaning {
    if text.starts_with("ping") {
        return Meaning::Alive;
    }
    if text.len() > LONGEST {
        return Meaning::Junk;
    }
    if is_signalling(text) {
        return Meaning::Alive;
    }
    let message = match rtvi::read(text) {
        Ok(message) => message,
        Err(error) => {
            let answer = ServerMessage::ErrorResponse {
                error: error.to_string(),
            };
            return Meaning::Reply(answer.to_json(error.id()));
        }
    };
    let refusal = |error: String| Meaning::Reply(ServerMessage::ErrorResponse { error }.to_json(Some(&message.id)));
    match message.body {
        ClientMessageBody::ClientReady { .. } => {
            let answer = ServerMessage::bot_ready("voxray", env!("CARGO_PKG_VERSION"));
            Meaning::Reply(answer.to_json(Some(&message.id)))
        }
        ClientMessageBody::DisconnectBot => Meaning::Disconnect,
        ClientMessageBody::SendText(text) => Meaning::Events(vec![CallerEvent::Text(text.content)]),
        ClientMessageBody::Dtmf(keys) => Meaning::Events(keys.into_iter().map(CallerEvent::Dtmf).collect()),
        ClientMessageBody::RawAudio { .. } => refusal("audio is taken from the audio track".to_owned()),
        ClientMessageBody::Custom { t, .. } => refusal(format!("this agent has no handler for `{}`", cut(&t))),
        ClientMessageBody::FunctionCallResult(_) => {
            refusal("this agent has no functions that a client runs".to_owned())
        }
        ClientMessageBody::Unknown { kind } => refusal(format!("unknown message type `{}`", cut(&kind))),
    }
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

/// The beginning of a text.
fn cut(text: &str) -> String {
    text.chars().take(REPEATED_CHARS).collect()
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
        let messages = self.narrator.messages(notice, &timestamp);
        messages
            .iter()
            .fold(true, |taken, message| self.send(message.to_json(None)) && taken)
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
    fn pings_and_signalling_are_signs_of_life_and_everything_else_is_rtvi() {
        assert!(matches!(meaning("ping: 1732300000000"), Meaning::Alive));
        let status = r#"{"type":"signalling","message":{"type":"trackStatus","receiver_index":1,"enabled":true}}"#;
        assert!(matches!(meaning(status), Meaning::Alive));
        let text = r#"{"label":"rtvi-ai","type":"send-text","id":"1","data":{"content":"Hi"}}"#;
        assert!(matches!(meaning(text), Meaning::Events(events) if events.len() == 1));
        assert!(matches!(
            meaning(r#"{"label":"rtvi-ai","type":"disconnect-bot","id":"2"}"#),
            Meaning::Disconnect
        ));
    }

    #[test]
    fn what_is_not_understood_is_answered_with_the_id_of_the_question() {
        let asked = r#"{"label":"rtvi-ai","type":"sing","id":"7","data":{}}"#;
        let Meaning::Reply(answer) = meaning(asked) else {
            panic!()
        };
        assert!(
            answer.contains("error-response") && answer.contains(r#""id":"7""#),
            "{answer}"
        );
        assert!(matches!(meaning("junk"), Meaning::Reply(answer) if answer.contains("error-response")));
        assert!(matches!(meaning(&"x".repeat(LONGEST + 1)), Meaning::Junk));
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
            meaning(&text);
        }
    }
}
