//! A whole server whose phone provider is scripted, and the provider's end of a stream.

use std::time::Duration;

use carriers::Provider;
use futures_util::{SinkExt, StreamExt};
use media_core::wire::far_end::{FarEnd, FromServer};
use media_core::wire::telephony::{
    Channels, Codec, Frame, MediaFormat, Message as WireMessage, Provider as WireProvider, Start,
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use voxray::caller::request_stream;
use voxray::single::SingleProcess;
use voxray_testkit::carriers::{Asked, CarrierServer, TOKEN};
use voxray_testkit::scripted::Script;
use voxray_testkit::wait::eventually;

use crate::support::{NUMBER, config};

pub const LIMIT: Duration = Duration::from_secs(20);
pub const CALL: &str = "CA0001";

/// A whole server whose phone provider is scripted.
pub struct Server {
    pub process: SingleProcess,
    pub carrier: CarrierServer,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// The provider's end of a stream.
pub struct Phone {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    far_end: FarEnd,
}

impl Server {
    /// The agent says nothing first; the caller asks by pressing `1#`.
    pub async fn start(script: Script) -> Self {
        Self::start_at(Provider::Twilio, script, &[]).await
    }

    /// The same at another provider, with more keys of the configuration.
    pub async fn start_at(provider: Provider, script: Script, more: &[(&str, &str)]) -> Self {
        let carrier = CarrierServer::start(provider).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let own = [
            ("host", "127.0.0.1"),
            ("port", "0"),
            ("greeting", ""),
            ("data_dir", folder.path().to_str().unwrap()),
            ("telephony.transfer_to", NUMBER),
            ("telephony.request_timeout_secs", "1"),
        ];
        let config = config(&carrier.settings(), &[&own, more].concat());
        let process = SingleProcess::start(&config, Some(script.providers())).await.unwrap();
        let server = Self {
            process,
            carrier,
            http: reqwest::Client::new(),
            _folder: folder,
        };
        let ready = eventually("the server is ready", LIMIT, || async {
            let url = format!("{}/ready", server.process.base_url());
            Ok((server.http.get(url).send().await?.status() == 200).then_some(()))
        });
        ready.await.unwrap();
        server
    }

    /// A call of Twilio's that has begun, and its session.
    pub async fn call(&self) -> (Phone, String) {
        let phone = Phone::open(WireProvider::Twilio, &self.stream_url().await).await;
        (phone, self.connected().await)
    }

    /// What a webhook of Twilio's is answered.
    pub async fn stream_url(&self) -> String {
        let fields = [("AccountSid", "AC0"), ("CallSid", CALL), ("From", "+15005550006")];
        let stream = request_stream(&self.process.base_url(), &fields, Some(TOKEN)).await;
        stream.unwrap().url
    }

    /// The session of the call that has begun.
    pub async fn connected(&self) -> String {
        let id = eventually("the call is connected", LIMIT, || async {
            let sessions = self.sessions().await;
            let connected = sessions.iter().find(|session| session["state"] == "connected");
            Ok(connected.and_then(|session| session["sessionId"].as_str().map(str::to_owned)))
        });
        id.await.unwrap()
    }

    /// A provider's request to a path of ours, and the answer.
    pub async fn webhook(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let url = format!("{}{path}", self.process.base_url());
        let answer = self.http.post(url).form(fields).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The same with JSON.
    pub async fn event(&self, path: &str, event: &Value) -> (u16, String) {
        let url = format!("{}{path}", self.process.base_url());
        let answer = self.http.post(url).json(event).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Where this process has what a provider is told to find at its public address.
    pub fn socket(&self, public_url: &str) -> String {
        let (_, path) = public_url.split_once("/telephony/").unwrap();
        format!("{}/telephony/{path}", self.process.base_url().replace("http", "ws"))
    }

    pub async fn sessions(&self) -> Vec<Value> {
        let url = format!("{}/sessions", self.process.base_url());
        let listed: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        listed["data"]["sessions"].as_array().cloned().unwrap_or_default()
    }

    /// Posts; until the stream has begun, which nobody announces, the answer is to come back later.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.process.base_url());
        let answered = eventually("an answer", LIMIT, || async {
            let answer = self.http.post(&url).json(&body).send().await?;
            let status = answer.status().as_u16();
            Ok(if status == 503 {
                None
            } else {
                Some((status, answer.json().await.unwrap_or_default()))
            })
        });
        answered.await.unwrap()
    }

    pub async fn end(&self, id: &str) -> u16 {
        let url = format!("{}/sessions/{id}", self.process.base_url());
        self.http.delete(url).send().await.unwrap().status().as_u16()
    }

    pub async fn is_idle(&self) {
        let idle = eventually("no session is left", LIMIT, || async {
            let idle = self.process.media().sessions() == 0 && self.sessions().await.is_empty();
            Ok(idle.then_some(()))
        });
        idle.await.unwrap();
    }

    /// What the provider was asked.
    pub fn asked(&self) -> Vec<Asked> {
        let requests = self.carrier.requests();
        requests.into_iter().map(|request| request.asked).collect()
    }

    pub async fn stop(self) {
        tokio::time::timeout(LIMIT, self.process.stop()).await.unwrap();
    }
}

impl Phone {
    /// A stream that has begun.
    pub async fn open(provider: WireProvider, url: &str) -> Self {
        Self::open_for(provider, url, CALL).await
    }

    /// The same of a call that the provider has named otherwise.
    pub async fn open_for(provider: WireProvider, url: &str, call_id: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let far_end = FarEnd::new(Start {
            provider,
            stream_id: "MZ1".to_owned(),
            call_id: call_id.to_owned(),
            account_id: None,
            parameters: [].into(),
            format: MediaFormat {
                codec: Codec::Ulaw,
                rate_hz: 8_000,
            },
            channels: Channels::Caller,
        });
        let mut phone = Self { socket, far_end };
        for message in phone.far_end.opening() {
            phone.send(message).await;
        }
        phone
    }

    async fn send(&mut self, message: WireMessage) {
        let message = match message {
            WireMessage::Text(text) => Message::text(text),
            WireMessage::Binary(bytes) => Message::binary(bytes),
        };
        // A server that has closed meanwhile is noticed when reading.
        let _ = self.socket.send(message).await;
    }

    pub async fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            let message = self.far_end.dtmf(key);
            self.send(message).await;
        }
    }

    /// The provider says that the stream is over.
    pub async fn hang_up(&mut self) {
        let stop = self.far_end.stop().unwrap();
        self.send(stop).await;
    }

    /// The provider closes the stream and says nothing.
    pub async fn leave(&mut self) {
        self.socket.close(None).await.unwrap();
    }

    /// What the caller hears until `enough`, or until the stream is over. Marks are echoed at once.
    pub async fn hears(&mut self, enough: impl Fn(&[i16]) -> bool) -> Vec<i16> {
        let mut heard = Vec::new();
        let hearing = async {
            while let Some(Ok(message)) = self.socket.next().await {
                let Message::Text(text) = message else { continue };
                match self.far_end.read(Frame::Text(&text)).unwrap() {
                    FromServer::Media(samples) => heard.extend(samples),
                    FromServer::Mark(name) => {
                        let played = self.far_end.played(&name).unwrap();
                        self.send(played).await;
                    }
                    FromServer::Clear
                    | FromServer::Opened
                    | FromServer::Disconnect
                    | FromServer::Closed
                    | FromServer::Ignored => {}
                }
                if enough(&heard) {
                    break;
                }
            }
        };
        tokio::time::timeout(LIMIT, hearing).await.unwrap();
        heard
    }

    /// Hears the call to its end.
    pub async fn is_closed(&mut self) {
        self.hears(|_| false).await;
    }
}
