//! A media node in virtual time: its sockets are in memory, its clock is the test's, and its far ends behave as badly as
//! they are told to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::audio::resample::Resampler;
use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Message as WireMessage, Provider};
use media_svc::providers::{Agent, Providers};
use media_svc::{Media, MediaListeners};
use service_kit::config::{Config, Profile, Sources, StoreKind, load};
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use service_kit::token::{Claims, TokenSigner};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::{MutexGuard, mpsc};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{LIMIT, alone, claims, stream_start};

/// What is promised.
pub const PROMISED: Duration = Duration::from_secs(2);
/// Less than the shortest farewell: a far end that does not read holds the writer up at once.
const WIRE_BYTES: usize = 1_024;
pub const FRAME: Duration = Duration::from_millis(20);
const KEY: &str = "the-key-of-the-integration";

/// What a far end does when its call is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Manners {
    /// It takes nothing and closes nothing.
    Ignores,
    /// It takes everything and answers nothing.
    OnlyReads,
}

/// Connections in memory, for a server without a clock of its own.
struct Wires(mpsc::Receiver<DuplexStream>);

impl axum::serve::Listener for Wires {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.0.recv().await {
            Some(wire) => (wire, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(())
    }
}

/// A media node whose clock is the test's.
pub struct Node {
    pub media: Media,
    config: Arc<Config>,
    wires: mpsc::Sender<DuplexStream>,
    scope: TaskScope,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Node {
    pub async fn start(providers: Providers, more: &[(String, String)]) -> Self {
        let alone = alone().await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let own = [
            ("greeting", ""),
            ("api_keys.genesys", KEY),
            ("data_dir", folder.path().to_str().unwrap()),
            // What is archived is on disk, which knows nothing of virtual time.
            ("recording.enable", "false"),
            ("transcripts.enable", "false"),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let sources = Sources {
            flags: more.iter().cloned().chain(own).collect(),
            ..Sources::default()
        };
        let config = Arc::new(load(&sources, Profile::SingleProcess).unwrap().config);
        let scope = TaskScope::root("test");
        let listeners = MediaListeners {
            public: "127.0.0.1:1".parse().unwrap(),
            control: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
        };
        let store = session_store::open(&StoreKind::Memory).await.unwrap();
        let agent = Agent::from(providers);
        let media = Media::start(config.clone(), store, agent, listeners, scope.clone(), Shutdown::new());
        let media = media.await.unwrap();
        let (wires, listener) = mpsc::channel(1);
        let server = axum::serve(Wires(listener), media.router());
        let stopped = scope.token();
        scope.spawn("server", async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                _ = server => {}
            }
        });
        Self {
            media,
            config,
            wires,
            scope,
            _folder: folder,
            _alone: alone,
        }
    }

    /// A stream of this provider's that has begun.
    pub async fn call(&self, provider: Provider) -> Phone {
        let mut phone = self.dial(provider).await;
        for message in phone.far_end.opening() {
            phone.send(message).await;
        }
        phone
    }

    /// A stream of this provider's on which nothing was said yet.
    pub async fn dial(&self, provider: Provider) -> Phone {
        let mut claims = Claims {
            provider: provider.name().to_owned(),
            call_id: "CA1".to_owned(),
            ..claims("telephony")
        };
        claims.expires_at += 3_600;
        let path = if provider == Provider::Genesys {
            "genesys/ws/bot".to_owned()
        } else {
            let signer = TokenSigner::new(self.config.links.service_token.clone());
            format!("ws/{}", signer.sign(&claims))
        };
        let mut request = format!("ws://media.example.com/telephony/{path}")
            .into_client_request()
            .unwrap();
        request.headers_mut().insert("x-api-key", KEY.parse().unwrap());
        let (near, far) = tokio::io::duplex(WIRE_BYTES);
        self.wires.send(far).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, near).await.unwrap();
        Phone {
            socket,
            far_end: FarEnd::new(stream_start(provider, "CA1")),
            sent: 0,
        }
    }

    pub async fn stop(self) {
        self.scope.cancel();
        self.scope.join().await;
    }
}

/// The far end of a call, which reads nothing unless it is told to.
pub struct Phone {
    socket: WebSocketStream<DuplexStream>,
    far_end: FarEnd,
    sent: u32,
}

impl Phone {
    pub async fn send(&mut self, message: WireMessage) {
        let message = match message {
            WireMessage::Text(text) => Message::text(text),
            WireMessage::Binary(bytes) => Message::binary(bytes),
        };
        self.socket.send(message).await.unwrap();
    }

    /// The caller speaks until that has been noticed, and is still speaking.
    pub async fn speaks_until(&mut self, heard: &AtomicBool) {
        let mut packets = speech().into_iter();
        while !heard.load(Ordering::Relaxed) {
            let samples = packets.next().unwrap();
            let media = self.far_end.media(u64::from(self.sent) * 20, &samples);
            self.sent += 1;
            self.send(media).await;
            tokio::time::sleep(FRAME).await;
        }
    }

    pub async fn presses(&mut self, key: char) {
        let pressed = self.far_end.dtmf(key);
        self.send(pressed).await;
    }

    /// As the provider says it; the connection stays.
    pub async fn hangs_up(&mut self) {
        match self.far_end.stop() {
            Some(stop) => self.send(stop).await,
            None => self.socket.send(Message::Close(None)).await.unwrap(),
        }
    }

    /// Reads to the close frame: code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        let reading = async {
            loop {
                if let Message::Close(Some(frame)) = self.socket.next().await.unwrap().unwrap() {
                    return (frame.code.into(), frame.reason.to_string());
                }
            }
        };
        tokio::time::timeout(LIMIT, reading).await.unwrap()
    }

    /// Behaves like this until something has happened.
    pub async fn reads<T>(&mut self, manners: Manners, until: impl Future<Output = T>) -> T {
        let wire = self.socket.get_mut();
        let reading = async {
            if manners == Manners::OnlyReads {
                let _ = tokio::io::copy(wire, &mut tokio::io::sink()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = reading => unreachable!("it never ends"),
            done = until => done,
        }
    }

    /// The other end of the connection does not exist any more.
    pub async fn is_cut(&mut self) -> bool {
        let mut unread = Vec::new();
        let reading = self.socket.get_mut().read_to_end(&mut unread);
        tokio::time::timeout(Duration::from_millis(1), reading).await.is_ok()
    }
}

/// How long it took.
#[derive(Debug)]
pub struct Gone {
    /// Until the node has no such session.
    pub session: Duration,
    /// Until there is no task for its stream, and so no socket.
    pub socket: Duration,
}

impl Gone {
    pub fn as_promised(&self, case: &str) {
        println!(
            "{case}: session gone after {:?}, socket after {:?}",
            self.session, self.socket
        );
        assert!(self.session <= PROMISED, "{case}: {self:?}");
        assert!(self.socket <= PROMISED, "{case}: {self:?}");
    }
}

pub async fn gone(media: &Media, since: Instant) -> Gone {
    let mut session = None;
    let waiting = async {
        loop {
            if media.sessions() == 0 {
                let session = *session.get_or_insert_with(|| since.elapsed());
                if open_streams() == 0 {
                    let socket = since.elapsed();
                    return Gone { session, socket };
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap()
}

/// Value of a metric of this process; 0 as long as nothing has happened.
pub fn metric(start: &str) -> u64 {
    let text = service_kit::metrics::render();
    let line = text.lines().find(|line| line.starts_with(start));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Phone streams that have a task here.
pub fn open_streams() -> u64 {
    metric("http_active_connections{route=\"/telephony/ws\"}")
}

/// A person's voice in frames of the telephone.
fn speech() -> Vec<Vec<i16>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/speech/austen-0870.wav");
    let wide: Vec<i16> = hound::WavReader::open(path)
        .unwrap()
        .samples::<i16>()
        .map(Result::unwrap)
        .collect();
    let narrow = Resampler::new(16_000, 8_000).unwrap().process(&wide);
    narrow.chunks_exact(160).map(<[i16]>::to_vec).collect()
}
