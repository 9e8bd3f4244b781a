//! A client on the `webrtc` crate, whose network a test can cut and make lose packets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use media_core::audio::goertzel;
use media_core::rtp::{AudioCodec, AudioReceiver, AudioSender, Heard, Packet, RECEIVE_RATE_HZ, SEND_RATE_HZ};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use voxray_testkit::servers::tools::workspace_root;
use webrtc::api::APIBuilder;
use webrtc::api::interceptor_registry::configure_rtcp_reports;
use webrtc::api::media_engine::{
    MIME_TYPE_OPUS, MIME_TYPE_PCMA, MIME_TYPE_PCMU, MIME_TYPE_TELEPHONE_EVENT, MIME_TYPE_VP8, MediaEngine,
};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::data_channel::RTCDataChannel;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::udp_mux::{UDPMuxDefault, UDPMuxParams};
use webrtc::ice::udp_network::UDPNetwork;
use webrtc::interceptor::registry::Registry;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::offer_answer_options::RTCOfferOptions;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtp_transceiver::RTCRtpTransceiverInit;
use webrtc::rtp_transceiver::rtp_codec::{RTCRtpCodecCapability, RTCRtpCodecParameters, RTPCodecType};
use webrtc::rtp_transceiver::rtp_transceiver_direction::RTCRtpTransceiverDirection;
use webrtc::track::track_local::{TrackLocal, TrackLocalContext, TrackLocalWriter};
use webrtc::util::{Conn, Error};

use crate::plane::{LIMIT, Plane, eventually};

/// Pitch of the scripted voice.
const VOICE_HZ: f64 = 440.0;
const FRAME: Duration = Duration::from_millis(20);
const KEYS_TYPE: u8 = 110;

/// The client's network.
#[derive(Default)]
pub struct Cable {
    cut: AtomicBool,
    /// Every n-th media packet of the client is lost; 0 = none.
    lose_every: AtomicU32,
    sent: AtomicU32,
}

impl Cable {
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    pub fn lose_every(&self, nth: u32) {
        self.lose_every.store(nth, Ordering::SeqCst);
    }

    fn is_lost(&self, packet: &[u8]) -> bool {
        let nth = self.lose_every.load(Ordering::SeqCst);
        let is_media = packet.len() > 20 && packet[0] & 0xC0 == 0x80 && !(192..=223).contains(&packet[1]);
        let count = self.sent.fetch_add(u32::from(is_media), Ordering::SeqCst);
        self.cut.load(Ordering::SeqCst) || (is_media && nth > 0 && count % nth == nth - 1)
    }
}

struct Plugged {
    socket: UdpSocket,
    cable: Arc<Cable>,
}

#[async_trait]
impl Conn for Plugged {
    async fn connect(&self, _: SocketAddr) -> Result<(), Error> {
        unimplemented!("many far ends")
    }
    async fn recv(&self, _: &mut [u8]) -> Result<usize, Error> {
        unimplemented!("many far ends")
    }
    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        loop {
            let received = self.socket.recv_from(buf).await?;
            if !self.cable.cut.load(Ordering::SeqCst) {
                return Ok(received);
            }
        }
    }
    async fn send(&self, _: &[u8]) -> Result<usize, Error> {
        unimplemented!("many far ends")
    }
    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> Result<usize, Error> {
        if self.cable.is_lost(buf) {
            return Ok(buf.len());
        }
        Ok(self.socket.send_to(buf, target).await?)
    }
    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.socket.local_addr()?)
    }
    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// What a client offers.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub codec: AudioCodec,
    /// Its socket can be cut; otherwise it gathers sockets of its own, and can restart ICE.
    pub cable: bool,
    /// As pipecat's client: two video sections.
    pub video: bool,
}

pub const PLAIN: Kind = Kind {
    codec: AudioCodec::Opus,
    cable: false,
    video: false,
};

pub struct Client {
    pub pc: Arc<RTCPeerConnection>,
    pub cable: Arc<Cable>,
    pub session_id: String,
    pub pc_id: String,
    codec: AudioCodec,
    track: Arc<Mic>,
    sender: AudioSender,
    started: Instant,
    chat: Arc<RTCDataChannel>,
    messages: tokio::sync::Mutex<mpsc::Receiver<String>>,
    heard: Arc<Mutex<Vec<i16>>>,
    state: Arc<Mutex<RTCPeerConnectionState>>,
}

impl Client {
    /// Not connected yet.
    pub async fn new(session_id: &str, kind: Kind) -> Self {
        let cable = Arc::new(Cable::default());
        let mut settings = SettingEngine::default();
        settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
        settings.set_include_loopback_candidate(true);
        settings.set_ip_filter(Box::new(|ip| ip == std::net::Ipv4Addr::LOCALHOST));
        let patience = Some(Duration::from_secs(60));
        settings.set_ice_timeouts(patience, patience, Some(Duration::from_millis(200)));
        if kind.cable {
            let plugged = Plugged {
                socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
                cable: Arc::clone(&cable),
            };
            settings.set_udp_network(UDPNetwork::Muxed(UDPMuxDefault::new(UDPMuxParams::new(plugged))));
        }
        let mut media = MediaEngine::default();
        let (mime, channels, number) = match kind.codec {
            AudioCodec::Opus => (MIME_TYPE_OPUS, 2, 111),
            AudioCodec::Pcmu => (MIME_TYPE_PCMU, 0, 0),
            AudioCodec::Pcma => (MIME_TYPE_PCMA, 0, 8),
        };
        let clock_rate = kind.codec.clock_hz();
        let opus = if kind.codec == AudioCodec::Opus {
            "minptime=10;useinbandfec=1"
        } else {
            ""
        };
        let audio = parameters(mime, clock_rate, channels, number, opus);
        media.register_codec(audio.clone(), RTPCodecType::Audio).unwrap();
        let keys = parameters(MIME_TYPE_TELEPHONE_EVENT, clock_rate, 0, KEYS_TYPE, "0-16");
        media.register_codec(keys, RTPCodecType::Audio).unwrap();
        media
            .register_codec(parameters(MIME_TYPE_VP8, 90_000, 0, 96, ""), RTPCodecType::Video)
            .unwrap();
        let api = APIBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_setting_engine(settings)
            .build();
        let pc = Arc::new(api.new_peer_connection(RTCConfiguration::default()).await.unwrap());
        let track = Arc::new(Mic {
            codec: audio,
            binding: Mutex::default(),
        });
        pc.add_track(Arc::clone(&track) as _).await.unwrap();
        if kind.video {
            for direction in [
                RTCRtpTransceiverDirection::Sendrecv,
                RTCRtpTransceiverDirection::Sendonly,
            ] {
                let init = RTCRtpTransceiverInit {
                    direction,
                    send_encodings: Vec::new(),
                };
                pc.add_transceiver_from_kind(RTPCodecType::Video, Some(init))
                    .await
                    .unwrap();
            }
        }
        let state = Arc::new(Mutex::new(RTCPeerConnectionState::New));
        let told = Arc::clone(&state);
        pc.on_peer_connection_state_change(Box::new(move |state| {
            *told.lock().unwrap() = state;
            Box::pin(async {})
        }));
        let heard: Arc<Mutex<Vec<i16>>> = Arc::default();
        let (ear, codec) = (Arc::clone(&heard), kind.codec);
        pc.on_track(Box::new(move |track, _, _| {
            let ear = Arc::clone(&ear);
            tokio::spawn(async move {
                let mut receiver = AudioReceiver::new(codec, number, vec![KEYS_TYPE]).unwrap();
                let started = Instant::now();
                while let Ok((packet, _)) = track.read_rtp().await {
                    let packet = Packet {
                        payload_type: packet.header.payload_type,
                        sequence: packet.header.sequence_number,
                        timestamp: packet.header.timestamp,
                        payload: packet.payload,
                    };
                    receiver.push(started.elapsed(), packet);
                    while let Some(heard) = receiver.poll(started.elapsed()) {
                        if let Heard::Audio(samples) = heard {
                            ear.lock().unwrap().extend(samples);
                        }
                    }
                }
            });
            Box::pin(async {})
        }));
        let chat = pc.create_data_channel("chat", None).await.unwrap();
        let (message_sender, messages) = mpsc::channel(1_000);
        chat.on_message(Box::new(move |message| {
            let _ = message_sender.try_send(String::from_utf8(message.data.to_vec()).unwrap());
            Box::pin(async {})
        }));
        Self {
            pc,
            cable,
            session_id: session_id.to_owned(),
            pc_id: String::new(),
            codec,
            track,
            sender: AudioSender::new(codec, 1).unwrap(),
            started: Instant::now(),
            chat,
            messages: tokio::sync::Mutex::new(messages),
            heard,
            state,
        }
    }

    /// A client of a new session, talking.
    pub async fn connected(plane: &Plane, kind: Kind) -> Self {
        let session_id = plane.begin(json!({})).await;
        let mut client = Self::new(&session_id, kind).await;
        client.offer(plane, &json!({})).await;
        client.is_connected().await;
        client
    }

    /// SDP with all of its candidates.
    pub async fn local_offer(&self, restart_ice: bool) -> String {
        let options = RTCOfferOptions {
            ice_restart: restart_ice,
            ..RTCOfferOptions::default()
        };
        let offer = self.pc.create_offer(Some(options)).await.unwrap();
        let mut gathered = self.pc.gathering_complete_promise().await;
        self.pc.set_local_description(offer).await.unwrap();
        let _ = gathered.recv().await;
        self.pc.local_description().await.unwrap().sdp
    }

    /// Offers through the first signaling service; the answer as it came.
    pub async fn offer(&mut self, plane: &Plane, more: &Value) -> Value {
        let sdp = self.local_offer(false).await;
        self.offer_this(plane, sdp, more).await
    }

    pub async fn offer_this(&mut self, plane: &Plane, sdp: String, more: &Value) -> Value {
        let mut body = json!({ "sdp": sdp, "type": "offer" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let url = format!("{}/sessions/{}/api/offer", plane.a, self.session_id);
        let (status, answer) = plane.ask(Method::POST, &url, &body).await;
        assert_eq!(status, 200, "{answer}");
        self.pc_id = answer["pc_id"].as_str().unwrap().to_owned();
        let sdp = answer["sdp"].as_str().unwrap().to_owned();
        self.pc
            .set_remote_description(RTCSessionDescription::answer(sdp).unwrap())
            .await
            .unwrap();
        answer
    }

    pub async fn is_connected(&self) {
        eventually("the client is connected", async || {
            *self.state.lock().unwrap() == RTCPeerConnectionState::Connected
        })
        .await;
    }

    /// Says a sentence of a real person, in its own time, and half a second of silence more than ends a turn.
    pub async fn speak(&mut self) {
        self.play(&speech(), None).await;
        self.silence(Duration::from_millis(1_300)).await;
    }

    pub async fn silence(&mut self, length: Duration) {
        let samples = usize::try_from(u128::from(SEND_RATE_HZ) * length.as_millis() / 1_000).unwrap();
        self.play(&vec![0; samples], None).await;
    }

    /// Plays samples at 24 kHz; a key is pressed instead of the first frames.
    pub async fn play(&mut self, samples: &[i16], key: Option<u8>) {
        let mut tick = tokio::time::interval(FRAME);
        for (number, frame) in samples.chunks(480).enumerate() {
            tick.tick().await;
            let outgoing = self.sender.packet(self.started.elapsed(), frame).unwrap();
            let mut packet = webrtc::rtp::packet::Packet::default();
            packet.header.version = 2;
            packet.header.sequence_number = outgoing.sequence;
            packet.header.timestamp = outgoing.timestamp;
            packet.header.marker = outgoing.marker;
            packet.header.payload_type = self.track.codec.payload_type;
            packet.payload = outgoing.payload;
            if let Some(key) = key.filter(|_| number < 8) {
                let length = u16::try_from(number + 1).unwrap() * u16::try_from(self.codec.clock_hz() / 50).unwrap();
                let [high, low] = length.to_be_bytes();
                packet.header.timestamp -= u32::try_from(number).unwrap() * self.codec.clock_hz() / 50;
                packet.header.payload_type = KEYS_TYPE;
                packet.payload = Bytes::from(vec![key, u8::from(number > 4) << 7 | 10, high, low]);
            }
            self.track.send(packet).await;
        }
    }

    pub async fn say(&self, message: &str) {
        eventually("the channel is open", async || {
            self.chat.ready_state() == webrtc::data_channel::data_channel_state::RTCDataChannelState::Open
        })
        .await;
        self.chat.send_text(message.to_owned()).await.unwrap();
    }

    /// The next message that is wanted.
    pub async fn message(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let reading = async {
            let mut messages = self.messages.lock().await;
            loop {
                let message: Value = serde_json::from_str(&messages.recv().await.unwrap()).unwrap();
                if wanted(&message) {
                    return message;
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.expect("the message comes")
    }

    pub async fn message_of(&self, kind: &str) -> Value {
        self.message(|message| message["type"] == kind).await
    }

    /// Waits until the agent has said what it is saying.
    pub async fn hears_out(&self) {
        self.message_of("bot-stopped-speaking").await;
    }

    /// How long the agent's voice was heard since the last time.
    pub fn voice_heard(&self) -> Duration {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        let frames = heard.chunks_exact(320).filter(|frame| is_voice(frame)).count();
        FRAME * u32::try_from(frames).unwrap()
    }

    /// Listens until the agent's voice was heard for so long.
    pub async fn hears_voice(&self, length: Duration) {
        let total = Mutex::new(Duration::ZERO);
        eventually("the agent is heard", async || {
            let mut total = total.lock().unwrap();
            *total += self.voice_heard();
            *total >= length
        })
        .await;
    }

    pub async fn close(self) {
        self.pc.close().await.unwrap();
    }
}

/// The tone that the scripted voice is made of, and hardly anything else.
fn is_voice(frame: &[i16]) -> bool {
    goertzel::level_db(frame) > -30.0 && goertzel::share(frame, VOICE_HZ, RECEIVE_RATE_HZ) > 0.8
}

/// The client's track: unlike the library's own it leaves the payload type alone, for keys go over it as well.
struct Mic {
    codec: RTCRtpCodecParameters,
    binding: Mutex<Option<(u32, Arc<dyn TrackLocalWriter + Send + Sync>)>>,
}

impl Mic {
    async fn send(&self, mut packet: webrtc::rtp::packet::Packet) {
        let Some((ssrc, stream)) = self.binding.lock().unwrap().clone() else {
            return;
        };
        packet.header.ssrc = ssrc;
        // A connection that is gone takes nothing.
        let _ = stream.write_rtp(&packet).await;
    }
}

#[async_trait]
impl TrackLocal for Mic {
    async fn bind(&self, context: &TrackLocalContext) -> webrtc::error::Result<RTCRtpCodecParameters> {
        *self.binding.lock().unwrap() = Some((context.ssrc(), context.write_stream()));
        Ok(self.codec.clone())
    }
    async fn unbind(&self, _: &TrackLocalContext) -> webrtc::error::Result<()> {
        *self.binding.lock().unwrap() = None;
        Ok(())
    }
    fn id(&self) -> &str {
        "mic"
    }
    fn rid(&self) -> Option<&str> {
        None
    }
    fn stream_id(&self) -> &str {
        "client"
    }
    fn kind(&self) -> RTPCodecType {
        RTPCodecType::Audio
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

fn parameters(mime: &str, clock_rate: u32, channels: u16, payload_type: u8, fmtp: &str) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        capability: RTCRtpCodecCapability {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
        ..RTCRtpCodecParameters::default()
    }
}

/// A real person, at 24 kHz.
pub fn speech() -> Vec<i16> {
    let path = workspace_root().join("testdata/speech/cards-001.wav");
    let mut reader = hound::WavReader::open(path).unwrap();
    let rate = reader.spec().sample_rate;
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    voxray::wav::resample(&samples, rate, SEND_RATE_HZ).unwrap()
}
