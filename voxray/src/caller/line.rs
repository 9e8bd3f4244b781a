//! One stream of a simulated caller: a tick every 20 ms, whatever the provider's rate and length of messages.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::audio::resample::Resampler;
use media_core::wire::far_end::{FarEnd, FromServer};
use media_core::wire::telephony::{Frame, MediaFormat, Message as WireMessage, Provider};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;

use super::playback::Playback;
use super::{Action, CallError, CallReport, Script, TICK, TICK_SAMPLES};
use crate::wav::TELEPHONE_HZ;

/// How long a server may take to open a session or to close it.
const PATIENCE: Duration = Duration::from_secs(5);

pub type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// What came from the server.
type Received = Option<Result<Message, tokio_tungstenite::tungstenite::Error>>;

pub struct Line {
    socket: Socket,
    far_end: FarEnd,
    /// Caller audio in one message, in samples of the line.
    message_samples: usize,
    to_line: Resampler,
    from_line: Resampler,
    /// Caller audio that does not fill a message yet.
    pending: Vec<i16>,
    playback: Playback,
    script: Script,
    sent: Vec<i16>,
    clears: Vec<usize>,
    max_queued_ms: usize,
}

enum Flow {
    GoOn,
    Opened,
    AgentHungUp(String),
}

impl Line {
    pub fn new(socket: Socket, format: MediaFormat, far_end: FarEnd, script: Script) -> Result<Self, CallError> {
        let impossible = |error: media_core::audio::resample::UnsupportedRate| CallError::Impossible(error.to_string());
        let message_ms = match far_end {
            FarEnd::Exotel(_) => Provider::Exotel.message_ms(),
            FarEnd::Twilio(_) | FarEnd::Telnyx(_) | FarEnd::Plivo(_) | FarEnd::Vonage(_) | FarEnd::Genesys(_) => 20,
        };
        Ok(Self {
            socket,
            far_end,
            message_samples: format.samples(message_ms),
            to_line: Resampler::new(TELEPHONE_HZ, format.rate_hz).map_err(impossible)?,
            from_line: Resampler::new(format.rate_hz, TELEPHONE_HZ).map_err(impossible)?,
            pending: Vec::new(),
            playback: Playback::default(),
            script,
            sent: Vec::new(),
            clears: Vec::new(),
            max_queued_ms: 0,
        })
    }

    /// Starts the stream. Genesys sends no audio before its session is open.
    pub async fn open(&mut self) -> Result<(), CallError> {
        for message in self.far_end.opening() {
            self.send(message).await;
        }
        if !matches!(self.far_end, FarEnd::Genesys(_)) {
            return Ok(());
        }
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match self.receive(message.unwrap_or_default()).await? {
                Flow::GoOn => {}
                Flow::Opened => return Ok(()),
                Flow::AgentHungUp(reason) => return Err(CallError::EndedEarly { seconds: 0.0, reason }),
            }
        }
    }

    /// Plays the script to its end; whether the agent ended the call.
    pub async fn talk(&mut self) -> Result<bool, CallError> {
        let mut clock = tokio::time::interval_at(Instant::now() + TICK, TICK);
        // A late tick is made up for: the far end's clock does not stand still because this machine was busy.
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! {
                _ = clock.tick() => match self.tick().await {
                    Action::HangUp => {
                        self.stop().await;
                        return Ok(false);
                    }
                    Action::TimedOut(what) => {
                        let seconds = self.seconds();
                        self.stop().await;
                        return Err(CallError::TimedOut { what, seconds });
                    }
                    Action::Audio(_) | Action::Quiet | Action::Key(_) => {}
                },
                message = self.socket.next() => match self.receive(message).await? {
                    Flow::GoOn | Flow::Opened => {}
                    Flow::AgentHungUp(_) if self.script.expects_hang_up() => {
                        // What was sent before the socket closed is still in the provider's player.
                        while self.playback.queued_ms() > 0 {
                            self.playback.tick();
                        }
                        return Ok(true);
                    }
                    Flow::AgentHungUp(reason) => {
                        return Err(CallError::EndedEarly { seconds: self.seconds(), reason });
                    }
                },
            }
        }
    }

    async fn tick(&mut self) -> Action {
        let played = self.playback.tick();
        for name in played.marks {
            if let Some(mark) = self.far_end.played(&name) {
                self.send(mark).await;
            }
        }
        let action = self.script.tick(played.audible);
        let mut packet = match &action {
            Action::Audio(samples) => samples.clone(),
            Action::Quiet | Action::Key(_) => Vec::new(),
            Action::HangUp | Action::TimedOut(_) => return action,
        };
        if let Action::Key(key) = &action {
            let dtmf = self.far_end.dtmf(*key);
            self.send(dtmf).await;
        }
        packet.resize(TICK_SAMPLES, 0);
        let timestamp_ms = u64::try_from(self.sent.len() / 8).unwrap_or(u64::MAX);
        self.pending.extend(self.to_line.process(&packet));
        while self.pending.len() >= self.message_samples {
            let rest = self.pending.split_off(self.message_samples);
            let samples = std::mem::replace(&mut self.pending, rest);
            let media = self.far_end.media(timestamp_ms, &samples);
            self.send(media).await;
        }
        self.sent.extend(packet);
        action
    }

    async fn stop(&mut self) {
        if let Some(stop) = self.far_end.stop() {
            self.send(stop).await;
        }
        if matches!(self.far_end, FarEnd::Genesys(_)) {
            // The socket is the client's to close, after the server's `closed`.
            let closed = async {
                while let Some(Ok(message)) = self.socket.next().await {
                    let read = match &message {
                        Message::Text(text) => self.far_end.read(Frame::Text(text)),
                        _ => continue,
                    };
                    if matches!(read, Ok(FromServer::Closed)) {
                        return;
                    }
                }
            };
            let _ = tokio::time::timeout(PATIENCE, closed).await;
        }
        // The line is going away: a server that is already gone is as good.
        let _ = self.socket.close(None).await;
        let drained = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drained).await;
    }

    /// A connection that broke is noticed, with its reason, by `receive`.
    async fn send(&mut self, message: WireMessage) {
        let message = match message {
            WireMessage::Text(text) => Message::text(text),
            WireMessage::Binary(bytes) => Message::binary(bytes),
        };
        let _ = self.socket.send(message).await;
    }

    async fn receive(&mut self, message: Received) -> Result<Flow, CallError> {
        let read = match &message {
            None | Some(Err(_)) => return Ok(Flow::AgentHungUp(String::new())),
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.as_ref().map(|frame| format!(": {} {}", frame.code, frame.reason));
                return Ok(Flow::AgentHungUp(reason.unwrap_or_default()));
            }
            Some(Ok(Message::Text(text))) => self.far_end.read(Frame::Text(text)),
            Some(Ok(Message::Binary(bytes))) => self.far_end.read(Frame::Binary(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(Flow::GoOn),
        };
        match read.map_err(|error| CallError::Protocol(format!("{error}: {message:?}")))? {
            FromServer::Media(samples) => {
                self.playback.push(self.from_line.process(&samples));
                self.max_queued_ms = self.max_queued_ms.max(self.playback.queued_ms());
            }
            FromServer::Mark(name) => self.playback.mark(name),
            FromServer::Clear => {
                self.clears.push(self.script.ticks());
                // The marks of cleared audio are answered as well; they ride on the next tick.
                for mark in self.playback.clear() {
                    self.playback.mark(mark);
                }
            }
            FromServer::Opened => return Ok(Flow::Opened),
            FromServer::Disconnect => {
                if let FarEnd::Genesys(far_end) = &mut self.far_end {
                    let close = far_end.close("disconnect");
                    self.send(WireMessage::Text(close)).await;
                }
            }
            FromServer::Closed => {}
            FromServer::Ignored => return Err(CallError::Protocol(format!("{message:?}"))),
        }
        Ok(Flow::GoOn)
    }

    fn seconds(&self) -> f64 {
        Duration::from_millis(20 * u64::try_from(self.script.ticks()).unwrap_or(u64::MAX)).as_secs_f64()
    }

    pub fn report(
        self,
        (provider, call_id): (Provider, String),
        media_host: String,
        ended_by_agent: bool,
    ) -> CallReport {
        CallReport {
            call_id,
            provider,
            media_host,
            heard: self.playback.into_heard(),
            sent: self.sent,
            said: self.script.said().to_vec(),
            ended_by_agent,
            clears: self.clears,
            max_queued_ms: self.max_queued_ms,
        }
    }
}
