//! One peer connection, on the `webrtc` crate. Nothing outside of this module and `port/` knows that crate: another
//! library has to bring [`Engine`], [`Peer`] and [`PeerEvent`].

mod codecs;
mod reading;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use media_core::rtp::{AudioCodec, Outgoing, Packet};
use service_kit::config::IceServer;
use service_kit::tasks::TaskScope;
use tokio::sync::mpsc;
use webrtc::api::APIBuilder;
use webrtc::api::interceptor_registry::configure_rtcp_reports;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::data_channel::RTCDataChannel;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::network_type::NetworkType;
use webrtc::ice::udp_network::UDPNetwork;
use webrtc::ice_transport::ice_candidate::RTCIceCandidateInit;
use webrtc::ice_transport::ice_server::RTCIceServer;
use webrtc::interceptor::registry::Registry;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtp_transceiver::rtp_codec::RTPCodecType;
use webrtc::rtp_transceiver::rtp_transceiver_direction::RTCRtpTransceiverDirection;
use webrtc::stats::StatsReportType;
use webrtc::track::track_local::TrackLocalWriter;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use super::port::MediaPort;
use super::sdp::{Offer, Settled, with_addresses};
use crate::metrics::WEBRTC_BYTES_SENT;
use crate::transport::RtcTimeouts;

/// What a peer has to tell, waiting for its call. Packets of a second; when it is full the peer is not read, and what
/// its own buffer cannot hold is lost.
pub const PEER_EVENTS: usize = 64;
/// Longest wait for TURN servers before an answer goes without them.
const GATHERING: Duration = Duration::from_secs(1);
/// Our checks of a connection: consent is asked for this often (RFC 7675 has 5 s, and forgets after 30).
const KEEPALIVE: Duration = Duration::from_secs(1);
/// The label of the data channel that messages go over; others are left alone.
const CHAT: &str = "chat";
/// Name of the agent's audio in the answer, and of the node where a TURN server wants one.
const STREAM: &str = "voxray";

/// What happens at a peer.
#[derive(Debug)]
pub enum PeerEvent {
    /// How the connection is.
    State(PeerState),
    /// Audio or a key.
    Packet(Packet),
    /// The client closed its connection in an orderly way, or has changed its track.
    TrackEnded,
    /// The data channel is open.
    ChatOpened(Chat),
    /// The client closed it, or its whole connection.
    ChatClosed,
    /// A text message.
    Message(String),
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// On its way.
    Connecting,
    /// Media flows.
    Connected,
    /// Nothing has come for a while.
    Disconnected,
    /// It has not come back.
    Failed,
    /// Over.
    Closed,
}

impl PeerState {
    /// Metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// Why an offer was not answered.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The library does not take it.
    #[error("the offer cannot be answered: {0}")]
    Offer(#[source] webrtc::Error),
    /// The answer has no audio after all.
    #[error("the offer cannot be answered: its audio was not accepted")]
    NotSettled,
    /// It failed for another reason.
    #[error("no peer connection could be made: {0}")]
    Engine(#[source] webrtc::Error),
    /// A candidate that is not taken.
    #[error("the candidate was not taken: {0}")]
    Candidate(#[source] webrtc::Error),
}

impl PeerError {
    /// Whether another offer might be answered.
    pub fn is_the_offers_fault(&self) -> bool {
        match self {
            Self::Offer(_) | Self::NotSettled | Self::Candidate(_) => true,
            Self::Engine(_) => false,
        }
    }
}

/// What the far end has told about what it hears of us.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FarReport {
    /// Round trip time, once it was measured.
    pub rtt: Option<Duration>,
    /// What of our packets was lost lately, 0 to 1.
    pub lost: f64,
}

/// Makes peers.
pub struct Engine {
    port: Arc<MediaPort>,
    turn_servers: Vec<IceServer>,
    timeouts: RtcTimeouts,
}

impl Engine {
    /// With the TURN servers of these; a STUN server tells nothing that `media.nat_ips` does not.
    pub fn new(port: Arc<MediaPort>, ice_servers: &[IceServer], timeouts: RtcTimeouts) -> Self {
        let turn = ice_servers.iter().filter_map(|server| {
            let urls = server.urls.iter().filter(|url| url.starts_with("turn"));
            let urls: Vec<String> = urls.cloned().collect();
            let server = server.clone();
            (!urls.is_empty()).then_some(IceServer { urls, ..server })
        });
        Self {
            turn_servers: turn.collect(),
            port,
            timeouts,
        }
    }

    /// With credentials that are good from now on.
    fn turn_servers(&self) -> Vec<RTCIceServer> {
        let now = SystemTime::now();
        let servers = self.turn_servers.iter().map(|server| {
            let server = server.for_client(STREAM, now);
            RTCIceServer {
                urls: server.urls,
                username: server.username.unwrap_or_default(),
                credential: server.credential.unwrap_or_default(),
            }
        });
        servers.collect()
    }

    /// What an offer says, with addresses as the peer needs them.
    pub fn port(&self) -> &MediaPort {
        &self.port
    }

    fn settings(&self) -> SettingEngine {
        let mut settings = SettingEngine::default();
        settings.set_udp_network(UDPNetwork::Muxed(self.port.mux()));
        settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
        // All of the port's addresses are one to the agent (see `port`); clients learn the real ones from the answer.
        settings.set_network_types(vec![NetworkType::Udp4]);
        settings.set_include_loopback_candidate(true);
        settings.set_ip_filter(Box::new(|ip| ip == std::net::Ipv4Addr::LOCALHOST));
        // A session decides itself how long it waits; a failed agent can be restarted like any other.
        settings.set_ice_timeouts(
            Some(self.timeouts.vanished),
            Some(2 * self.timeouts.hold),
            Some(KEEPALIVE),
        );
        settings
    }
}

/// A peer connection. Closed by [`close`](Self::close), or at the latest when its scope ends.
pub struct Peer {
    connection: Arc<RTCPeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    codec: AudioCodec,
    audio_mid: String,
    port: Arc<MediaPort>,
}

impl Peer {
    /// Answers a first offer: the peer, what was settled, and the answer with all our candidates.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn answer(
        engine: &Engine,
        offer: &Offer,
        events: mpsc::Sender<PeerEvent>,
        scope: &TaskScope,
    ) -> Result<(Self, Settled, String), PeerError> {
        let media = codecs::media_engine(offer.codec).map_err(PeerError::Engine)?;
        let registry = configure_rtcp_reports(Registry::new());
        let api = APIBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(registry)
            .with_setting_engine(engine.settings())
            .build();
        let configuration = RTCConfiguration {
            ice_servers: engine.turn_servers(),
            ..RTCConfiguration::default()
        };
        let connection = api
            .new_peer_connection(configuration)
            .await
            .map_err(PeerError::Engine)?;
        let capability = codecs::capability(offer.codec);
        let track = Arc::new(TrackLocalStaticRTP::new(
            capability,
            "audio".to_owned(),
            STREAM.to_owned(),
        ));
        let peer = Self {
            connection: Arc::new(connection),
            track: Arc::clone(&track),
            codec: offer.codec,
            audio_mid: offer.audio_mid.clone(),
            port: Arc::clone(&engine.port),
        };
        let sender = peer.connection.add_track(track).await.map_err(PeerError::Engine)?;
        peer.watch(&events, scope);
        match peer.negotiate(offer).await {
            Ok((settled, answer)) => {
                scope.spawn("webrtc reports", reading::read_reports(sender, scope.token()));
                Ok((peer, settled, answer))
            }
            Err(error) => {
                peer.close().await;
                Err(error)
            }
        }
    }

    /// Answers a further offer of the same client: other tracks, or ICE anew.
    ///
    /// # Errors
    /// [`PeerError`]; the connection stays as it was.
    pub async fn negotiate(&self, offer: &Offer) -> Result<(Settled, String), PeerError> {
        let connection = &self.connection;
        let description = RTCSessionDescription::offer(offer.sdp.clone()).map_err(PeerError::Offer)?;
        connection
            .set_remote_description(description)
            .await
            .map_err(PeerError::Offer)?;
        for transceiver in connection.get_transceivers().await {
            if transceiver.mid().is_none_or(|mid| mid.as_str() != self.audio_mid) {
                transceiver.set_direction(RTCRtpTransceiverDirection::Inactive).await;
            }
        }
        let answer = connection.create_answer(None).await.map_err(PeerError::Offer)?;
        connection
            .set_local_description(answer)
            .await
            .map_err(PeerError::Offer)?;
        let mut gathered = connection.gathering_complete_promise().await;
        // A TURN server that does not answer is not waited for.
        let _ = tokio::time::timeout(GATHERING, gathered.recv()).await;
        let answer = connection.local_description().await.ok_or(PeerError::NotSettled)?.sdp;
        let settled = Settled::read(&answer, &self.audio_mid, self.codec).ok_or(PeerError::NotSettled)?;
        Ok((
            settled,
            with_addresses(&answer, &self.audio_mid, self.port.advertised()),
        ))
    }

    /// How the connection is; `None` before it is on its way.
    pub fn state(&self) -> Option<PeerState> {
        known(self.connection.connection_state())
    }

    /// What audio is sent as.
    pub fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// The audio section that a further offer must have kept.
    pub fn audio_mid(&self) -> &str {
        &self.audio_mid
    }

    /// Adds a candidate, already translated.
    ///
    /// # Errors
    /// [`PeerError::Candidate`].
    pub async fn add_candidate(&self, candidate: String) -> Result<(), PeerError> {
        let init = RTCIceCandidateInit {
            candidate,
            ..RTCIceCandidateInit::default()
        };
        self.connection
            .add_ice_candidate(init)
            .await
            .map_err(PeerError::Candidate)
    }

    /// Sends audio; what a connection that is not there cannot send is lost.
    pub async fn send(&self, audio: Outgoing) {
        let mut packet = webrtc::rtp::packet::Packet {
            payload: audio.payload,
            ..webrtc::rtp::packet::Packet::default()
        };
        packet.header.version = 2;
        packet.header.sequence_number = audio.sequence;
        packet.header.timestamp = audio.timestamp;
        packet.header.marker = audio.marker;
        if let Ok(bytes) = self.track.write_rtp(&packet).await {
            WEBRTC_BYTES_SENT.inc_by(bytes as u64);
        }
    }

    /// What the far end reports of our audio.
    pub async fn far_report(&self) -> FarReport {
        let mut report = FarReport::default();
        for stats in self.connection.get_stats().await.reports.into_values() {
            if let StatsReportType::RemoteInboundRTP(far) = stats {
                let rtt = far.round_trip_time.filter(|rtt| rtt.is_finite() && *rtt >= 0.0);
                // The library tells it in milliseconds.
                report.rtt = rtt.map(|rtt| Duration::from_secs_f64(rtt / 1_000.0)).or(report.rtt);
                report.lost = far.fraction_lost;
            }
        }
        report
    }

    /// Ends the connection, and tells the client so.
    pub async fn close(&self) {
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a peer connection was not closed cleanly");
        }
    }

    fn watch(&self, events: &mpsc::Sender<PeerEvent>, scope: &TaskScope) {
        let states = events.clone();
        self.connection.on_peer_connection_state_change(Box::new(move |state| {
            let states = states.clone();
            Box::pin(async move {
                if let Some(state) = known(state) {
                    // A session that is over wants to know nothing.
                    let _ = states.send(PeerEvent::State(state)).await;
                }
            })
        }));
        let (packets, tasks) = (events.clone(), scope.clone());
        self.connection.on_track(Box::new(move |track, receiver, _| {
            if track.kind() == RTPCodecType::Audio {
                tasks.spawn(
                    "webrtc audio",
                    reading::read_track(track, packets.clone(), tasks.token()),
                );
                tasks.spawn(
                    "webrtc sender reports",
                    reading::read_sender_reports(receiver, tasks.token()),
                );
            }
            Box::pin(async {})
        }));
        let messages = events.clone();
        self.connection.on_data_channel(Box::new(move |channel| {
            if channel.label() == CHAT {
                reading::listen(channel, &messages);
            }
            Box::pin(async {})
        }));
    }
}

/// The data channel, open.
#[derive(Clone)]
pub struct Chat(Arc<RTCDataChannel>);

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chat")
    }
}

impl Chat {
    /// Sends a text message; false when the channel is not there any more.
    pub async fn send(&self, text: String) -> bool {
        self.0.send_text(text).await.is_ok()
    }

    /// Bytes that wait for the client.
    pub async fn waiting(&self) -> usize {
        self.0.buffered_amount().await
    }
}

fn known(state: RTCPeerConnectionState) -> Option<PeerState> {
    match state {
        RTCPeerConnectionState::Unspecified | RTCPeerConnectionState::New => None,
        RTCPeerConnectionState::Connecting => Some(PeerState::Connecting),
        RTCPeerConnectionState::Connected => Some(PeerState::Connected),
        RTCPeerConnectionState::Disconnected => Some(PeerState::Disconnected),
        RTCPeerConnectionState::Failed => Some(PeerState::Failed),
        RTCPeerConnectionState::Closed => Some(PeerState::Closed),
    }
}
