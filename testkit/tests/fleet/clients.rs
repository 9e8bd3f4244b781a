//! Clients that are no phones: pages that speak over `/ws` and over WebRTC, each of which calls again as soon as its call is
//! over. Nothing is tried twice: what is refused, cut or not answered is a call that has failed.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use media_core::wire::pipecat::{self, PipecatFrame};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use voxray::caller::rms;
use voxray::wav;
use voxray_testkit::webrtc_client::{Client, PLAIN};

use crate::{load, scale};

const PACKET: Duration = Duration::from_millis(20);
/// Rate of a page's microphone, and samples of it in a packet.
const MIC_HZ: u32 = 16_000;
const MIC_PACKET: usize = 320;
/// Root mean square above which a packet is the agent.
const LOUD_RMS: f64 = 300.0;
/// Packets of the agent that are something it says, and no remainder.
const SOMETHING_SAID: usize = 15;
const VOICE: Duration = Duration::from_millis(300);

/// What a client connects with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    WebSocket,
    WebRtc,
}

/// One call, when it is over.
#[derive(Debug)]
pub struct Spoken {
    pub transport: Transport,
    pub outcome: anyhow::Result<()>,
}

/// The clients.
pub struct Clients {
    stop: CancellationToken,
    clients: Vec<JoinHandle<Vec<Spoken>>>,
}

impl Clients {
    /// So many of each kind, at this address. The sockets of every second one come to it without their node's name.
    pub fn of(url: &str, sockets: usize, webrtc: usize) -> Self {
        let stop = CancellationToken::new();
        let kinds = std::iter::repeat_n(Transport::WebSocket, sockets);
        let kinds = kinds.chain(std::iter::repeat_n(Transport::WebRtc, webrtc));
        let clients = kinds.enumerate().map(|(number, transport)| {
            let (url, stop) = (url.to_owned(), stop.clone());
            tokio::spawn(async move {
                let mut spoken = Vec::new();
                while !stop.is_cancelled() {
                    let rounds = load::rounds(number + spoken.len());
                    let outcome = match transport {
                        Transport::WebSocket => over_a_socket(&url, number % 2 == 1, rounds).await,
                        Transport::WebRtc => over_webrtc(&url).await,
                    };
                    let failed = outcome.is_err();
                    spoken.push(Spoken { transport, outcome });
                    if failed {
                        let _ = timeout(load::CALL_AGAIN, stop.cancelled()).await;
                    }
                }
                spoken
            })
        });
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    /// Lets every client finish the call it is in.
    pub async fn stop(self) -> Vec<Spoken> {
        self.stop.cancel();
        let spoken = futures_util::future::join_all(self.clients).await;
        spoken.into_iter().flat_map(Result::unwrap).collect()
    }
}

/// Makes a session: the answer of `/start`.
async fn start(url: &str, transport: &str) -> anyhow::Result<Value> {
    let asked = voxray_testkit::api::client().post(format!("{url}/start"));
    let answer = asked.json(&json!({ "transport": transport })).send().await?;
    let status = answer.status();
    let body = answer.text().await?;
    if status != 201 {
        bail!("/start was answered {status}: {body}");
    }
    Ok(serde_json::from_str(&body)?)
}

/// Greeted, understood and answered, over WebRTC.
async fn over_webrtc(url: &str) -> anyhow::Result<()> {
    let started = start(url, "webrtc").await?;
    let session_id = started["sessionId"].as_str().context("no sessionId")?;
    let mut client = Client::new(session_id, PLAIN).await?;
    client.offer(url, &json!({})).await?;
    client.is_connected().await?;
    client.hears_voice(VOICE).await.context("the greeting")?;
    client.hears_out().await?;
    client.speak().await?;
    client.message_of("user-transcription").await?;
    client.hears_voice(VOICE).await.context("the answer")?;
    client.hears_out().await?;
    client.close().await
}

/// Greeted, understood and answered, over the socket that `/start` names or at one address for all nodes.
async fn over_a_socket(url: &str, one_address: bool, rounds: usize) -> anyhow::Result<()> {
    let started = start(url, "websocket").await?;
    let text = |key: &str| started[key].as_str().with_context(|| format!("no {key}: {started}"));
    let (mut ws_url, token) = (text("wsUrl")?.to_owned(), text("token")?);
    if one_address {
        let (_, query) = ws_url.split_once("/ws?").context("no query")?;
        ws_url = format!("{}/ws?{query}", url.replacen("http", "ws", 1));
    }
    let (socket, _) = connect_async(format!("{ws_url}&token={token}"))
        .await
        .with_context(|| format!("connecting to {ws_url}"))?;
    let mut page = Page::new(socket);
    page.tell(
        "client-ready",
        &json!({"version": "2.0.0", "about": {"library": "test"}}),
    )
    .await?;
    page.hears(Vec::new()).await.context("the greeting")?;
    let (_, narrow) = load::shortest();
    let words = wav::resample(&narrow, wav::TELEPHONE_HZ, MIC_HZ)?;
    for _ in 0..rounds {
        page.hears(words.clone()).await.context("an answer")?;
    }
    page.close().await
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A page of pipecat's client.
struct Page {
    socket: Socket,
}

impl Page {
    fn new(socket: Socket) -> Self {
        Self { socket }
    }

    async fn tell(&mut self, kind: &str, data: &Value) -> anyhow::Result<()> {
        let message = json!({"label": "rtvi-ai", "type": kind, "id": "1", "data": data});
        let frame = pipecat::message_frame(message.to_string());
        Ok(self.socket.send(Message::binary(frame)).await?)
    }

    /// Says this at the pace of speech, with the microphone open afterwards, until it is understood, and what the agent says
    /// to it was heard to its end.
    async fn hears(&mut self, words: Vec<i16>) -> anyhow::Result<()> {
        let mut pace = tokio::time::interval(PACKET);
        // What is late is made up for, as a microphone does.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut packets = words.chunks(MIC_PACKET);
        let mut understood = words.is_empty();
        let mut loud = 0;
        let hearing = async {
            loop {
                tokio::select! {
                    _ = pace.tick() => {
                        let mut packet = packets.next().unwrap_or_default().to_vec();
                        packet.resize(MIC_PACKET, 0);
                        self.socket.send(Message::binary(pipecat::audio_frame(&packet, MIC_HZ))).await?;
                    }
                    message = self.socket.next() => {
                        let bytes = match message.context("the socket was cut")?? {
                            Message::Binary(bytes) => bytes,
                            Message::Close(frame) => bail!("the socket was closed: {frame:?}"),
                            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                        };
                        match pipecat::read(&bytes)? {
                            PipecatFrame::Audio { samples, .. } if rms(&samples) > LOUD_RMS => loud += 1,
                            PipecatFrame::Message(json) => {
                                let message: Value = serde_json::from_str(&json)?;
                                let is = |kind: &str| message["type"] == kind;
                                understood |= is("user-transcription") && message["data"]["final"] == true;
                                let said_all = packets.len() == 0;
                                if is("bot-stopped-speaking") && said_all && understood && loud >= SOMETHING_SAID {
                                    return Ok(());
                                }
                            }
                            PipecatFrame::Audio { .. }
                            | PipecatFrame::Text(_)
                            | PipecatFrame::Transcription { .. }
                            | PipecatFrame::Interruption
                            | PipecatFrame::Unknown => {}
                        }
                    }
                }
            }
        };
        timeout(scale::patience(), hearing)
            .await
            .context("the agent does not say anything")?
    }

    /// Hangs up, and sees the other side do so.
    async fn close(mut self) -> anyhow::Result<()> {
        self.socket.close(None).await?;
        let closed = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(scale::patience(), closed).await.context("it does not hang up")
    }
}
