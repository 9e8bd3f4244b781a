//! A peer connection with its audio in both directions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use media_core::Time;
use media_core::rtp::{AudioReceiver, AudioSender, Heard, JitterReport, Packet};
use service_kit::tasks::TaskScope;
use tokio::sync::mpsc;

use super::Refused;
use super::candidates::MOST_CANDIDATES;
use super::peer::{Engine, FarReport, PEER_EVENTS, Peer, PeerError, PeerEvent, PeerState};
use super::sdp::{Offer, Settled};
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
    candidates: HashSet<String>,
    /// The client sends audio, by its last offer.
    client_sends: bool,
    /// What its audio was like in streams that are over.
    earlier: JitterReport,
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
            candidates: offer.candidates.iter().cloned().collect(),
            client_sends: offer.sends,
            earlier: JitterReport::default(),
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
    /// [`Refused::TooManyCandidates`] with those taken before, or [`PeerError`].
    pub async fn renegotiate(&mut self, offer: &Offer) -> Result<(String, bool), Refused> {
        let restarts = offer.fragment != self.fragment;
        // A restart forgets the candidates that were.
        let mut candidates = if restarts {
            HashSet::new()
        } else {
            self.candidates.clone()
        };
        candidates.extend(offer.candidates.iter().cloned());
        if candidates.len() > MOST_CANDIDATES {
            return Err(Refused::TooManyCandidates);
        }
        let (settled, answer) = self.peer.negotiate(offer).await?;
        if settled != self.settled {
            let receiver = receiver(self.peer.codec(), &settled)?;
            self.earlier = self.report();
            self.receiver = receiver;
            self.settled = settled;
        }
        self.fragment.clone_from(&offer.fragment);
        self.candidates = candidates;
        self.client_sends = offer.sends;
        Ok((answer, restarts))
    }

    /// Goes on counting where the connection before this one has stopped.
    pub fn count_on_from(&mut self, before: &Self) {
        self.earlier = before.report();
    }

    /// Whether the end of the client's audio means that it has closed its connection: it may have taken its track away
    /// by an offer.
    pub fn client_sends(&self) -> bool {
        self.client_sends
    }

    /// Whether an offer can be answered by this connection: its audio is where it was, in the codec it was.
    pub fn can_go_on_with(&self, offer: &Offer) -> bool {
        offer.audio_mid == self.peer.audio_mid() && offer.codec == self.peer.codec()
    }

    /// Takes candidates, up to what one offer may have; those that are there already are passed over.
    ///
    /// # Errors
    /// [`Refused::TooManyCandidates`], or the library's own.
    pub async fn add_candidates(&mut self, lines: Vec<String>) -> Result<(), Refused> {
        for line in lines {
            if self.candidates.contains(&line) {
                continue;
            }
            if self.candidates.len() >= MOST_CANDIDATES {
                return Err(Refused::TooManyCandidates);
            }
            self.candidates.insert(line.clone());
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

    /// What the client's audio has been like since the session began.
    pub fn report(&self) -> JitterReport {
        self.receiver.report().after(&self.earlier)
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
