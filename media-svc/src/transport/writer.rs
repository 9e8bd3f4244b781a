//! The writing half of a socket: batches frames when asked to, and always leaves with a close frame.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use futures_util::{Sink, SinkExt};
use service_kit::config::Pipeline;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{CallerCommand, End};

/// Turns commands into messages of one protocol.
pub trait Encode: Send {
    /// What the reader wants to have answered.
    type Reply: Send;

    /// Appends the messages for one command; none where the protocol has no word for it.
    fn encode(&mut self, command: CallerCommand, out: &mut Vec<Message>);

    /// Appends the messages for one answer.
    fn reply(&mut self, reply: Self::Reply, out: &mut Vec<Message>);

    /// Whether audio waits for more of it.
    fn is_holding(&self) -> bool {
        false
    }

    /// Appends what is held, because no more has come.
    fn flush(&mut self, _out: &mut Vec<Message>) {}

    /// Appends the protocol's own goodbye; true when the far end is to close first, which `reply` then hears of.
    fn goodbye(&mut self, _end: &Closing, _out: &mut Vec<Message>) -> bool {
        false
    }

    /// Whether the far end has taken its leave.
    fn has_left(&self) -> bool {
        false
    }
}

/// Why and how a socket is closed (RFC 6455, section 7.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Close code.
    pub code: u16,
    /// At most 123 bytes.
    pub reason: String,
}

impl Closing {
    /// Normal end.
    pub const NORMAL: u16 = 1000;
    /// The far end broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Data that is not of the agreed kind.
    pub const INVALID_DATA: u16 = 1007;
    /// Refused by our rules (token, order, silence).
    pub const POLICY: u16 = 1008;
    /// Message larger than accepted.
    pub const TOO_BIG: u16 = 1009;

    /// Whether nothing can be read after it.
    pub fn is_broken(&self) -> bool {
        matches!(self.code, Self::TOO_BIG | Self::PROTOCOL_ERROR)
    }

    /// Makes one; a long reason is cut at a character boundary.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let mut end = reason.len().min(123);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        Self { code, reason }
    }
}

impl From<Closing> for CloseFrame {
    fn from(closing: Closing) -> Self {
        Self {
            code: closing.code,
            reason: closing.reason.into(),
        }
    }
}

/// Answers of the reader that wait to be written; when full the reader waits, and the socket is not read.
pub const REPLIES: usize = 32;

/// How long audio that does not fill a message waits for the next frame, which is due after 20 ms.
const HOLD: Duration = Duration::from_millis(60);

/// Where a writer's messages come from, besides the call.
pub struct Sources<R> {
    /// From the reader, in answer to what it read.
    pub replies: mpsc::Receiver<R>,
    /// Why the reader gave up, once it has.
    pub closing: watch::Receiver<Option<Closing>>,
    /// How often the far end is asked for a sign of life.
    pub ping_every: Option<Duration>,
    /// How long the far end may take nothing.
    pub stuck_after: Duration,
    /// Cancelled when it has taken nothing for so long: the connection is of no use any more.
    pub stuck: CancellationToken,
    /// Of this socket; begins with the close frame at the latest, and bounds the goodbye and all that follows.
    pub end: End,
}

/// How writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// With a close frame, as far as the far end took it.
    Closed,
    /// The connection broke.
    Broken,
    /// The far end takes nothing any more.
    Stuck,
}

/// Writes until the call is over or the socket breaks.
pub async fn write<E: Encode>(
    mut socket: impl Sink<Message> + Unpin,
    commands: &mut mpsc::Receiver<CallerCommand>,
    mut from: Sources<E::Reply>,
    mut encoder: E,
    pipeline: Pipeline,
) -> Written {
    let mut end = Closing::new(Closing::NORMAL, "");
    let mut batch = Vec::new();
    let mut next_ping = from.ping_every.map(|every| Instant::now() + every);
    let mut flush_at = None;
    loop {
        let mut last = false;
        tokio::select! {
            biased;
            reason = refused(&mut from.closing) => {
                end = reason;
                // What the reader has answered before it gave up says why.
                while let Ok(reply) = from.replies.try_recv() {
                    encoder.reply(reply, &mut batch);
                }
                break;
            }
            Some(reply) = from.replies.recv() => encoder.reply(reply, &mut batch),
            command = commands.recv() => {
                let Some(command) = command else { break };
                last = is_close(&command, &mut end);
                encoder.encode(command, &mut batch);
                if pipeline.ws_write_coalesce_ms > 0 && !last {
                    last = gather(&mut batch, commands, &mut encoder, pipeline, &mut end).await;
                }
                flush_at = encoder.is_holding().then(|| Instant::now() + HOLD);
            }
            () = at(flush_at) => {
                encoder.flush(&mut batch);
                flush_at = None;
            }
            () = at(next_ping) => {
                batch.push(Message::Ping(bytes::Bytes::new()));
                next_ping = from.ping_every.map(|every| Instant::now() + every);
            }
        }
        if last {
            encoder.flush(&mut batch);
        }
        match tokio::time::timeout(from.stuck_after, send(&mut socket, &mut batch)).await {
            Ok(true) => {}
            Ok(false) => return Written::Broken,
            Err(_) => {
                from.stuck.cancel();
                return Written::Stuck;
            }
        }
        if last {
            break;
        }
    }
    let until = from.end.begin();
    if encoder.goodbye(&end, &mut batch) {
        let farewell = farewell(&mut socket, &mut from.replies, &mut encoder, &mut batch);
        // A far end that does not answer is closed all the same.
        let _ = tokio::time::timeout_at(until, farewell).await;
        batch.clear();
    }
    let close = async {
        let _ = send(&mut socket, &mut batch).await;
        let _ = socket.send(Message::Close(Some(end.into()))).await;
        let _ = socket.close().await;
    };
    // A far end that takes nothing any more loses its close frame, nothing else.
    let _ = tokio::time::timeout_at(until, close).await;
    Written::Closed
}

/// Sends the goodbye and answers the far end until it has taken its own leave.
async fn farewell<E: Encode>(
    socket: &mut (impl Sink<Message> + Unpin),
    replies: &mut mpsc::Receiver<E::Reply>,
    encoder: &mut E,
    batch: &mut Vec<Message>,
) {
    while send(socket, batch).await && !encoder.has_left() {
        let Some(reply) = replies.recv().await else { return };
        encoder.reply(reply, batch);
    }
}

/// False when the connection is broken.
async fn send(socket: &mut (impl Sink<Message> + Unpin), batch: &mut Vec<Message>) -> bool {
    for message in batch.drain(..) {
        if socket.feed(message).await.is_err() {
            return false;
        }
    }
    socket.flush().await.is_ok()
}

/// Resolves when the reader has given up; never when it is gone without a reason.
async fn refused(closing: &mut watch::Receiver<Option<Closing>>) -> Closing {
    let reason = closing
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| reason.clone());
    match reason {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Collects more commands within the window; true when one of them closes the socket.
async fn gather(
    batch: &mut Vec<Message>,
    commands: &mut mpsc::Receiver<CallerCommand>,
    encoder: &mut impl Encode,
    pipeline: Pipeline,
    end: &mut Closing,
) -> bool {
    let window = tokio::time::sleep(Duration::from_millis(pipeline.ws_write_coalesce_ms));
    tokio::pin!(window);
    while batch.len() < pipeline.ws_write_coalesce_max_frames {
        tokio::select! {
            () = &mut window => return false,
            command = commands.recv() => {
                let Some(command) = command else { return true };
                let last = is_close(&command, end);
                encoder.encode(command, batch);
                if last {
                    return true;
                }
            }
        }
    }
    false
}

fn is_close(command: &CallerCommand, end: &mut Closing) -> bool {
    if let CallerCommand::Close(reason) = command {
        *end = Closing::new(Closing::NORMAL, reason.as_str());
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// A message for each command, as a protocol without batching of its own.
    struct One;

    impl Encode for One {
        type Reply = ();

        fn encode(&mut self, _command: CallerCommand, out: &mut Vec<Message>) {
            out.push(Message::Text("x".into()));
        }

        fn reply(&mut self, (): (), _out: &mut Vec<Message>) {}
    }

    fn batches(coalesce_ms: u64, max_frames: usize) -> Pipeline {
        Pipeline {
            input_queue_cap: 1,
            ws_write_coalesce_ms: coalesce_ms,
            ws_write_coalesce_max_frames: max_frames,
        }
    }

    /// A batch that begins with one message, while another frame comes every 20 ms: its size, how long it took, and
    /// whether it closes the socket.
    async fn gathered(pipeline: Pipeline, frames: usize, then_close: bool) -> (usize, Duration, bool) {
        let (sender, mut commands) = mpsc::channel(64);
        let scope = service_kit::tasks::TaskScope::root("test");
        let feeding = scope.spawn_owned("frames", async move {
            for _ in 0..frames {
                tokio::time::sleep(Duration::from_millis(20)).await;
                sender.send(CallerCommand::Audio(vec![0; 480])).await.unwrap();
            }
            if then_close {
                let reason = media_core::conversation::EndReason::AgentHungUp;
                sender.send(CallerCommand::Close(reason)).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let (mut batch, mut end) = (vec![Message::Text("x".into())], Closing::new(1000, ""));
        let began = Instant::now();
        let last = gather(&mut batch, &mut commands, &mut One, pipeline, &mut end).await;
        drop(feeding);
        (batch.len(), began.elapsed(), last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_written_when_its_window_is_over_or_it_is_full_or_the_call_is() {
        let ms = Duration::from_millis;
        assert_eq!(gathered(batches(50, 10), 100, false).await, (3, ms(50), false));
        assert_eq!(gathered(batches(1_000, 4), 100, false).await, (4, ms(60), false));
        assert_eq!(gathered(batches(1_000, 10), 2, true).await, (4, ms(40), true));
        assert_eq!(gathered(batches(30, 10), 0, false).await, (1, ms(30), false));
    }

    /// A far end that reads nothing, with full buffers on the way to it.
    struct NotRead;

    impl Sink<Message> for NotRead {
        type Error = std::convert::Infallible;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Pending
        }

        fn start_send(self: Pin<&mut Self>, _: Message) -> Result<(), Self::Error> {
            unreachable!("it is never ready")
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_end_that_stops_reading_costs_no_more_than_its_queues_and_is_given_up_after_ten_seconds() {
        let (call, mut transport) = crate::call::link(1);
        let (replies, reply_receiver) = mpsc::channel(REPLIES);
        let (_refuse, closing) = watch::channel(None);
        let stuck = CancellationToken::new();
        let sources = Sources {
            replies: reply_receiver,
            closing,
            ping_every: None,
            stuck_after: crate::transport::Timeouts::default().stuck,
            stuck: stuck.clone(),
            end: End::default(),
        };
        let mut waiting = 0;
        let agent = async {
            for _ in 0..1_000 {
                waiting += usize::from(call.commands.try_send(CallerCommand::Audio(vec![0; 480])).is_ok());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let began = Instant::now();

        let writing = write(NotRead, &mut transport.commands, sources, One, batches(0, 1));
        let (written, ()) = tokio::join!(writing, agent);

        assert_eq!((written, stuck.is_cancelled()), (Written::Stuck, true));
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(waiting, crate::call::CALLER_COMMANDS + 1, "the first was on its way");
        assert!(replies.is_closed());
    }

    #[test]
    fn a_close_reason_fits_a_control_frame() {
        assert!(Closing::new(Closing::POLICY, "ü".repeat(100)).reason.len() <= 123);
    }
}
