//! A WebRTC client on the `webrtc` crate, whose network a test can cut and make lose packets.

mod cable;
mod ear;
mod engine;
mod mic;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use media_core::rtp::{AudioCodec, SEND_RATE_HZ};
use serde_json::{Value, json};
use service_kit::tasks::TaskScope;
use tokio::sync::{Mutex, mpsc, watch};
use voxray::wav;
use webrtc::api::APIBuilder;
use webrtc::api::interceptor_registry::configure_rtcp_reports;
use webrtc::data_channel::RTCDataChannel;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::ice_transport::ice_server::RTCIceServer;
use webrtc::interceptor::registry::Registry;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::offer_answer_options::RTCOfferOptions;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;
use webrtc::peer_connection::policy::ice_transport_policy::RTCIceTransportPolicy;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;
use webrtc::rtp_transceiver::RTCRtpTransceiverInit;
use webrtc::rtp_transceiver::rtp_codec::RTPCodecType;
use webrtc::rtp_transceiver::rtp_transceiver_direction::RTCRtpTransceiverDirection;

use crate::scripted::TONE_HZ;
use crate::servers::tools::workspace_root;
use crate::wait::eventually;
pub use cable::Cable;
use ear::Ear;
use engine::{audio_codec, media_engine, settings};
use mic::Mic;

/// Whatever takes longer has failed.
const LIMIT: Duration = Duration::from_secs(20);
/// Audio of one packet.
const FRAME: Duration = Duration::from_millis(20);
/// Payload type of keys.
const KEYS_TYPE: u8 = 110;
/// Messages of the agent that nobody has read; when it is full, further ones are lost, and with them the test.
const MESSAGES: usize = 1_000;

/// What a client offers.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What it speaks.
    pub codec: AudioCodec,
    /// Its socket can be cut; otherwise it gathers sockets of its own, and can restart ICE.
    pub cable: bool,
    /// As pipecat's client: two video sections.
    pub video: bool,
    /// Pitch of the agent's voice.
    pub voice_hz: f64,
    /// The only address of its machine.
    pub address: IpAddr,
}

/// Opus, for an agent with the voice of [`crate::scripted`].
pub const PLAIN: Kind = Kind {
    codec: AudioCodec::Opus,
    cable: false,
    video: false,
    voice_hz: TONE_HZ,
    address: IpAddr::V4(Ipv4Addr::LOCALHOST),
};

/// The client; what it does in the background ends when it is dropped.
pub struct Client {
    /// Its peer connection.
    pub pc: Arc<RTCPeerConnection>,
    /// Its network.
    pub cable: Arc<Cable>,
    /// Where it offers.
    pub session_id: String,
    /// As the answer named it.
    pub pc_id: String,
    http: reqwest::Client,
    voice_hz: f64,
    mic: Mic,
    ear: Arc<Ear>,
    chat: Arc<RTCDataChannel>,
    messages: Mutex<mpsc::Receiver<String>>,
    state: watch::Receiver<RTCPeerConnectionState>,
    tasks: TaskScope,
}

impl Client {
    /// Not connected yet.
    ///
    /// # Errors
    /// The library does not make a connection like this.
    pub async fn new(session_id: &str, kind: Kind) -> anyhow::Result<Self> {
        Self::with(session_id, kind, RTCConfiguration::default()).await
    }

    /// One that reaches nothing but the TURN servers among these (`iceServers` of `/start`).
    ///
    /// # Errors
    /// The servers are none, or the library does not make a connection like this.
    pub async fn relayed(session_id: &str, kind: Kind, ice_servers: &Value) -> anyhow::Result<Self> {
        let servers: Vec<service_kit::config::IceServer> = serde_json::from_value(ice_servers.clone())?;
        let servers = servers.into_iter().map(|server| RTCIceServer {
            urls: server.urls,
            username: server.username.unwrap_or_default(),
            credential: server.credential.unwrap_or_default(),
        });
        let configuration = RTCConfiguration {
            ice_servers: servers.collect(),
            ice_transport_policy: RTCIceTransportPolicy::Relay,
            ..RTCConfiguration::default()
        };
        Self::with(session_id, kind, configuration).await
    }

    async fn with(session_id: &str, kind: Kind, configuration: RTCConfiguration) -> anyhow::Result<Self> {
        let cable = Arc::new(Cable::default());
        let audio = audio_codec(kind.codec);
        let payload_type = audio.payload_type;
        let api = APIBuilder::new()
            .with_media_engine(media_engine(&audio)?)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_setting_engine(settings(kind, &cable).await?)
            .build();
        let pc = Arc::new(api.new_peer_connection(configuration).await?);
        let mic = Mic::new(kind.codec, audio)?;
        let (ear, tasks) = (Arc::new(Ear::default()), TaskScope::root("webrtc client"));
        let sender = pc.add_track(mic.track()).await?;
        // The library works on the reports it hands out: they have to be read.
        let stopped = tasks.token();
        tasks.spawn("reports of what is sent", async move {
            let reading = async { while sender.read_rtcp().await.is_ok() {} };
            tokio::select! {
                () = reading => {}
                () = stopped.cancelled() => {}
            }
        });
        if kind.video {
            for direction in [
                RTCRtpTransceiverDirection::Sendrecv,
                RTCRtpTransceiverDirection::Sendonly,
            ] {
                let init = RTCRtpTransceiverInit {
                    direction,
                    send_encodings: Vec::new(),
                };
                pc.add_transceiver_from_kind(RTPCodecType::Video, Some(init)).await?;
            }
        }
        let (told, state) = watch::channel(RTCPeerConnectionState::New);
        pc.on_peer_connection_state_change(Box::new(move |state| {
            told.send_replace(state);
            Box::pin(async {})
        }));
        let (hearing, listener) = (tasks.clone(), Arc::clone(&ear));
        pc.on_track(Box::new(move |track, receiver, _| {
            let stopped = hearing.token();
            hearing.spawn("reports of what is heard", async move {
                let reading = async { while receiver.read_rtcp().await.is_ok() {} };
                tokio::select! {
                    () = reading => {}
                    () = stopped.cancelled() => {}
                }
            });
            let (ear, stopped) = (Arc::clone(&listener), hearing.token());
            hearing.spawn("ear", async move {
                tokio::select! {
                    listened = ear.listen(track, kind.codec, payload_type) => {
                        if let Err(error) = listened {
                            tracing::error!(%error, "the client hears nothing");
                        }
                    }
                    () = stopped.cancelled() => {}
                }
            });
            Box::pin(async {})
        }));
        let chat = pc.create_data_channel("chat", None).await?;
        let (inbox, messages) = mpsc::channel(MESSAGES);
        chat.on_message(Box::new(move |message| {
            let _ = inbox.try_send(String::from_utf8_lossy(&message.data).into_owned());
            Box::pin(async {})
        }));
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            pc,
            cable,
            session_id: session_id.to_owned(),
            pc_id: String::new(),
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build()?,
            voice_hz: kind.voice_hz,
            mic,
            ear,
            chat,
            messages: Mutex::new(messages),
            state,
            tasks,
        })
    }

    /// SDP with all of its candidates.
    ///
    /// # Errors
    /// The library makes no offer.
    pub async fn local_offer(&self, restart_ice: bool) -> anyhow::Result<String> {
        let options = RTCOfferOptions {
            ice_restart: restart_ice,
            ..RTCOfferOptions::default()
        };
        let offer = self.pc.create_offer(Some(options)).await?;
        let mut gathered = self.pc.gathering_complete_promise().await;
        self.pc.set_local_description(offer).await?;
        let _ = gathered.recv().await;
        let local = self.pc.local_description().await.context("there is no offer")?;
        Ok(local.sdp)
    }

    /// Offers through a signaling service, with `more` in the request; the answer as it came.
    ///
    /// # Errors
    /// The offer is refused, or its answer is none.
    pub async fn offer(&mut self, signaling: &str, more: &Value) -> anyhow::Result<Value> {
        let sdp = self.local_offer(false).await?;
        self.offer_this(signaling, sdp, more).await
    }

    /// Offers this SDP, which is made from the client's own.
    ///
    /// # Errors
    /// The offer is refused, or its answer is none.
    pub async fn offer_this(&mut self, signaling: &str, sdp: String, more: &Value) -> anyhow::Result<Value> {
        let mut body = more.clone();
        let fields = body.as_object_mut().context("no object")?;
        fields.insert("sdp".to_owned(), sdp.into());
        fields.insert("type".to_owned(), "offer".into());
        let url = format!("{signaling}/sessions/{}/api/offer", self.session_id);
        let response = self.http.post(url).json(&body).send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        if status != 200 {
            bail!("the offer was answered {status}: {answer}");
        }
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        self.pc_id = text("pc_id").with_context(|| format!("no pc_id in {answer}"))?;
        self.accept(text("sdp").with_context(|| format!("no sdp in {answer}"))?)
            .await?;
        Ok(answer)
    }

    /// Takes an answer's SDP.
    ///
    /// # Errors
    /// The library does not take it.
    pub async fn accept(&self, answer: String) -> anyhow::Result<()> {
        let answer = RTCSessionDescription::answer(answer)?;
        Ok(self.pc.set_remote_description(answer).await?)
    }

    /// Waits until media can flow.
    ///
    /// # Errors
    /// It cannot in time.
    pub async fn is_connected(&self) -> anyhow::Result<()> {
        let mut state = self.state.clone();
        let connected = state.wait_for(|state| *state == RTCPeerConnectionState::Connected);
        let connected = tokio::time::timeout(LIMIT, connected).await;
        connected.context("the client is not connected")??;
        Ok(())
    }

    /// Where the agent's media comes from.
    ///
    /// # Errors
    /// No way to the agent has been chosen.
    pub async fn far_end(&self) -> anyhow::Result<SocketAddr> {
        let transport = self.pc.sctp().transport();
        let pair = transport.ice_transport().get_selected_candidate_pair().await;
        let remote = pair.context("no candidate pair has been selected")?.remote;
        Ok(SocketAddr::new(remote.address.parse()?, remote.port))
    }

    /// Says a sentence of a real person, in its own time, and half a second of silence more than ends a turn.
    ///
    /// # Errors
    /// The sentence is not there, or cannot be encoded.
    pub async fn speak(&mut self) -> anyhow::Result<()> {
        self.play(&speech()?, None).await?;
        self.silence(Duration::from_millis(1_300)).await
    }

    /// Says nothing for so long.
    ///
    /// # Errors
    /// Silence cannot be encoded.
    pub async fn silence(&mut self, length: Duration) -> anyhow::Result<()> {
        self.mic.silence(length).await
    }

    /// Plays samples at 24 kHz; a key (its event code, RFC 4733) is pressed instead of the first frames.
    ///
    /// # Errors
    /// They cannot be encoded.
    pub async fn play(&mut self, samples: &[i16], key: Option<u8>) -> anyhow::Result<()> {
        self.mic.play(samples, key).await
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The data channel does not open in time.
    pub async fn say(&self, message: &str) -> anyhow::Result<()> {
        let open = || async { Ok((self.chat.ready_state() == RTCDataChannelState::Open).then_some(())) };
        eventually("the data channel to be open", LIMIT, open).await?;
        self.chat.send_text(message.to_owned()).await?;
        Ok(())
    }

    /// Sends what is no text.
    ///
    /// # Errors
    /// The data channel is not open.
    pub async fn say_bytes(&self, message: &'static [u8]) -> anyhow::Result<()> {
        self.chat.send(&Bytes::from_static(message)).await?;
        Ok(())
    }

    /// Sends an RTVI message.
    ///
    /// # Errors
    /// The data channel does not open in time.
    pub async fn tell(&self, kind: &str, data: &Value) -> anyhow::Result<()> {
        let message = json!({"label": "rtvi-ai", "type": kind, "id": "1", "data": data});
        self.say(&message.to_string()).await
    }

    /// The next message that is wanted.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn message(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let reading = async {
            let mut messages = self.messages.lock().await;
            loop {
                let message = messages.recv().await.context("the data channel is gone")?;
                let message: Value = serde_json::from_str(&message).context("a message is not JSON")?;
                if wanted(&message) {
                    return Ok(message);
                }
            }
        };
        let read = tokio::time::timeout(LIMIT, reading).await;
        read.context("the message that is waited for does not come")?
    }

    /// The next message of this type.
    ///
    /// # Errors
    /// None comes in time.
    pub async fn message_of(&self, kind: &str) -> anyhow::Result<Value> {
        let message = self.message(|message| message.get("type").is_some_and(|found| found == kind));
        message.await.with_context(|| format!("waiting for {kind}"))
    }

    /// Waits until the agent has said what it is saying.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn hears_out(&self) -> anyhow::Result<()> {
        self.message_of("bot-stopped-speaking").await.map(drop)
    }

    /// How long the agent's voice was heard since the last time.
    pub fn voice_heard(&self) -> Duration {
        self.ear.tone_heard(self.voice_hz)
    }

    /// Listens until the agent's voice was heard for so long.
    ///
    /// # Errors
    /// It is not heard in time.
    pub async fn hears_voice(&self, length: Duration) -> anyhow::Result<()> {
        let mut total = Duration::ZERO;
        eventually("the agent's voice", LIMIT, || {
            total += self.voice_heard();
            let heard = (total >= length).then_some(());
            async move { Ok(heard) }
        })
        .await
    }

    /// Hangs up.
    ///
    /// # Errors
    /// The connection is not closed cleanly.
    pub async fn close(self) -> anyhow::Result<()> {
        Ok(self.pc.close().await?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// A real person, at 24 kHz.
///
/// # Errors
/// The recording is not there.
pub fn speech() -> anyhow::Result<Vec<i16>> {
    let path = workspace_root().join("testdata/speech/cards-001.wav");
    let mut reader = hound::WavReader::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rate_hz = reader.spec().sample_rate;
    let samples: Vec<i16> = reader.samples::<i16>().collect::<Result<_, _>>()?;
    wav::resample(&samples, rate_hz, SEND_RATE_HZ)
}
