//! What one client can take up: connections, headers, bodies, time. Real sockets; time passes when everything waits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::WebSocketUpgrade;
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::common::{Server, answer, config, write_certificate};

fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { "here" }))
        .route("/echo", post(|body: String| async { body }))
        .route("/never", get(std::future::pending::<()>))
        .route(
            "/ws",
            get(|upgrade: WebSocketUpgrade| async {
                upgrade.on_upgrade(|mut socket| async move { while socket.recv().await.is_some() {} })
            }),
        )
}

/// A connection on which one request was answered, and which stays open.
async fn answered(address: SocketAddr) -> Option<TcpStream> {
    answered_on(TcpStream::connect(address).await.unwrap()).await
}

/// The same from another address of this machine.
async fn answered_from(own: [u8; 4], address: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(own), 0).into()).unwrap();
    answered_on(socket.connect(address).await.unwrap()).await
}

async fn answered_on(mut socket: TcpStream) -> Option<TcpStream> {
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
    let mut begin = [0; 12];
    socket.read_exact(&mut begin).await.ok()?;
    assert_eq!(&begin, b"HTTP/1.1 200");
    Some(socket)
}

/// What is sent until the server closes the connection; a reset is as good as a close.
async fn rest_of(socket: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    String::from_utf8_lossy(&rest).into_owned()
}

/// A head, then a byte every second for as long as the server takes it; then what it has said.
async fn dripped(server: &Server, head: impl AsRef<[u8]>) -> String {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(head.as_ref()).await.unwrap();
    let (mut read, mut write) = socket.split();
    let mut said = Vec::new();
    let drip = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = read.read_to_end(&mut said) => {}
        () = drip => {}
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// What an answer is made from: says when it is let go.
struct Held(mpsc::Sender<()>);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

fn counted(line: &str) -> bool {
    service_kit::metrics::render()
        .lines()
        .any(|exported| exported.starts_with(line))
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_sockets_count_until_they_end() {
    let server = Server::start_bare(routes(), &config(&[("limits.max_connections", "2")]));
    let ws = format!("ws://{}/ws", server.address);
    let (socket, _) = tokio_tungstenite::connect_async(ws).await.unwrap();
    let _idle = answered(server.address).await.expect("there is room for two");

    assert!(answered(server.address).await.is_none(), "a third was let in");
    assert!(counted("http_connections_refused_total "));

    drop(socket);
    // The server has to notice first.
    let again = async {
        while answered(server.address).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_is_cut_off() {
    let server = Server::start_bare(routes(), &config(&[("limits.header_timeout_secs", "3")]));
    let said = dripped(&server, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_that_drips_in_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&[("limits.header_timeout_secs", "3")]);
    config.http.tls = Some(write_certificate(folder.path()).0);
    let server = Server::start_bare(routes(), &config);
    let began = Instant::now();

    // A record of 512 bytes, and the beginning of the greeting in it.
    let said = dripped(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;

    assert_eq!(said, "");
    let took = began.elapsed().as_secs();
    assert!((3..60).contains(&took), "{took} s of some 500");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_loses_it() {
    let (tell, mut let_go) = mpsc::channel(1);
    let endless = get(move || {
        let pieces = stream::unfold(Held(tell), |held| async {
            Some((Ok::<_, std::io::Error>(vec![0; 64 * 1024]), held))
        });
        async { Body::from_stream(pieces) }
    });
    let config = config(&[("limits.write_timeout_secs", "5")]);
    let server = Server::start(Router::new().route("/endless", endless), &config, &[]);
    let began = Instant::now();
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();

    // What the answer is made from is let go, and so is the connection.
    let gone = tokio::time::timeout(Duration::from_secs(600), let_go.recv()).await;

    assert_eq!(gone, Ok(Some(())));
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    let said = rest_of(&mut socket).await;
    assert!(said.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_it_may_and_a_trusted_proxy_speaks_for_many() {
    let (one, other, proxy) = ([127, 0, 0, 2], [127, 0, 0, 3], [127, 0, 0, 4]);
    let settings = [
        ("limits.max_connections_per_address", "2"),
        ("telephony.trusted_proxies", "127.0.0.4"),
    ];
    let server = Server::start_bare(routes(), &config(&settings));
    let first = answered_from(one, server.address).await.unwrap();
    let _second = answered_from(one, server.address).await.unwrap();

    assert!(answered_from(one, server.address).await.is_none(), "a third was let in");
    assert!(counted("http_connections_refused_total "));
    assert!(answered_from(other, server.address).await.is_some());
    let mut behind = Vec::new();
    for _ in 0..4 {
        behind.push(answered_from(proxy, server.address).await.unwrap());
    }

    drop(first);
    // The server has to notice first.
    let again = async {
        while answered_from(one, server.address).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_in_is_answered_408_and_the_connection_ends() {
    let config = config(&[("limits.body_timeout_secs", "3")]);
    let server = Server::start(routes(), &config, &[]);
    // A request that asks for an upgrade is no socket yet.
    for upgrade in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ] {
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Type: text/plain\r\nContent-Length: 1000\r\n\r\n"
        );

        let said = dripped(&server, &head).await;

        assert!(said.starts_with("HTTP/1.1 408"), "{upgrade:?}: {said}");
        assert!(said.to_lowercase().contains("connection: close"), "{said}");
        assert!(said.contains("limits.body_timeout_secs"), "{said}");
    }
    assert!(counted("http_timeout_total{method=\"POST\",route=\"/echo\"}"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_further_request_is_closed() {
    let server = Server::start_bare(routes(), &config(&[("limits.idle_timeout_secs", "5")]));
    let mut socket = answered(server.address).await.unwrap();
    let began = Instant::now();

    rest_of(&mut socket).await;

    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_takes_longer_than_it_may_is_given_up() {
    let config = config(&[("limits.request_timeout_secs", "0.5")]);
    let server = Server::start(routes(), &config, &[]);

    let (status, body) = answer(server.get("/never")).await;

    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (503, Some("SERVICE_UNAVAILABLE"))
    );
    assert!(counted("http_timeout_total{method=\"GET\",route=\"/never\"}"));
}

#[tokio::test]
async fn too_many_headers_and_too_large_ones_are_refused() {
    let server = Server::start_bare(routes(), &config(&[]));
    let many: String = (0..101).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "y".repeat(70_000));
    for (headers, said_for_certain) in [(many, true), (large, false)] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        // The server may have answered before it was all sent; then its answer may be lost with the connection.
        let _ = socket.write_all(request.as_bytes()).await;
        let said = rest_of(&mut socket).await;
        let refused = said.starts_with("HTTP/1.1 431") || (said.is_empty() && !said_for_certain);
        assert!(refused, "{said}");
    }
}
