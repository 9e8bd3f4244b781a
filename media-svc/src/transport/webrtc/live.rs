//! A peer connection with its audio in both directions.

use std::sync::Arc;
use std::time::Duration;

use media_core::Time;
use media_core::rtp::{AudioReceiver, AudioSender, Heard, JitterReport, Packet};
use service_kit::tasks::TaskScope;
use tokio::sync::mpsc;

use super::peer::{Engine, FarReport, PEER_EVENTS, Peer, PeerError, PeerEvent, PeerState};
use super::sdp::{Offer, Settled};
use super::{Refused, candidates};
use crate::metrics::WEBRTC_CONNECTIONS_ACTIVE;

/// The connection a session has at present.
pub struct Live {
    pc_id: Arc<str>,
    peer: Arc<Peer>,
    events: mpsc::Receiver<PeerEvent>,
    settled: Settled,
    receiver: AudioReceiver,
    sender: AudioSender,
    /// User name fragment of the client: another one restarts ICE.
    fragment: String,
    /// Candidates taken since then.
    candidates: usize,
    scope: TaskScope,
    _counted: Counted,
}

/// Longest that the library may take to close a connection: it has no limit of its own.
const CLOSING: Duration = Duration::from_secs(5);

struct Counted;

impl Counted {
    fn new() -> Self {
        WEBRTC_CONNECTIONS_ACTIVE.inc();
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        WEBRTC_CONNECTIONS_ACTIVE.dec();
    }
}

impl Live {
    /// A peer connection for this offer, and the answer to it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn answer(engine: &Engine, offer: &Offer, parent: &TaskScope) -> Result<(Self, String), PeerError> {
        let scope = parent.child("webrtc peer");
        let (event_sender, events) = mpsc::channel(PEER_EVENTS);
        let (peer, settled, answer) = Peer::answer(engine, offer, event_sender, &scope).await?;
        let codec = peer.codec();
        let live = Self {
            pc_id: uuid::Uuid::new_v4().to_string().into(),
            peer: Arc::new(peer),
            events,
            receiver: receiver(codec, &settled)?,
            sender: AudioSender::new(codec, rand::random()).map_err(|_| PeerError::NotSettled)?,
            settled,
            fragment: offer.fragment.clone(),
            candidates: offer.candidates,
            scope,
            _counted: Counted::new(),
        };
        Ok((live, answer))
    }

    /// Its name.
    pub fn pc_id(&self) -> &Arc<str> {
        &self.pc_id
    }

    /// The parent of its tasks.
    pub fn scope(&self) -> &TaskScope {
        &self.scope
    }

    /// How its connection is; `None` before it is on its way.
    pub fn state(&self) -> Option<PeerState> {
        self.peer.state()
    }

    /// What happens next.
    pub async fn event(&mut self) -> PeerEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The connection holds the other end.
            None => std::future::pending().await,
        }
    }

    /// Answers a further offer; true when it restarts ICE.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn renegotiate(&mut self, offer: &Offer) -> Result<(String, bool), PeerError> {
        let restarts = offer.fragment != self.fragment;
        let (settled, answer) = self.peer.negotiate(offer).await?;
        if settled != self.settled {
            self.receiver = receiver(self.peer.codec(), &settled)?;
            self.settled = settled;
        }
        if restarts {
            self.fragment.clone_from(&offer.fragment);
            self.candidates = 0;
        }
        self.candidates += offer.candidates;
        Ok((answer, restarts))
    }

    /// Whether an offer can be answered by this connection: its audio is where it was, in the codec it was.
    pub fn can_go_on_with(&self, offer: &Offer) -> bool {
        offer.audio_mid == self.peer.audio_mid() && offer.codec == self.peer.codec()
    }

    /// Takes candidates, up to what one offer may have.
    ///
    /// # Errors
    /// [`Refused::TooManyCandidates`], or the library's own.
    pub async fn add_candidates(&mut self, lines: Vec<String>) -> Result<(), Refused> {
        for line in lines {
            if self.candidates == candidates::MOST_CANDIDATES {
                return Err(Refused::TooManyCandidates);
            }
            self.candidates += 1;
            self.peer.add_candidate(line).await?;
        }
        Ok(())
    }

    /// Takes a packet of the client.
    pub fn push(&mut self, now: Time, packet: Packet) {
        self.receiver.push(now, packet);
    }

    /// What is to be heard of the client now.
    pub fn poll(&mut self, now: Time) -> Option<Heard> {
        self.receiver.poll(now)
    }

    /// When [`poll`](Self::poll) has something although nothing more comes.
    pub fn poll_deadline(&self) -> Option<Time> {
        self.receiver.poll_deadline()
    }

    /// What the client's audio has been like.
    pub fn report(&self) -> JitterReport {
        self.receiver.report()
    }

    /// What the client reports of ours; the encoder is told.
    pub async fn far_report(&mut self) -> FarReport {
        let report = self.peer.far_report().await;
        // A fraction between 0 and 1.
        self.sender.expect_loss((report.lost.clamp(0.0, 1.0) * 100.0) as u8);
        report
    }

    /// Sends the agent's next 20 ms.
    pub async fn send(&mut self, now: Time, frame: &[i16]) {
        match self.sender.packet(now, frame) {
            Ok(packet) => self.peer.send(packet).await,
            Err(error) => tracing::warn!(%error, "a frame of the agent's audio was not sent"),
        }
    }
}

impl Drop for Live {
    /// Ends the connection, in a task of its own: the library takes its time.
    fn drop(&mut self) {
        let (peer, scope) = (Arc::clone(&self.peer), self.scope.clone());
        self.scope.spawn("webrtc close", async move {
            if tokio::time::timeout(CLOSING, peer.close()).await.is_err() {
                tracing::warn!(limit = ?CLOSING, "a peer connection does not close and is left to itself");
            }
            scope.cancel();
        });
    }
}

fn receiver(codec: media_core::rtp::AudioCodec, settled: &Settled) -> Result<AudioReceiver, PeerError> {
    AudioReceiver::new(codec, settled.audio_type, settled.key_types.clone()).map_err(|_| PeerError::NotSettled)
}
