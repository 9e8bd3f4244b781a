//! One session over the peer connections that carry it: usually one, more when the client makes another.
//!
//! A client from which nothing has come for [`RtcTimeouts::vanished`] is cut off: the agent falls silent and the call
//! waits [`RtcTimeouts::hold`] for it to come back, by itself, by an ICE restart, or with another peer connection.
//! One that has closed its connection in an orderly way is waited for [`RtcTimeouts::left`] only, in case it is about
//! to make a new one.

use std::sync::Arc;
use std::time::Duration;

use media_core::Time;
use media_core::conversation::EndReason;
use media_core::rtp::Heard;
use media_core::wire::client::{Session, Wish};
use media_core::wire::rtvi::RtviPeer;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::chat::{self, Outbox};
use super::leaving::Leaving;
use super::live::Live;
use super::peer::{Engine, PeerEvent, PeerState};
use super::sdp::Offer;
use super::sessions::{Entry, Order};
use super::{Answered, Refused, WEBRTC};
use crate::call::registry::MediaReport;
use crate::call::{CallerCommand, CallerEvent, PipelineInput, TransportLink, wished};
use crate::metrics::{PROTOCOL_ERRORS, WEBRTC_CONNECTION_FAILURES, WEBRTC_CONNECTIONS, WEBRTC_RECONNECTIONS};
use crate::transport::{Gate, RtcTimeouts};

/// How often a session's media is measured.
const MEASURE: Duration = Duration::from_secs(2);
/// What the agent says when `rtc_max_duration_secs` are over.
const TIME_IS_UP: &str = "We have reached the time limit of this call. Goodbye.";

/// Carries one session.
pub struct Line {
    gate: Arc<Gate>,
    engine: Arc<Engine>,
    timeouts: RtcTimeouts,
    entry: Entry,
    input: PipelineInput,
    commands: mpsc::Receiver<CallerCommand>,
    orders: mpsc::Receiver<Order>,
    live: Live,
    rtvi: RtviPeer,
    outbox: Outbox,
    started: Instant,
    /// The client was connected at least once.
    connected: bool,
    /// Until when a client that is gone is waited for.
    cut: Option<Cut>,
    /// Until when a way must be found after an ICE restart: there is none until then, and ICE itself looks for longer
    /// than a client is waited for.
    restarting: Option<Instant>,
    leaving: Leaving,
    /// When the session has lasted as long as it may; set by the first audio.
    limit: Option<Instant>,
    heard_audio: bool,
    /// Since when the client takes no messages.
    stuck_since: Option<Instant>,
    media: watch::Sender<MediaReport>,
    /// The call takes nothing any more.
    over: bool,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    until: Instant,
    told: bool,
}

impl Line {
    /// With the peer connection of the first offer.
    pub fn new(
        gate: Arc<Gate>,
        engine: Arc<Engine>,
        entry: Entry,
        link: TransportLink,
        orders: mpsc::Receiver<Order>,
        live: Live,
    ) -> Self {
        let rtvi = RtviPeer::new(Session {
            id: entry.session_id().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            input_rate_hz: WEBRTC.input_rate_hz,
            output_rate_hz: WEBRTC.output_rate_hz,
        });
        Self {
            timeouts: gate.timeouts.rtc,
            gate,
            engine,
            entry,
            input: link.input,
            commands: link.commands,
            orders,
            live,
            rtvi,
            outbox: Outbox::default(),
            started: Instant::now(),
            connected: false,
            cut: None,
            restarting: None,
            leaving: Leaving::default(),
            limit: None,
            heard_audio: false,
            stuck_since: None,
            media: watch::Sender::default(),
            over: false,
        }
    }

    /// What the session's media is like.
    pub fn media(&self) -> watch::Receiver<MediaReport> {
        self.media.subscribe()
    }

    /// Waits until media can flow; false when it did not come to that.
    pub async fn connect(&mut self) -> bool {
        let deadline = tokio::time::sleep(self.timeouts.connect);
        tokio::pin!(deadline);
        while !self.connected {
            tokio::select! {
                event = self.live.event() => {
                    // What has come says that the connection is there, whoever of both is told first.
                    self.connected |= matches!(event, PeerEvent::Packet(_) | PeerEvent::Message(_));
                    self.hear(event).await;
                }
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return false,
                },
                () = &mut deadline => return false,
            }
        }
        true
    }

    /// Carries the session until the call is over.
    pub async fn carry(mut self) {
        let mut measure = tokio::time::interval(MEASURE);
        measure.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let playout = self.live.poll_deadline().map(|due| self.started + due);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => break,
                    Some(CallerCommand::Close(reason)) => {
                        self.outbox.end(&reason);
                        break;
                    }
                    Some(command) => self.perform(command).await,
                },
                event = self.live.event(), if !self.over => self.hear(event).await,
                () = at(playout), if !self.over => self.play().await,
                order = self.orders.recv() => {
                    if let Some(order) = order {
                        self.obey(order).await;
                    }
                }
                () = at(self.cut.filter(|cut| !cut.told).map(|cut| cut.until)) => self.give_up().await,
                () = at(self.restarting) => self.miss_restarted().await,
                () = at(self.limit) => self.end_for_time(),
                _ = measure.tick() => self.measure().await,
            }
        }
        self.take_leave().await;
    }

    async fn perform(&mut self, command: CallerCommand) {
        match command {
            CallerCommand::Audio(frame) => {
                if self.cut.is_none() {
                    self.live.send(self.started.elapsed(), &frame).await;
                }
            }
            CallerCommand::Notice(notice) => {
                let taken = self.outbox.narrate(notice);
                self.check_stuck(taken).await;
            }
            // Nothing waits here that could be dropped, and nobody reports what was played: the clock does.
            CallerCommand::Clear | CallerCommand::Mark(_) | CallerCommand::Close(_) => {}
        }
    }

    async fn hear(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::State(state) => self.state(state).await,
            PeerEvent::Packet(packet) => {
                self.leaving.hears();
                self.live.push(self.started.elapsed(), packet);
                self.play().await;
            }
            // One that has taken its track away by an offer is still there.
            PeerEvent::TrackEnded => {
                if self.live.client_sends() {
                    self.leaving.begins();
                }
            }
            PeerEvent::ChatOpened(chat) => {
                self.leaving.stays();
                self.outbox.open(chat, self.live.scope());
            }
            // Some clients take their tracks away by an offer before they close the connection.
            PeerEvent::ChatClosed => self.leaving.begins(),
            PeerEvent::Message(text) => {
                self.leaving.hears();
                self.message(&text).await;
            }
        }
    }

    async fn play(&mut self) {
        while let Some(heard) = self.live.poll(self.started.elapsed()) {
            let event = match heard {
                Heard::Audio(samples) => {
                    self.note_audio();
                    CallerEvent::Audio(samples)
                }
                Heard::Key(key) => CallerEvent::Dtmf(key),
            };
            self.tell(event).await;
        }
    }

    async fn message(&mut self, text: &str) {
        if chat::is_housekeeping(text) {
            return;
        }
        if chat::is_oversized(text) {
            PROTOCOL_ERRORS.with_label_values(&["webrtc"]).inc();
            return;
        }
        let heard = self.rtvi.hear(text);
        for reply in heard.replies {
            let taken = self.outbox.send(reply);
            self.check_stuck(taken).await;
        }
        if heard.breach.is_some() {
            PROTOCOL_ERRORS.with_label_values(&["webrtc"]).inc();
        }
        match heard.wish {
            None => {}
            Some(Wish::Refused(why)) => self.tell(CallerEvent::Closed(EndReason::TransportFailed(why))).await,
            Some(wish) => {
                for event in wished(wish) {
                    self.tell(event).await;
                }
            }
        }
    }

    async fn state(&mut self, state: PeerState) {
        WEBRTC_CONNECTIONS.with_label_values(&[state.as_str()]).inc();
        tracing::debug!(session_id = %self.entry.session_id(), state = state.as_str(), "peer connection");
        match state {
            PeerState::Connecting => {}
            PeerState::Connected => {
                self.connected = true;
                self.leaving.stays();
                self.restarting = None;
                if let Some(cut) = self.cut.take()
                    && !cut.told
                {
                    tracing::info!(session_id = %self.entry.session_id(), "a WebRTC client came back");
                    self.tell(CallerEvent::LineBack).await;
                }
            }
            PeerState::Disconnected => self.cut_off(state).await,
            PeerState::Failed | PeerState::Closed => {
                WEBRTC_CONNECTION_FAILURES.with_label_values(&[state.as_str()]).inc();
                self.cut_off(state).await;
            }
        }
    }

    async fn cut_off(&mut self, state: PeerState) {
        if !self.connected || self.cut.is_some() {
            return;
        }
        let hold = if self.leaving.is_leaving() {
            self.timeouts.left
        } else {
            self.timeouts.hold
        };
        tracing::info!(session_id = %self.entry.session_id(), state = state.as_str(), hold = ?hold,
            "a WebRTC client is gone: waiting for it to come back");
        self.cut = Some(Cut {
            until: Instant::now() + hold,
            told: false,
        });
        self.tell(CallerEvent::LineCut).await;
    }

    async fn miss_restarted(&mut self) {
        self.restarting = None;
        let state = self.live.state();
        if state != Some(PeerState::Connected) {
            self.cut_off(state.unwrap_or(PeerState::Connecting)).await;
        }
    }

    async fn give_up(&mut self) {
        if let Some(cut) = &mut self.cut {
            cut.told = true;
        }
        let reason = if self.leaving.is_leaving() {
            EndReason::CallerHungUp
        } else {
            WEBRTC_CONNECTION_FAILURES.with_label_values(&["vanished"]).inc();
            let hold = self.timeouts.hold.as_secs_f64();
            EndReason::TransportFailed(format!("the client vanished and did not come back within {hold} s"))
        };
        self.tell(CallerEvent::Closed(reason)).await;
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Candidates {
                pc_id,
                candidates,
                done,
            } => {
                let outcome = if *pc_id == **self.live.pc_id() {
                    self.live.add_candidates(candidates).await
                } else {
                    Err(Refused::Unknown)
                };
                // Whoever asked may be gone.
                let _ = done.send(outcome);
            }
            Order::Offer {
                offer,
                pc_id,
                restart,
                answer,
            } => {
                // It has waited for too long: the client was told to ask again.
                if answer.is_closed() {
                    return;
                }
                let goes_on = !restart && *pc_id == **self.live.pc_id() && self.live.can_go_on_with(&offer);
                let outcome = if goes_on {
                    self.renegotiate(&offer).await
                } else {
                    self.replace(&offer).await
                };
                let _ = answer.send(outcome);
            }
        }
    }

    async fn renegotiate(&mut self, offer: &Offer) -> Result<Answered, Refused> {
        let (sdp, restarts) = self.live.renegotiate(offer).await?;
        if restarts {
            self.restarting = Some(Instant::now() + self.timeouts.vanished);
            WEBRTC_RECONNECTIONS.inc();
            tracing::info!(session_id = %self.entry.session_id(), "ICE is restarted");
        }
        Ok(Answered {
            sdp,
            pc_id: self.live.pc_id().to_string(),
        })
    }

    /// Another peer connection for the same call.
    async fn replace(&mut self, offer: &Offer) -> Result<Answered, Refused> {
        WEBRTC_RECONNECTIONS.inc();
        let (mut live, sdp) = Live::answer(&self.engine, offer, &self.gate.scope).await?;
        live.count_on_from(&self.live);
        tracing::info!(session_id = %self.entry.session_id(), "the client makes another peer connection");
        self.entry.rename_peer(Arc::clone(live.pc_id()));
        self.outbox.close();
        self.live = live;
        if self.connected {
            // The old connection is gone whatever it says; the new one has the usual time to come.
            self.leaving.stays();
            let until = Instant::now() + self.timeouts.hold;
            match &mut self.cut {
                Some(cut) => cut.until = cut.until.max(until),
                None => {
                    self.cut = Some(Cut { until, told: false });
                    self.tell(CallerEvent::LineCut).await;
                }
            }
        }
        Ok(Answered {
            sdp,
            pc_id: self.live.pc_id().to_string(),
        })
    }

    fn note_audio(&mut self) {
        if !std::mem::replace(&mut self.heard_audio, true) {
            let longest = self.gate.config.webrtc.max_duration_secs;
            let longest = Duration::try_from_secs_f64(longest)
                .ok()
                .filter(|longest| !longest.is_zero());
            self.limit = longest.map(|longest| Instant::now() + longest);
        }
    }

    fn end_for_time(&mut self) {
        self.limit = None;
        let (calls, session_id) = (self.gate.calls.clone(), Arc::clone(self.entry.session_id()));
        self.gate.scope.spawn("webrtc time limit", async move {
            let ended = calls
                .end(&session_id, EndReason::TimeLimit, Some(TIME_IS_UP.to_owned()))
                .await;
            if let Err(error) = ended {
                tracing::debug!(%session_id, %error, "a session at its time limit was not ended");
            }
        });
    }

    async fn check_stuck(&mut self, taken: bool) {
        if taken {
            self.stuck_since = None;
            return;
        }
        let since = *self.stuck_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.gate.timeouts.stuck {
            let why = EndReason::TransportFailed("the client has stopped taking messages".to_owned());
            self.tell(CallerEvent::Closed(why)).await;
        }
    }

    async fn tell(&mut self, event: CallerEvent) {
        if self.over || !self.connected {
            return;
        }
        self.over = matches!(event, CallerEvent::Closed(_));
        self.over |= !self.input.send(event).await;
    }

    async fn measure(&mut self) {
        let jitter = self.live.report();
        let far = self.live.far_report().await;
        self.media.send_replace(MediaReport {
            rtt_ms: far.rtt.map_or(0.0, millis),
            jitter_ms: millis(jitter.jitter),
            loss_percent: jitter.loss_percent(),
            jitter_buffer_ms: millis(jitter.wait),
        });
    }

    /// The client is told, and gets a moment to hear of it before the connection is closed.
    async fn take_leave(&mut self) {
        const MOMENT: Duration = Duration::from_millis(200);
        if self.connected && self.cut.is_none() {
            self.outbox.send(chat::peer_left());
            self.outbox.flush(MOMENT).await;
        }
    }
}

fn millis(duration: Time) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
