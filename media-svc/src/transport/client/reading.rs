//! The way in: reads the socket, answers what can be answered at once, and hands on what the call is to know.

use std::time::Duration;

use media_core::conversation::EndReason;
use media_core::wire::client::{Heard, Inbound, Message, Wish};
use media_core::wire::telephony::Frame;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::TRANSPORT;
use crate::call::{END_WITHIN, PipelineInput, wished};
use crate::metrics::PROTOCOL_ERRORS;
use crate::transport::reader::{self, Messages, Received};
use crate::transport::writer::Closing;

/// Messages that break the protocol before the socket is closed.
const TOLERATED_ERRORS: u32 = 50;

/// The reading half of a client socket.
pub struct Reading<S> {
    stream: S,
    inbound: Inbound,
    replies: mpsc::Sender<Message>,
    errors: u32,
}

/// Why nothing more is read.
enum End {
    /// The client is gone.
    Gone,
    /// The socket has to be closed from here.
    Refuse(Closing),
}

impl<S: Messages> Reading<S> {
    /// At the start of a socket.
    pub fn new(stream: S, inbound: Inbound, replies: mpsc::Sender<Message>) -> Self {
        Self {
            stream,
            inbound,
            replies,
            errors: 0,
        }
    }

    /// Waits until the client has introduced itself.
    ///
    /// # Errors
    /// How the socket has to be closed.
    pub async fn introduce(&mut self, limit: Duration) -> Result<(), Closing> {
        let introduction = async {
            loop {
                let heard = self.next(None).await.map_err(|end| match end {
                    End::Gone => Closing::new(Closing::NORMAL, ""),
                    End::Refuse(closing) => closing,
                })?;
                self.answer(heard.replies).await;
                if let Some(why) = heard.breach {
                    return Err(Closing::new(Closing::INVALID_DATA, why));
                }
                match heard.wish {
                    None => {}
                    Some(Wish::Begin) => return Ok(()),
                    Some(Wish::Leave) => return Err(Closing::new(Closing::NORMAL, "")),
                    Some(Wish::Refused(why)) => return Err(Closing::new(Closing::POLICY, why)),
                    Some(
                        Wish::Audio(_) | Wish::Type(_) | Wish::Press(_) | Wish::Interrupt | Wish::ToolResult { .. },
                    ) => {
                        let why = "the first message has to be client-ready";
                        return Err(Closing::new(Closing::POLICY, why));
                    }
                }
            }
        };
        match tokio::time::timeout(limit, introduction).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let reason = format!("no client-ready within {} s", limit.as_secs_f64());
                Err(Closing::new(Closing::POLICY, reason))
            }
        }
    }

    /// Reads until the client is gone; says why. A call that takes nothing is waited for: the socket is not read.
    pub async fn read(
        &mut self,
        input: &PipelineInput,
        silence: Duration,
        refuse: &watch::Sender<Option<Closing>>,
    ) -> EndReason {
        let give_up = |reason: Closing| {
            let why = EndReason::TransportFailed(reason.reason.clone());
            let _ = refuse.send(Some(reason));
            why
        };
        loop {
            let heard = match self.next(Some(silence)).await {
                Ok(heard) => heard,
                Err(End::Gone) => return EndReason::CallerHungUp,
                Err(End::Refuse(reason)) => {
                    PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
                    return give_up(reason);
                }
            };
            self.answer(heard.replies).await;
            if let Some(why) = heard.breach {
                PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
                self.errors += 1;
                if self.errors > TOLERATED_ERRORS {
                    return give_up(Closing::new(Closing::INVALID_DATA, why));
                }
            }
            match heard.wish {
                None => {}
                Some(Wish::Leave) => return EndReason::CallerHungUp,
                Some(Wish::Refused(why)) => return give_up(Closing::new(Closing::POLICY, why)),
                Some(wish) => {
                    for event in wished(wish) {
                        if !input.send(event).await {
                            return EndReason::CallerHungUp;
                        }
                    }
                }
            }
        }
    }

    /// After the close frame: see [`reader::linger`].
    pub async fn linger(&mut self, broken: bool) {
        reader::linger(&mut self.stream, broken, Instant::now() + END_WITHIN).await;
    }

    async fn next(&mut self, silence: Option<Duration>) -> Result<Heard, End> {
        let heard = match reader::next(&mut self.stream, silence).await {
            Received::Binary(bytes) => self.inbound.read(Frame::Binary(&bytes)),
            Received::Text(text) => self.inbound.read(Frame::Text(&text)),
            Received::Gone(_) | Received::Cut => return Err(End::Gone),
            Received::Refuse(reason) => return Err(End::Refuse(reason)),
        };
        heard.map_err(|wrong| End::Refuse(Closing::new(Closing::INVALID_DATA, wrong.to_string())))
    }

    async fn answer(&self, replies: Vec<Message>) {
        for reply in replies {
            // A writer that is gone has closed the socket: the reader sees that next.
            let _ = self.replies.send(reply).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::extract::ws;
    use futures_util::StreamExt;
    use media_core::wire::client::{Dialect, Session};

    use super::*;
    use crate::call::{CallerEvent, link};

    #[tokio::test(start_paused = true)]
    async fn while_the_queue_to_a_call_is_full_its_socket_is_not_read() {
        let read = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&read);
        let key = ws::Message::text(r#"{"type":"InputDTMFFrame","data":{"digit":"1"}}"#);
        let client = futures_util::stream::repeat_with(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(key.clone())
        });
        let session = Session {
            id: "s".to_owned(),
            version: "1".to_owned(),
            input_rate_hz: 16_000,
            output_rate_hz: 24_000,
        };
        let (replies, _replies) = mpsc::channel(1);
        let (refuse, _refused) = watch::channel(None);
        let (mut call, socket) = link(4);
        let mut reading = Reading::new(client.take(100), Inbound::new(Dialect::Json, session), replies);
        let reading = reading.read(&socket.input, Duration::from_secs(60), &refuse);
        tokio::pin!(reading);
        let an_hour = Duration::from_secs(3_600);

        // The call is stuck: four events wait, and one in the reader's hand.
        assert!(tokio::time::timeout(an_hour, &mut reading).await.is_err());
        assert_eq!(read.load(Ordering::Relaxed), 5);

        // It takes one more for each that the call has taken.
        for _ in 0..3 {
            assert!(matches!(call.events.recv().await, Some(CallerEvent::Dtmf('1'))));
        }
        assert!(tokio::time::timeout(an_hour, &mut reading).await.is_err());
        assert_eq!(read.load(Ordering::Relaxed), 8);
    }
}
