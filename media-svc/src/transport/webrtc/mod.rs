//! WebRTC sessions: offers and candidates in, a call on the peer connection.
//!
//! A session is made by its first offer and outlives its peer connections: a client that has lost its own makes another
//! one in the same session, and the call goes on ([`line`]).

mod candidates;
mod chat;
mod leaving;
mod line;
mod live;
mod peer;
mod port;
mod sdp;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use media_core::rtp::{RECEIVE_RATE_HZ, SEND_RATE_HZ};
use serde_json::Value;
use service_kit::config::{Config, MediaTransport};
use service_kit::exit::Fatal;
use service_kit::http::{ActiveConnection, LiveRoute};
use service_kit::tasks::TaskScope;
use service_kit::token::Claims;
use service_kit::trace::Parent;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::admission::NotAdmitted;
use crate::call::registry::transport_name;
use crate::call::{TransportTraits, link};
use crate::metrics::WEBRTC_CONNECTION_FAILURES;
use candidates::BadCandidate;
use line::Line;
use live::Live;
use peer::{Engine, PeerError};
use port::MediaPort;
use sdp::{Offer, OfferError};
use sessions::{Order, Sessions};

/// Orders that wait for a session: offers and candidates come one after the other, so more than a few are abuse. When
/// it is full, they are refused.
const ORDERS: usize = 16;
/// Longest wait for a session to take an order and answer it: the control plane waits for 2 s.
const ORDER_TIMEOUT: Duration = Duration::from_millis(1_800);
/// How long the far end may take to close after the call.
const FAREWELL: Duration = Duration::from_secs(3);

/// Opus decodes to what recognition wants; the agent speaks at 24 kHz, and is one frame ahead of the clock: what the
/// network does to it is evened out by the client.
const WEBRTC: TransportTraits = TransportTraits {
    name: "webrtc",
    input_rate_hz: RECEIVE_RATE_HZ,
    output_rate_hz: SEND_RATE_HZ,
    recording_rate_hz: 16_000,
    echoes_marks: false,
    playout_lead: Duration::from_millis(20),
};

/// An offer as the control plane passes it on.
#[derive(Debug, Clone, Default)]
pub struct OfferOrder {
    /// Session.
    pub session_id: String,
    /// SDP.
    pub sdp: String,
    /// The peer connection it is about, or empty.
    pub pc_id: String,
    /// That one is to be replaced.
    pub restart: bool,
    /// Template variables as JSON, or empty.
    pub body_json: String,
    /// Where the trace of the offer has got to.
    pub trace: Parent,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// SDP with all candidates.
    pub sdp: String,
    /// Names the peer connection.
    pub pc_id: String,
}

/// Why an offer or a candidate was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// This node has no WebRTC.
    #[error("this node serves no webrtc")]
    NotServed,
    /// The offer is at fault.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The library did not make a connection of it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// A candidate is at fault.
    #[error(transparent)]
    Candidate(#[from] BadCandidate),
    /// More candidates than any client has.
    #[error("more than {} candidates were sent for this offer", candidates::MOST_CANDIDATES)]
    TooManyCandidates,
    /// The node does not take the session.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// There is no such peer connection in this session.
    #[error("there is no such peer connection on this media node")]
    Unknown,
    /// The session does not answer.
    #[error("the session is busy or has just ended")]
    Busy,
}

/// The WebRTC of a node.
pub struct WebRtc {
    engine: Arc<Engine>,
    sessions: Arc<Sessions>,
}

impl WebRtc {
    /// Opens the port; `None` where `media.transports` has no `webrtc`.
    ///
    /// # Errors
    /// The port is taken, or this machine does not have the address.
    pub fn open(config: &Config, timeouts: super::RtcTimeouts, scope: &TaskScope) -> Result<Option<Self>, Fatal> {
        if !config.media.transports.contains(&MediaTransport::WebRtc) {
            return Ok(None);
        }
        let port = Arc::new(MediaPort::open(config, scope)?);
        Ok(Some(Self {
            engine: Arc::new(Engine::new(port, &config.webrtc.ice_servers, timeouts)),
            sessions: Arc::default(),
        }))
    }

    /// Answers an offer: the first of a session makes its call, a later one goes on with it.
    ///
    /// # Errors
    /// [`Refused`]; a session that was there goes on as before.
    pub async fn offer(&self, gate: &Arc<Gate>, order: OfferOrder) -> Result<Answered, Refused> {
        let offer = Offer::read(&order.sdp, |peer| self.engine.port().stand_in(peer))?;
        if let Some(orders) = self.sessions.of_session(&order.session_id) {
            let (answer, answered) = oneshot::channel();
            let reoffer = Order::Offer {
                offer: Box::new(offer),
                pc_id: order.pc_id,
                restart: order.restart,
                answer,
            };
            return ask(&orders, reoffer, answered).await;
        }
        // In a task of its own: a panic inside the library costs this offer and nothing else.
        let (answer, answered) = oneshot::channel();
        let scope = gate.scope.child("webrtc offer");
        let (engine, sessions, gate) = (Arc::clone(&self.engine), Arc::clone(&self.sessions), Arc::clone(gate));
        scope.spawn("webrtc offer", async move {
            let _ = answer.send(begin(gate, engine, sessions, order, offer).await);
        });
        answered.await.unwrap_or(Err(Refused::Busy))
    }

    /// Brings candidates to the peer connection of this name, in this session where one is named.
    ///
    /// # Errors
    /// [`Refused`]; candidates before the one at fault are taken.
    pub async fn add_candidates(&self, session_id: &str, pc_id: String, lines: Vec<String>) -> Result<(), Refused> {
        let (owner, orders) = self.sessions.of_peer(&pc_id).ok_or(Refused::Unknown)?;
        if !session_id.is_empty() && *owner != *session_id {
            return Err(Refused::Unknown);
        }
        if lines.len() > candidates::MOST_CANDIDATES {
            return Err(Refused::TooManyCandidates);
        }
        let mut translated = Vec::with_capacity(lines.len());
        for line in lines.iter().filter(|line| !is_end(line)) {
            translated.extend(candidates::translated(line, |peer| self.engine.port().stand_in(peer))?);
        }
        let (done, answered) = oneshot::channel();
        let candidates = Order::Candidates {
            pc_id,
            candidates: translated,
            done,
        };
        ask(&orders, candidates, answered).await
    }
}

/// An empty candidate ends the list. Checks go on as long as they did without that, so it changes nothing.
fn is_end(line: &str) -> bool {
    matches!(
        line.trim(),
        "" | "a=end-of-candidates" | "end-of-candidates" | "candidate:"
    )
}

async fn ask<T>(
    orders: &mpsc::Sender<Order>,
    order: Order,
    answered: oneshot::Receiver<Result<T, Refused>>,
) -> Result<T, Refused> {
    orders.try_send(order).map_err(|_| Refused::Busy)?;
    match tokio::time::timeout(ORDER_TIMEOUT, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(Refused::Busy),
    }
}

/// The first offer of a session. Its slot first, for looking for addresses takes a second in which others come; then the
/// peer, so that a bad offer costs no session.
async fn begin(
    gate: Arc<Gate>,
    engine: Arc<Engine>,
    sessions: Arc<Sessions>,
    order: OfferOrder,
    offer: Offer,
) -> Result<Answered, Refused> {
    let held = gate.calls.hold(MediaTransport::WebRtc, &order.session_id);
    let held = held.map_err(|refusal| {
        gate.calls.count_refusal(MediaTransport::WebRtc, refusal);
        NotAdmitted::from(refusal)
    })?;
    let (live, answer) = Live::answer(&engine, &offer, &gate.scope).await?;
    let claims = Claims {
        session_id: order.session_id.clone(),
        transport: transport_name(MediaTransport::WebRtc).to_owned(),
        provider: String::new(),
        call_id: String::new(),
        expires_at: 0,
        body_json: order.body_json,
    };
    let mut admitted = gate.admit_session(claims, MediaTransport::WebRtc).await?;
    drop(held);
    // Whoever ends the session from now on finds it here; who has done it before did not. Without an answer it goes on.
    if gate.store.is_void(&order.session_id).await.unwrap_or(false) {
        gate.turn_away(admitted).await;
        return Err(Refused::Unknown);
    }
    admitted.continue_trace(order.trace);
    let (caller, transport) = link(gate.config.pipeline.input_queue_cap);
    let (order_sender, orders) = mpsc::channel(ORDERS);
    let entry = sessions.enter(admitted.session_id.clone(), live.pc_id().clone(), order_sender);
    let answered = Answered {
        sdp: answer,
        pc_id: live.pc_id().to_string(),
    };
    // A scope of its own: a panic ends this call and nothing else.
    let scope = gate.scope.child("webrtc call");
    let line_scope = scope.clone();
    scope.spawn("webrtc call", async move {
        let _open = ActiveConnection::open(LiveRoute::WebRtc);
        let mut line = Line::new(Arc::clone(&gate), engine, entry, transport, orders, live);
        if !line.connect().await {
            WEBRTC_CONNECTION_FAILURES.with_label_values(&["timeout"]).inc();
            tracing::info!(session_id = %admitted.session_id, "a WebRTC client was answered and did not connect");
            drop(line);
            gate.turn_away(admitted).await;
            return;
        }
        gate.say_connected(&admitted).await;
        admitted.watch_media(line.media());
        let carried = CancellationToken::new();
        let carrying = carried.clone().drop_guard();
        let _line = line_scope.spawn_owned("webrtc line", async move {
            let _carrying = carrying;
            line.carry().await;
        });
        gate.run(admitted, Value::Null, WEBRTC, caller).await;
        // The line ends by itself: with the call's queue closed it takes leave of the client.
        let _ = tokio::time::timeout(FAREWELL, carried.cancelled()).await;
    });
    Ok(answered)
}
