//! A single process with scripted providers, and the far ends that connect to it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use media_core::wire::telephony::{Channels, Codec, MediaFormat, Message as WireMessage, Provider, Start};
use media_core::wire::twilio::far_end::{self, FarEnd};
use media_svc::transport::{RtcTimeouts, Timeouts};
use reqwest::{Method, Response};
use service_kit::config::{Config, Profile, Secret, Sources, load};
use service_kit::token::{Claims, TokenSigner};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use voxray::caller::{Call, Step, request_stream};
use voxray::single::SingleProcess;
use voxray_testkit::scripted::Script;

/// Whatever takes longer has failed.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Metrics belong to the process: one server at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// For tests that read metrics without such a server.
pub async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Short, so that refusals for silence come soon.
pub const SHORT: Timeouts = Timeouts {
    start: Duration::from_millis(300),
    ready: Duration::from_millis(300),
    hold: Duration::from_millis(600),
    stuck: Duration::from_millis(500),
    ping_every: Duration::from_millis(100),
    silence: Duration::from_secs(60),
    rtc: RtcTimeouts::USUAL,
};

pub struct Server {
    pub process: SingleProcess,
    pub base: String,
    pub http: reqwest::Client,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Server {
    pub async fn start(script: Script) -> Self {
        Self::start_with(script, Timeouts::default(), |_| {}).await
    }

    pub async fn start_with(script: Script, timeouts: Timeouts, change: impl FnOnce(&mut Config)) -> Self {
        let alone = alone().await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let flags = [
            ("host", "127.0.0.1"),
            ("port", "0"),
            ("greeting", "Hello."),
            ("data_dir", folder.path().to_str().unwrap()),
        ];
        let sources = Sources {
            flags: flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Sources::default()
        };
        let mut config = load(&sources, Profile::SingleProcess).unwrap().config;
        change(&mut config);
        let process = SingleProcess::start_with(&config, Some(script.providers()), timeouts)
            .await
            .unwrap();
        let server = Self {
            base: process.base_url(),
            process,
            http: reqwest::Client::new(),
            _folder: folder,
            _alone: alone,
        };
        // The node is in placement from its first heartbeat on.
        eventually("the server is ready", async || {
            server.get("/ready").await.status() == 200
        })
        .await;
        server
    }

    pub fn ws(&self, path: &str) -> String {
        format!("{}{path}", self.base.replacen("http", "ws", 1))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).await
    }

    pub async fn request(&self, method: Method, path: &str) -> Response {
        let request = self.http.request(method, format!("{}{path}", self.base));
        request.send().await.unwrap()
    }

    /// The answer to a WebSocket handshake that is not expected to succeed.
    pub async fn handshake(&self, path: &str, headers: &[(&str, &str)]) -> (u16, serde_json::Value) {
        let mut request = self
            .http
            .get(format!("{}{path}", self.base))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Signs whatever a test wants to have vouched for.
    pub fn sign(&self, claims: &Claims) -> String {
        TokenSigner::new(self.process.config().links.service_token.clone()).sign(claims)
    }

    /// The stream URL that a webhook for this call answers with.
    pub async fn stream_url(&self, call_sid: &str) -> String {
        let fields = [
            ("AccountSid", "AC0"),
            ("CallSid", call_sid),
            ("From", "+15005550006"),
            ("To", "+15005550001"),
        ];
        request_stream(&self.base, &fields, None).await.unwrap().url
    }

    /// A phone stream on which nothing was sent yet.
    pub async fn open_stream(&self, call_sid: &str) -> Socket {
        open(&self.stream_url(call_sid).await).await
    }

    /// The URL of a stream of this provider's, and its session.
    pub fn url_for(&self, provider: Provider, call_id: &str) -> (String, String) {
        let claims = Claims {
            provider: provider.name().to_owned(),
            call_id: call_id.to_owned(),
            ..claims("telephony")
        };
        (
            self.ws(&format!("/telephony/ws/{}", self.sign(&claims))),
            claims.session_id,
        )
    }

    /// What the archive has of a session, once it is complete: rows (role and text) and the recording.
    pub async fn archived(&self, session_id: &str) -> (Vec<(String, String)>, PathBuf) {
        let name = format!("{session_id}.wav");
        let store = self.process.archiver().transcripts().unwrap();
        // The length of a recording is noted behind all rows.
        eventually("the recording is stored and noted", async || {
            let session = store.session(session_id).await.unwrap();
            session.is_some_and(|session| session.ended_at.is_some() && session.recording_bytes.is_some())
        })
        .await;
        let rows = store.rows(session_id).await.unwrap();
        let rows = rows.into_iter().map(|row| (row.role, row.text)).collect();
        (rows, find(self._folder.path(), &name).unwrap())
    }

    /// All recordings stored so far, by session.
    pub fn recordings(&self) -> Vec<String> {
        let mut names = Vec::new();
        list(self._folder.path(), &mut names);
        names
    }

    /// A phone stream that has begun.
    pub async fn begin_stream(&self, call_sid: &str) -> (Socket, FarEnd) {
        let mut socket = self.open_stream(call_sid).await;
        let mut far_end = far_end(call_sid);
        send(&mut socket, far_end::connected()).await;
        send(&mut socket, far_end.start()).await;
        (socket, far_end)
    }

    pub async fn metric(&self, line_start: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(line_start));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no metric {line_start}"))
    }

    /// Nothing is left of any call.
    pub async fn is_idle(&self) {
        eventually("no session is left on the node", async || {
            self.process.media().sessions() == 0
        })
        .await;
        for route in ["/ws", "/telephony/ws"] {
            let gauge = format!("http_active_connections{{route=\"{route}\"}}");
            eventually(&gauge, async || self.metric(&gauge).await == 0.0).await;
        }
        eventually("no session is listed", async || {
            let listed: serde_json::Value = self.get("/sessions").await.json().await.unwrap();
            listed["data"]["sessions"].as_array().is_some_and(Vec::is_empty)
        })
        .await;
    }

    /// Nothing is left, and the next caller is greeted.
    pub async fn is_unharmed(&self) {
        self.is_idle().await;
        let greeted = Step::WaitForSpeech {
            heard: Duration::from_millis(100),
            timeout: LIMIT,
        };
        Call::new(&self.base, vec![greeted]).place().await.unwrap();
        self.is_idle().await;
    }

    pub async fn stop(self) {
        tokio::time::timeout(LIMIT, self.process.stop()).await.unwrap();
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name)
        } else {
            path.file_name().is_some_and(|found| found == name).then_some(path)
        }
    })
}

fn list(folder: &Path, names: &mut Vec<String>) {
    for path in std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        if path.is_dir() {
            list(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "wav") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
}

/// Looks until it is true. For what other tasks do in their own time and nobody announces.
pub async fn eventually<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let waiting = async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}

pub fn claims(transport: &str) -> Claims {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Claims {
        session_id: service_kit::ids::session_id(),
        transport: transport.to_owned(),
        provider: String::new(),
        call_id: String::new(),
        expires_at: now + 60,
        body_json: String::new(),
    }
}

pub fn forged(claims: &Claims) -> String {
    TokenSigner::new(Secret::new("somebody else's secret")).sign(claims)
}

pub fn far_end(call_sid: &str) -> FarEnd {
    FarEnd::new(stream_start(Provider::Twilio, call_sid))
}

/// How a stream of this provider begins.
pub fn stream_start(provider: Provider, call_id: &str) -> Start {
    let (codec, rate_hz) = match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Genesys => (Codec::Ulaw, 8_000),
        Provider::Exotel => (Codec::L16, 8_000),
        Provider::Vonage => (Codec::L16, 16_000),
    };
    Start {
        provider,
        stream_id: "MZ1".to_owned(),
        call_id: call_id.to_owned(),
        account_id: None,
        parameters: [].into(),
        format: MediaFormat { codec, rate_hz },
        channels: Channels::Caller,
    }
}

pub async fn open(url: &str) -> Socket {
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket
}

/// Sends; a server that has closed meanwhile is noticed when reading.
pub async fn send(socket: &mut Socket, message: impl Into<Message>) {
    let _ = socket.send(message.into()).await;
}

/// Sends what a far end says.
pub async fn put(socket: &mut Socket, message: WireMessage) {
    match message {
        WireMessage::Text(text) => send(socket, text).await,
        WireMessage::Binary(bytes) => send(socket, bytes).await,
    }
}

/// Reads to the close frame: code and reason.
pub async fn closed(socket: &mut Socket) -> (u16, String) {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Close(None))) => panic!("closed without a code"),
                Some(Ok(_)) => {}
                Some(Err(error)) => panic!("broken instead of closed: {error}"),
                None => panic!("gone without a close frame"),
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap()
}

/// Reads until a text message satisfies `wanted`; false when the socket ends first.
pub async fn until(socket: &mut Socket, wanted: impl Fn(&str) -> bool) -> bool {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) if wanted(&text) => return true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap()
}

impl Server {
    /// Ends every listed session through the API.
    pub async fn end_all_sessions(&self) {
        let listed: serde_json::Value = self.get("/sessions").await.json().await.unwrap();
        for session in listed["data"]["sessions"].as_array().unwrap() {
            let path = format!("/sessions/{}", session["sessionId"].as_str().unwrap());
            let status = self.request(Method::DELETE, &path).await.status().as_u16();
            // One whose socket is gone may have ended by itself since it was listed.
            assert!(matches!(status, 200 | 404), "{status}");
        }
    }
}
