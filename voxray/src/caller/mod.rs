//! A phone caller that speaks Twilio's Media Streams protocol at real-time pace: webhook, stream, playback, marks.
//!
//! <https://www.twilio.com/docs/voice/media-streams/websocket-messages>

mod playback;
mod script;
mod webhook;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::audio::g711;
use media_core::wire::twilio::StreamStart;
use media_core::wire::twilio::far_end::{self, FarEnd, FromServer};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;

use playback::Playback;
pub use playback::rms;
pub use script::{Action, Said, Script, Step, TICK, TICK_SAMPLES};
pub use webhook::{StreamTarget, request_stream};

/// Stands for an account; nothing is looked up by it.
const ACCOUNT_SID: &str = "AC00000000000000000000000000000000";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answers there.
    #[error("{url} does not answer: check that the server runs there (`voxray`), or name another one with --url")]
    Unreachable {
        /// The webhook.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// The webhook did not answer with a stream.
    #[error("the webhook failed: {0}")]
    Webhook(String),
    /// The server answered that it takes no call now.
    #[error("the call was refused: {0}")]
    Refused(String),
    /// The media socket could not be opened.
    #[error("cannot open the media stream {url}")]
    Connect {
        /// Its URL without the token.
        url: String,
        /// Cause.
        #[source]
        source: Box<tokio_tungstenite::tungstenite::Error>,
    },
    /// The server did not do what the script waited for.
    #[error("gave up after {seconds:.1} s of the call, waiting for {what}")]
    TimedOut {
        /// What was awaited.
        what: &'static str,
        /// Time since the stream began.
        seconds: f64,
    },
    /// The server closed the stream although the script was not over.
    #[error("the server ended the call early, after {seconds:.1} s{reason}")]
    EndedEarly {
        /// Time since the stream began.
        seconds: f64,
        /// Close reason, if one was given.
        reason: String,
    },
    /// The server sent something that Twilio would not accept.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

/// Whom to call and how.
#[derive(Debug, Clone)]
pub struct Call {
    /// Base URL of the signaling service.
    pub base_url: String,
    /// Provider call id; random when `None`.
    pub call_id: Option<String>,
    /// Signs the webhook when set.
    pub auth_token: Option<String>,
    /// What the caller does.
    pub steps: Vec<Step>,
}

/// What a finished call was like, seen from the caller. All audio is mono 8 kHz on the call's clock.
#[derive(Debug)]
pub struct CallReport {
    /// Provider call id.
    pub call_id: String,
    /// Host and port of the media node.
    pub media_host: String,
    /// Everything the caller heard.
    pub heard: Vec<i16>,
    /// Everything the caller sent.
    pub sent: Vec<i16>,
    /// What was said when.
    pub said: Vec<Said>,
    /// Whether the agent ended the call.
    pub ended_by_agent: bool,
    /// Ticks at which the server cleared playback (barge-in).
    pub clears: Vec<usize>,
    /// Longest audio that waited in the provider's buffer, milliseconds.
    pub max_queued_ms: usize,
}

impl Call {
    /// A call to this server with a fresh id.
    pub fn new(base_url: impl Into<String>, steps: Vec<Step>) -> Self {
        Self {
            base_url: base_url.into(),
            call_id: None,
            auth_token: None,
            steps,
        }
    }

    /// Places the call and stays until it is over.
    pub async fn place(self) -> Result<CallReport, CallError> {
        let call_id = self
            .call_id
            .unwrap_or_else(|| format!("CA{}", uuid::Uuid::new_v4().simple()));
        let fields = [
            ("AccountSid", ACCOUNT_SID),
            ("CallSid", call_id.as_str()),
            ("CallStatus", "ringing"),
            ("Direction", "inbound"),
            ("From", "+15005550006"),
            ("To", "+15005550001"),
        ];
        let target = request_stream(&self.base_url, &fields, self.auth_token.as_deref()).await?;
        stream(target, call_id, Script::new(self.steps)).await
    }
}

/// Opens the media stream and plays the script on it.
pub async fn stream(target: StreamTarget, call_id: String, script: Script) -> Result<CallReport, CallError> {
    let media_host = host_of(&target.url);
    let (socket, _) = tokio_tungstenite::connect_async(&target.url)
        .await
        .map_err(|source| CallError::Connect {
            url: media_host.clone(),
            source: Box::new(source),
        })?;
    let start = StreamStart {
        stream_sid: format!("MZ{}", uuid::Uuid::new_v4().simple()),
        call_sid: call_id.clone(),
        account_sid: Some(ACCOUNT_SID.to_owned()),
        custom_parameters: target.parameters.into_iter().collect(),
    };
    let mut line = Line {
        socket,
        stream_sid: start.stream_sid.clone(),
        call_id,
        messages: FarEnd::new(start),
        playback: Playback::default(),
        script,
        sent: Vec::new(),
        clears: Vec::new(),
        max_queued_ms: 0,
        media_host,
    };
    line.send(far_end::connected()).await;
    let start = line.messages.start();
    line.send(start).await;
    line.talk().await
}

fn host_of(url: &str) -> String {
    url.split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap_or(url)
        .to_owned()
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

struct Line {
    socket: Socket,
    stream_sid: String,
    call_id: String,
    messages: FarEnd,
    playback: Playback,
    script: Script,
    sent: Vec<i16>,
    clears: Vec<usize>,
    max_queued_ms: usize,
    media_host: String,
}

enum Flow {
    GoOn,
    AgentHungUp(String),
}

impl Line {
    async fn talk(mut self) -> Result<CallReport, CallError> {
        let mut clock = tokio::time::interval_at(Instant::now() + TICK, TICK);
        // A late tick is made up for: the far end's clock does not stand still because this machine was busy.
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            tokio::select! {
                _ = clock.tick() => match self.tick().await {
                    Action::HangUp => {
                        self.stop().await;
                        return Ok(self.report(false));
                    }
                    Action::TimedOut(what) => {
                        let seconds = self.seconds();
                        self.stop().await;
                        return Err(CallError::TimedOut { what, seconds });
                    }
                    Action::Audio(_) | Action::Quiet | Action::Key(_) => {}
                },
                message = self.socket.next() => match self.receive(message)? {
                    Flow::GoOn => {}
                    Flow::AgentHungUp(_) if self.script.expects_hang_up() => {
                        // What was sent before the socket closed is still in the provider's player.
                        while self.playback.queued_ms() > 0 {
                            self.playback.tick();
                        }
                        return Ok(self.report(true));
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
            let mark = self.messages.mark(&name);
            self.send(mark).await;
        }
        let action = self.script.tick(played.audible);
        let mut packet = match &action {
            Action::Audio(samples) => samples.clone(),
            Action::Quiet | Action::Key(_) => Vec::new(),
            Action::HangUp | Action::TimedOut(_) => return action,
        };
        if let Action::Key(key) = &action {
            let dtmf = self.messages.dtmf(*key);
            self.send(dtmf).await;
        }
        packet.resize(TICK_SAMPLES, 0);
        let timestamp_ms = u64::try_from(self.sent.len() / 8).unwrap_or(u64::MAX);
        let media = self.messages.media(timestamp_ms, &g711::encode_ulaw(&packet));
        self.send(media).await;
        self.sent.extend(packet);
        action
    }

    async fn stop(&mut self) {
        let stop = self.messages.stop();
        self.send(stop).await;
        // The line is going away: a server that is already gone is as good.
        let _ = self.socket.close(None).await;
        let drained = async { while let Some(Ok(_)) = self.socket.next().await {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), drained).await;
    }

    /// A connection that broke is noticed, with its reason, by `receive`.
    async fn send(&mut self, message: String) {
        let _ = self.socket.send(Message::text(message)).await;
    }

    fn receive(
        &mut self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<Flow, CallError> {
        let text = match message {
            None | Some(Err(_)) => return Ok(Flow::AgentHungUp(String::new())),
            Some(Ok(Message::Close(frame))) => {
                let reason = frame
                    .map(|frame| format!(": {} {}", frame.code, frame.reason))
                    .unwrap_or_default();
                return Ok(Flow::AgentHungUp(reason));
            }
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Ok(Flow::GoOn),
            Some(Ok(Message::Binary(_))) => return Err(CallError::Protocol("a binary message".to_owned())),
        };
        match far_end::read(&text, &self.stream_sid).map_err(|error| CallError::Protocol(format!("{error}: {text}")))? {
            FromServer::Media(samples) => {
                self.playback.push(samples);
                self.max_queued_ms = self.max_queued_ms.max(self.playback.queued_ms());
            }
            FromServer::Mark(name) => self.playback.mark(name),
            FromServer::Clear => {
                self.clears.push(self.script.ticks());
                // Twilio answers the marks of cleared audio; they ride on the next tick.
                for mark in self.playback.clear() {
                    self.playback.mark(mark);
                }
            }
            FromServer::Ignored => return Err(CallError::Protocol(text.to_string())),
        }
        Ok(Flow::GoOn)
    }

    fn seconds(&self) -> f64 {
        Duration::from_millis(20 * u64::try_from(self.script.ticks()).unwrap_or(u64::MAX)).as_secs_f64()
    }

    fn report(self, ended_by_agent: bool) -> CallReport {
        CallReport {
            call_id: self.call_id,
            media_host: self.media_host,
            heard: self.playback.into_heard(),
            sent: self.sent,
            said: self.script.said().to_vec(),
            ended_by_agent,
            clears: self.clears,
            max_queued_ms: self.max_queued_ms,
        }
    }
}
