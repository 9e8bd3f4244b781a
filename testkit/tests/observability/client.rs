//! Those who use the deployment: an HTTP client, and a browser's socket.

use std::sync::LazyLock;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::wire::pipecat::{self, PipecatFrame};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};
use voxray_testkit::service::Service;

/// Whatever takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Keeps no connections, which would end with the test that opened them.
pub fn http() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap()
    });
    &CLIENT
}

/// A client of `/ws`.
pub struct Browser(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Browser {
    /// Connects and says that it is ready.
    pub async fn connect(ws_url: &str) -> Self {
        let (socket, _) = connect_async(format!("{ws_url}/ws?format=protobuf")).await.unwrap();
        Self(socket).ready().await
    }

    /// Connects with a window as small as the kernel allows, so that what is not read piles up at the server.
    pub async fn with_a_small_window(media: &Service) -> Self {
        let connection = TcpSocket::new_v4().unwrap();
        connection.set_recv_buffer_size(1).unwrap();
        let address = media.url().trim_start_matches("http://").parse().unwrap();
        let stream = MaybeTlsStream::Plain(connection.connect(address).await.unwrap());
        let url = format!("{}/ws?format=protobuf", media.ws_url());
        let (socket, _) = client_async(url, stream).await.unwrap();
        Self(socket).ready().await
    }

    /// Tries to connect; the status with which it is refused, if it is.
    pub async fn refusal(ws_url: &str) -> Option<u16> {
        match connect_async(format!("{ws_url}/ws?format=protobuf")).await {
            Err(Error::Http(answer)) => Some(answer.status().as_u16()),
            Err(_) | Ok(_) => None,
        }
    }

    async fn ready(self) -> Self {
        let mut browser = self;
        let about = json!({"version": "2.0.0", "about": {"library": "test"}});
        browser.tell("client-ready", &about).await;
        browser.wait_for("bot-ready").await;
        browser
    }

    /// Sends one RTVI message.
    pub async fn tell(&mut self, kind: &str, data: &Value) {
        self.tell_as("1", kind, data).await;
    }

    /// Asks for something that does not exist, and to be told so at length.
    pub async fn ask_what_nobody_knows(&mut self) {
        self.tell_as(&"x".repeat(20_000), "make-coffee", &json!({})).await;
    }

    async fn tell_as(&mut self, id: &str, kind: &str, data: &Value) {
        let message = json!({"label": "rtvi-ai", "type": kind, "id": id, "data": data});
        self.send(Message::binary(pipecat::message_frame(message.to_string())))
            .await;
    }

    /// Types.
    pub async fn type_text(&mut self, text: &str) {
        let options = json!({"run_immediately": true, "audio_response": true});
        self.tell("send-text", &json!({"content": text, "options": options}))
            .await;
    }

    /// Sends audio of 16 kHz at the pace of speech; without a pace, all of it at once.
    pub async fn say(&mut self, samples: &[i16], paced: bool) {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for packet in samples.chunks(320) {
            if paced {
                clock.tick().await;
            }
            self.send(Message::binary(pipecat::audio_frame(packet, 16_000))).await;
        }
    }

    /// What nobody understands.
    pub async fn send_nonsense(&mut self) {
        self.send(Message::binary(vec![0xff; 7])).await;
    }

    async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// Reads until this RTVI message comes.
    pub async fn wait_for(&mut self, kind: &str) {
        let reading = async {
            loop {
                let message = self.0.next().await;
                let Some(Ok(message)) = message else {
                    panic!("no {kind} came: {message:?}");
                };
                let Message::Binary(bytes) = message else { continue };
                if let PipecatFrame::Message(json) = pipecat::read(&bytes).unwrap() {
                    let message: Value = serde_json::from_str(&json).unwrap();
                    if message["type"] == kind {
                        return;
                    }
                }
            }
        };
        let came = tokio::time::timeout(LIMIT, reading).await;
        assert!(came.is_ok(), "no {kind} came");
    }

    /// Hangs up.
    pub async fn close(mut self) {
        let _ = self.0.close(None).await;
    }
}
