//! The two bounded queues between a socket and its call.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use media_core::conversation::{EndReason, MarkId, Notice, Typed};
use media_core::wire::client::Wish;
use tokio::sync::mpsc;

use super::away::WayBack;
use super::end::End;
use crate::metrics::{PIPELINE_BACKPRESSURE_SECONDS, PIPELINE_QUEUE_DEPTH};

/// Commands waiting for a socket's writer: 5 s of 20 ms frames. Playout is paced, so the queue is all but empty unless
/// the far end has stopped reading; when it is full, frames are dropped and counted, and after 10 s the
/// call ends.
pub const CALLER_COMMANDS: usize = 250;

/// How long a far end may refuse to read before its call is ended.
pub const STUCK_WRITER: Duration = Duration::from_secs(10);

/// What a transport tells its call.
#[derive(Debug)]
pub enum CallerEvent {
    /// Caller audio, mono, at the transport's input rate.
    Audio(Vec<i16>),
    /// A telephone key.
    Dtmf(char),
    /// The far end has played everything up to this mark.
    Played(MarkId),
    /// Typed text.
    Text(Typed),
    /// The agent is to be silent.
    Interrupt,
    /// A tool that runs at the client has answered.
    ToolResult {
        /// Id of the call.
        call_id: String,
        /// JSON or plain text.
        content: String,
    },
    /// The network to the far end was cut; it may come back.
    LineCut,
    /// The far end is there again.
    LineBack,
    /// The far end is gone.
    Closed(EndReason),
}

/// What a client's wish means for its call; nothing where it concerns the transport alone.
pub fn wished(wish: Wish) -> Vec<CallerEvent> {
    match wish {
        Wish::Begin | Wish::Refused(_) => Vec::new(),
        Wish::Audio(samples) => vec![CallerEvent::Audio(samples)],
        Wish::Type(typed) => vec![CallerEvent::Text(typed)],
        Wish::Press(keys) => keys.into_iter().map(CallerEvent::Dtmf).collect(),
        Wish::Interrupt => vec![CallerEvent::Interrupt],
        Wish::ToolResult { call_id, content } => vec![CallerEvent::ToolResult { call_id, content }],
        Wish::Leave => vec![CallerEvent::Closed(EndReason::CallerHungUp)],
    }
}

/// What a call tells its transport.
#[derive(Debug, Clone, PartialEq)]
pub enum CallerCommand {
    /// 20 ms of mono audio at the transport's output rate, due now.
    Audio(Vec<i16>),
    /// Report when everything sent so far has been played.
    Mark(MarkId),
    /// Drop what was not played.
    Clear,
    /// Something a client may show.
    Notice(Notice),
    /// Close the connection.
    Close(EndReason),
}

/// What a call has to know of its transport.
#[derive(Debug, Clone, Copy)]
pub struct TransportTraits {
    /// Metric label: `telephony`, `websocket`.
    pub name: &'static str,
    /// Rate of caller audio.
    pub input_rate_hz: u32,
    /// Rate of agent audio.
    pub output_rate_hz: u32,
    /// Rate recordings are kept at.
    pub recording_rate_hz: u32,
    /// Whether the far end reports marks.
    pub echoes_marks: bool,
    /// How far audio may be sent ahead of the clock.
    pub playout_lead: Duration,
}

/// What has come from a socket, counted while it waits.
pub struct CallerEvents(mpsc::Receiver<CallerEvent>);

impl CallerEvents {
    /// The next event; `None` when the socket's side is gone.
    pub async fn recv(&mut self) -> Option<CallerEvent> {
        let event = self.0.recv().await;
        if event.is_some() {
            PIPELINE_QUEUE_DEPTH.dec();
        }
        event
    }
}

impl Drop for CallerEvents {
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {
            PIPELINE_QUEUE_DEPTH.dec();
        }
    }
}

/// The call's end of the link.
pub struct CallerLink {
    /// From the transport.
    pub events: CallerEvents,
    /// To the transport.
    pub commands: mpsc::Sender<CallerCommand>,
    /// When the end of the call began.
    pub end: End,
    /// Present where a caller who was put through and is not taken can be brought back.
    pub way_back: Option<WayBack>,
    /// Whether the far end left without saying that the call is over although it would: set before the caller has hung up.
    pub may_live_on: Arc<AtomicBool>,
}

/// The transport's end of the link.
pub struct TransportLink {
    /// To the call.
    pub input: PipelineInput,
    /// From the call.
    pub commands: mpsc::Receiver<CallerCommand>,
    /// See [`CallerLink::may_live_on`].
    pub may_live_on: Arc<AtomicBool>,
}

/// The way from a socket into its pipeline. When it is full the socket is not read: back-pressure, not memory.
#[derive(Clone)]
pub struct PipelineInput(mpsc::Sender<CallerEvent>);

impl PipelineInput {
    /// Waits for room; false when the call is over.
    pub async fn send(&self, event: CallerEvent) -> bool {
        PIPELINE_QUEUE_DEPTH.inc();
        match self.0.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                PIPELINE_QUEUE_DEPTH.dec();
                false
            }
            Err(mpsc::error::TrySendError::Full(event)) => {
                let waiting_since = std::time::Instant::now();
                let sent = self.0.send(event).await.is_ok();
                if !sent {
                    PIPELINE_QUEUE_DEPTH.dec();
                }
                PIPELINE_BACKPRESSURE_SECONDS.inc_by(waiting_since.elapsed().as_secs_f64());
                sent
            }
        }
    }
}

/// Makes both ends; `input_queue_cap` is `pipeline_input_queue_cap`.
pub fn link(input_queue_cap: usize) -> (CallerLink, TransportLink) {
    let (event_sender, events) = mpsc::channel(input_queue_cap.max(1));
    let (commands, command_receiver) = mpsc::channel(CALLER_COMMANDS);
    let may_live_on = Arc::new(AtomicBool::new(false));
    (
        CallerLink {
            events: CallerEvents(events),
            commands,
            end: End::default(),
            way_back: None,
            may_live_on: Arc::clone(&may_live_on),
        },
        TransportLink {
            input: PipelineInput(event_sender),
            commands: command_receiver,
            may_live_on,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_holds_the_socket_back_until_the_call_takes_something() {
        let (mut call, socket) = link(2);
        let key = || CallerEvent::Dtmf('1');
        assert!(socket.input.send(key()).await);
        assert!(socket.input.send(key()).await);
        let third = socket.input.send(key());
        tokio::pin!(third);

        let an_hour = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(an_hour, &mut third).await.is_err());

        assert!(call.events.recv().await.is_some());
        assert!(third.await);
        drop(call);
        assert!(!socket.input.send(key()).await);
    }
}
