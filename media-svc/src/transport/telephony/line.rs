//! One call's stream over the sockets that carry it: usually one, more when the network is cut in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use media_core::conversation::EndReason;
use media_core::wire::telephony::{Answer, Frame, Provider, Start};
use service_kit::config::Pipeline;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::held::{Remembered, Stream};
use super::wire::{Inbound, Outbound};
use super::{TRANSPORT, Timeouts};
use crate::call::{Away, CallerCommand, CallerEvent, End, PipelineInput};
use crate::metrics::{PHONE_STREAM_CUTS, PROTOCOL_ERRORS};
use crate::transport::reader::{self, Received};
use crate::transport::writer::{self, Closing, Written};

/// A socket whose stream has begun.
pub struct Connection {
    /// To the provider.
    pub sink: SplitSink<WebSocket, Message>,
    /// From the provider.
    pub stream: SplitStream<WebSocket>,
    /// What was read so far.
    pub inbound: Inbound,
    /// How it began.
    pub start: Start,
    /// What has to be answered first.
    pub answer: Option<Answer>,
}

/// The stream of one call.
pub struct Line {
    /// Whether the caller is being put through: then whoever ends the stream ends no call.
    pub away: Away,
    /// Of the call: whatever is left of its stream has that long.
    pub end: End,
    /// To the call.
    pub input: PipelineInput,
    /// From the call.
    pub commands: mpsc::Receiver<CallerCommand>,
    /// Set when the stream was closed without the word with which its provider ends calls.
    pub may_live_on: Arc<AtomicBool>,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// Silence after which a socket is dead.
    pub silence: Duration,
    /// How messages are batched.
    pub pipeline: Pipeline,
}

/// How one socket ended.
enum Ending {
    /// The call is over, or will be.
    Over,
    /// The network was cut.
    Cut,
    /// Another socket of the same stream is there.
    Replaced(Box<Connection>),
}

/// How reading ended.
enum ReadOut {
    Ended(EndReason),
    Refused(Closing),
    Cut,
}

impl Line {
    /// Carries the stream until the call is over.
    pub async fn carry(mut self, mut connection: Connection, mut remembered: Remembered<'_>) {
        loop {
            let may_return = connection.start.provider.may_return();
            match self.talk(connection, &mut remembered).await {
                Ending::Over => return,
                Ending::Replaced(next) => {
                    // What the call heard of the old socket ends; the new one goes on.
                    self.input.send(CallerEvent::LineCut).await;
                    connection = *next;
                }
                Ending::Cut if may_return => match self.wait_for_return(&mut remembered).await {
                    Some(next) => connection = next,
                    None => return,
                },
                Ending::Cut => {
                    self.input.send(CallerEvent::Closed(EndReason::CallerHungUp)).await;
                    return;
                }
            }
            // A provider opens the stream again when nobody takes the caller.
            self.away.end();
            PHONE_STREAM_CUTS.with_label_values(&["returned"]).inc();
            tracing::info!(session_id = %remembered.stream.session_id, "a phone stream came back");
            remembered.stream.set_cut(false);
            self.input.send(CallerEvent::LineBack).await;
        }
    }

    /// Holds the call while there is no socket. Nothing is played meanwhile; `None` when the call ended.
    async fn wait_for_return(&mut self, remembered: &mut Remembered<'_>) -> Option<Connection> {
        if self.commands.is_closed() && self.commands.is_empty() {
            // The far end only left without waiting for our leave.
            return None;
        }
        remembered.stream.set_cut(true);
        tracing::info!(session_id = %remembered.stream.session_id, "a phone stream was cut, or its caller is being put through: waiting for it to come back");
        self.input.send(CallerEvent::LineCut).await;
        let mut away = self.away.changes();
        let deadline = tokio::time::sleep_until(self.expected_until());
        tokio::pin!(deadline);
        let (mut lost, mut extended) = (false, false);
        loop {
            tokio::select! {
                next = remembered.returns.recv(), if !lost => return next,
                command = self.commands.recv() => match command {
                    None | Some(CallerCommand::Close(_)) => return None,
                    // The conversation knows that nobody hears it; these are its last frames before that.
                    Some(_) => {}
                },
                Ok(()) = away.changed(), if !lost => deadline.as_mut().reset(self.expected_until()),
                // Somebody was there in time, and has yet to say whose stream it is: as long as that may take.
                () = &mut deadline, if !lost => if !extended && remembered.stream.is_returning() {
                    extended = true;
                    deadline.as_mut().reset(Instant::now() + self.timeouts.start);
                } else if let Ok(next) = remembered.returns.try_recv() {
                    return Some(next);
                } else {
                    lost = true;
                    // Whoever comes now is told that it is too late.
                    remembered.returns.close();
                    PHONE_STREAM_CUTS.with_label_values(&["lost"]).inc();
                    let why = "the stream was cut and did not come back in time".to_owned();
                    self.input.send(CallerEvent::Closed(EndReason::TransportFailed(why))).await;
                }
            }
        }
    }

    /// When a stream that is not there has to be back.
    fn expected_until(&self) -> Instant {
        self.away.until().unwrap_or_else(|| Instant::now() + self.timeouts.hold)
    }

    /// Carries the stream over one socket.
    async fn talk(&mut self, connection: Connection, remembered: &mut Remembered<'_>) -> Ending {
        let (refuse, closing) = watch::channel(None);
        let (replies, reply_receiver) = mpsc::channel(writer::REPLIES);
        let stuck = CancellationToken::new();
        // Of this socket: the call may go on with another one.
        let leaving = End::default();
        let sources = writer::Sources {
            replies: reply_receiver,
            closing,
            ping_every: None,
            stuck_after: self.timeouts.stuck,
            stuck: stuck.clone(),
            end: leaving.clone(),
        };
        if let Some(answer) = connection.answer {
            // There is room: it is the first one.
            let _ = replies.try_send(answer);
        }
        let outbound = Outbound::new(Some(&connection.start));
        let says_stop = says_stop(connection.start.provider);
        let (input, away, end) = (&self.input, &self.away, &self.end);
        let writing = writer::write(connection.sink, &mut self.commands, sources, outbound, self.pipeline);
        let reading = Reading {
            stream: connection.stream,
            inbound: connection.inbound,
            answers: replies,
            input,
            silence: self.silence,
            heard: &remembered.stream,
            says_stop,
            may_live_on: &self.may_live_on,
        };
        let reading = reading.run();
        tokio::pin!(writing, reading);
        tokio::select! {
            (out, mut stream) = &mut reading => {
                let until = leaving.begin();
                let reason = match out {
                    ReadOut::Cut => return Ending::Cut,
                    ReadOut::Ended(_) if away.is_on() => {
                        let _ = refuse.send(Some(Closing::new(Closing::NORMAL, "the caller is being put through")));
                        tokio::join!(writing, reader::linger(&mut stream, false, until));
                        return Ending::Cut;
                    }
                    ReadOut::Ended(reason) => reason,
                    // What a stream that is being left still brings, or does not, ends no call either.
                    ReadOut::Refused(reason) if away.is_on() => {
                        let broken = reason.is_broken();
                        let _ = refuse.send(Some(reason));
                        tokio::join!(writing, reader::linger(&mut stream, broken, until));
                        return Ending::Cut;
                    }
                    ReadOut::Refused(reason) => {
                        PROTOCOL_ERRORS.with_label_values(&[TRANSPORT]).inc();
                        let why = EndReason::TransportFailed(reason.reason.clone());
                        let _ = refuse.send(Some(reason));
                        why
                    }
                };
                end.begin();
                input.send(CallerEvent::Closed(reason)).await;
                let broken = refuse.borrow().as_ref().is_some_and(Closing::is_broken);
                // The writer ends when the call lets go of the line, which is at once; the far end's own close is taken
                // meanwhile.
                tokio::join!(writing, reader::linger(&mut stream, broken, until));
                Ending::Over
            }
            written = &mut writing => match written {
                Written::Closed => {
                    // The far end's own close frame is waited for, so that it sees ours.
                    let _ = tokio::time::timeout_at(leaving.begin(), reading).await;
                    Ending::Over
                }
                Written::Stuck => {
                    input.send(CallerEvent::Closed(reader::not_read())).await;
                    Ending::Over
                }
                Written::Broken => match tokio::time::timeout_at(leaving.begin(), reading).await {
                    Ok((ReadOut::Ended(reason), _)) if !away.is_on() => {
                        input.send(CallerEvent::Closed(reason)).await;
                        Ending::Over
                    }
                    Ok((ReadOut::Ended(_) | ReadOut::Cut | ReadOut::Refused(_), _)) | Err(_) => Ending::Cut,
                },
            },
            Some(next) = remembered.returns.recv() => Ending::Replaced(Box::new(next)),
        }
    }
}

/// Whether a provider says on the stream that it is over, before it closes it. Plivo documents no such word, Vonage has
/// none: there a close frame is how a caller hangs up.
fn says_stop(provider: Provider) -> bool {
    match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Exotel | Provider::Genesys => true,
        Provider::Plivo | Provider::Vonage => false,
    }
}

/// What a close frame says about the other side's server, and not about the call (RFC 6455, section 7.4, and the IANA
/// registry): it fails, restarts, or is too busy; and where the end of a call is said otherwise, that it goes away.
fn is_trouble(code: u16, says_stop: bool) -> bool {
    match code {
        1011..=1013 => true,
        1001 => says_stop,
        _ => false,
    }
}

/// The reading half of one socket.
struct Reading<'a> {
    stream: SplitStream<WebSocket>,
    inbound: Inbound,
    answers: mpsc::Sender<Answer>,
    input: &'a PipelineInput,
    silence: Duration,
    heard: &'a Stream,
    says_stop: bool,
    may_live_on: &'a AtomicBool,
}

impl Reading<'_> {
    /// Reads until the stream is over; what comes after the end of the call is only answered.
    async fn run(mut self) -> (ReadOut, SplitStream<WebSocket>) {
        let mut call_is_over = false;
        loop {
            let meaning = match reader::next(&mut self.stream, Some(self.silence)).await {
                Received::Text(text) => self.inbound.event(Frame::Text(&text)),
                Received::Binary(bytes) => self.inbound.event(Frame::Binary(&bytes)),
                Received::Gone(Some(code)) if is_trouble(code, self.says_stop) => return (ReadOut::Cut, self.stream),
                Received::Gone(_) => {
                    self.may_live_on.store(self.says_stop, Ordering::Release);
                    return (ReadOut::Ended(EndReason::CallerHungUp), self.stream);
                }
                Received::Cut => return (ReadOut::Cut, self.stream),
                Received::Refuse(reason) => return (ReadOut::Refused(reason), self.stream),
            };
            self.heard.heard();
            let meaning = match meaning {
                Ok(meaning) => meaning,
                Err(reason) => return (ReadOut::Refused(reason), self.stream),
            };
            if let Some(answer) = meaning.answer {
                // A writer that is gone has closed the socket: that is seen next.
                let _ = self.answers.send(answer).await;
            }
            match meaning.event {
                Some(CallerEvent::Closed(reason)) => return (ReadOut::Ended(reason), self.stream),
                Some(event) if !call_is_over => call_is_over = !self.input.send(event).await,
                Some(_) | None => {}
            }
        }
    }
}
