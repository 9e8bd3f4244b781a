//! The internal listener: who may hold a connection to it, and how much of it.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use service_kit::config::{ConnectionLimits, Links, PeerTlsFiles, Secret};
use service_kit::grpc::{AttachToken, PeerTls, RequireToken, incoming};
use service_kit::tasks::TaskScope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::Service;

const PATIENCE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(20);
const TOKEN: &str = "between services";
/// How a client of HTTP/2 begins (RFC 9113, section 3.4): the preface, and settings that set nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Answers every request, with nothing.
#[derive(Clone)]
struct Anything;

impl NamedService for Anything {
    const NAME: &'static str = "test.Anything";
}

impl Service<Request<Body>> for Anything {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Status::not_found("nothing").into_http()))
    }
}

/// A served listener; it ends when the scope is dropped.
struct Served {
    address: SocketAddr,
    scope: TaskScope,
}

impl Served {
    fn start(limits: &ConnectionLimits, tls: &PeerTls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, incoming) = incoming(listener, limits, "archiver.port").unwrap();
        let scope = TaskScope::root("test");
        let (mut server, stop) = (tls.server().unwrap(), scope.token().cancelled_owned());
        let service = InterceptedService::new(Anything, RequireToken::new(&Secret::new(TOKEN)));
        scope.spawn("grpc", async move {
            let server = server.add_service(service);
            server.serve_with_incoming_shutdown(incoming, stop).await.unwrap();
        });
        Self { address, scope }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

fn limits(most: usize, patience: Duration) -> ConnectionLimits {
    ConnectionLimits {
        max_connections: most,
        header_timeout: patience,
        ..ConnectionLimits::default()
    }
}

/// How a request with this token is answered on this connection.
async fn asked(channel: &Channel, token: &str) -> Code {
    let service = InterceptedService::new(channel.clone(), AttachToken::new(&Secret::new(token)));
    let mut client = Grpc::new(service);
    if client.ready().await.is_err() {
        return Code::Unavailable;
    }
    let path = PathAndQuery::from_static("/test.Anything/Ask");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let answer = client.unary(tonic::Request::new(()), path, codec).await;
    answer.unwrap_err().code()
}

/// Sends all of it, or byte after byte, and waits for the end of the connection.
async fn ends(mut socket: TcpStream, sent: &[u8], drips: bool) {
    let (mut read, mut write) = socket.split();
    let sending = async {
        for piece in sent.chunks(if drips { 1 } else { sent.len().max(1) }) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    tokio::select! {
        // A reset is as good as a close.
        _ = read.read_to_end(&mut said) => {}
        () = sending => {}
    }
}

fn certificates(folder: &Path) -> PeerTls {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let links = Links {
        archiver_url: None,
        media_control_url: None,
        media_advertise_url: None,
        service_token: Secret::new(TOKEN),
        tls: Some(PeerTlsFiles {
            cert_file: file("cert.pem", own.pem()),
            key_file: file("key.pem", key.serialize_pem()),
            ca_file: file("ca.pem", authority.pem()),
        }),
    };
    PeerTls::load(&links).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_let_go_whatever_it_does_with_its_connection() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0; 500]].concat();
    let (plain, tls) = (PeerTls::default(), certificates(folder.path()));
    // Where, what is sent, whether it drips
    let cases = [
        (&plain, b"".as_slice(), false),
        (&plain, PREFACE, true),
        (&plain, PREFACE, false),
        (&tls, b"", false),
        (&tls, &hello, true),
    ];
    for (number, (tls, sent, drips)) in cases.into_iter().enumerate() {
        let served = Served::start(&limits(0, PATIENCE), tls);
        let began = Instant::now();

        let gone = tokio::time::timeout(LIMIT, ends(served.connect().await, sent, drips)).await;

        assert!(
            gone.is_ok() && began.elapsed() >= PATIENCE,
            "{number}: {:?}",
            began.elapsed()
        );
    }
}

#[tokio::test]
async fn a_peer_that_guesses_tokens_makes_room_for_one_that_knows_it() {
    let served = Served::start(&limits(1, Duration::from_secs(3)), &PeerTls::default());
    let stranger = served.channel().await;
    assert_eq!(asked(&stranger, "guessed").await, Code::Unauthenticated);

    let let_in = async {
        loop {
            // Refused at once as long as the stranger is there.
            let endpoint = Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
            let Ok(channel) = endpoint.connect().await else {
                continue;
            };
            if asked(&channel, TOKEN).await == Code::NotFound {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, let_in).await.unwrap();
    drop(stranger);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let served = Served::start(&limits(2, LIMIT * 2), &PeerTls::default());
    let _idle = [served.connect().await, served.connect().await];

    let third = tokio::time::timeout(LIMIT, ends(served.connect().await, b"", false)).await;

    assert!(third.is_ok(), "it was let in");
    let refused = service_kit::metrics::render();
    assert!(
        refused
            .lines()
            .any(|line| line.starts_with("http_connections_refused_total "))
    );
}

#[test]
fn a_peer_that_would_not_have_to_show_a_certificate_is_not_spoken_to() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let tls = certificates(folder.path());
    assert!(tls.endpoint("https://127.0.0.1:1").is_ok());
    // As it might stand in the session store.
    for url in [
        "http://127.0.0.1:1",
        "HTTP://127.0.0.1:1",
        "127.0.0.1:1",
        "//127.0.0.1:1",
        "",
    ] {
        assert!(tls.endpoint(url).is_err(), "{url:?}");
    }
    assert!(PeerTls::default().endpoint("http://127.0.0.1:1").is_ok());
}

#[tokio::test]
async fn a_peer_is_told_how_many_requests_it_may_have_open() {
    const SETTINGS: u8 = 4;
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let served = Served::start(&ConnectionLimits::default(), &PeerTls::default());
    let mut socket = served.connect().await;
    socket.write_all(PREFACE).await.unwrap();

    // RFC 9113, sections 4.1 and 6.5.1
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], SETTINGS);
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut settings = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut settings).await.unwrap();

    let most = settings
        .chunks_exact(6)
        .find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    let most = u32::from_be_bytes(most.unwrap()[2..].try_into().unwrap());
    assert!((100..=4096).contains(&most), "{most}");
}
