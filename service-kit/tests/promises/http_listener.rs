//! Listeners: ports, slow clients, TLS, and how they end.

use std::net::SocketAddr;

use crate::common::{Server, config, write_certificate};
use axum::Router;
use axum::extract::{ConnectInfo, WebSocketUpgrade};
use axum::routing::{get, post};
use futures_util::{SinkExt, StreamExt};
use service_kit::config::Tls;
use service_kit::exit;
use service_kit::http::{bind, serve};
use service_kit::tasks::TaskScope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

fn echo() -> Router {
    Router::new()
        .route(
            "/",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
        )
        .route(
            "/ws",
            get(|upgrade: WebSocketUpgrade| async {
                upgrade.on_upgrade(|mut socket| async move {
                    while let Some(Ok(message)) = socket.recv().await {
                        if socket.send(message).await.is_err() {
                            break;
                        }
                    }
                })
            }),
        )
}

#[test]
fn a_taken_port_says_what_to_do() {
    let mut config = config(&[]);
    let first = bind(&config.http).unwrap();
    config.http.port = first.local_addr().unwrap().port();
    let refused = bind(&config.http).unwrap_err();
    assert_eq!(refused.status, exit::CANNOT_CREATE);
    assert!(refused.what.contains(&config.http.port.to_string()), "{refused}");
    assert!(refused.remedy.contains("VOXRAY_PORT"), "{refused}");
}

#[tokio::test]
async fn handlers_see_the_address_of_the_peer() {
    let server = Server::start_bare(echo(), &config(&[]));
    assert_eq!(server.get("/").send().await.unwrap().text().await.unwrap(), "127.0.0.1");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_cut() {
    let server = Server::start_bare(echo(), &config(&[]));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        .await
        .unwrap();
    let mut rest = Vec::new();
    // Ends with the connection: a reset is as good as a close.
    let _ = socket.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_cut() {
    let server = Server::start_bare(echo(), &config(&[]));
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn stopping_refuses_new_connections_and_leaves_open_sockets_alone() {
    let server = Server::start_bare(echo(), &config(&[]));
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", server.address))
        .await
        .unwrap();

    server.stop.cancel();
    server.scope.join().await;

    assert!(TcpStream::connect(server.address).await.is_err());
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
}

#[tokio::test]
async fn a_request_that_is_running_when_the_listener_stops_gets_its_answer() {
    let (started, mut has_started) = tokio::sync::mpsc::channel::<()>(1);
    let release = CancellationToken::new();
    let finish = release.clone();
    let router = Router::new().route(
        "/slow",
        get(move || async move {
            let _ = started.send(()).await;
            finish.cancelled().await;
            "done"
        }),
    );
    let server = Server::start_bare(router, &config(&[]));
    let request = server.get("/slow").send();
    let act = async {
        has_started.recv().await;
        server.stop.cancel();
        release.cancel();
    };
    let (response, ()) = tokio::join!(request, act);
    assert_eq!(response.unwrap().text().await.unwrap(), "done");
}

/// A balancer that is connected has sent its request, and does not send it again when it is no GET.
#[tokio::test]
async fn who_got_in_before_the_listener_stops_is_answered() {
    const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start_bare(Router::new().route("/", post(async || "done")), &config(&[]));
    // The server has accepted it when one that came later is answered.
    let mut accepted = TcpStream::connect(server.address).await.unwrap().into_std().unwrap();
    assert_eq!(server.post("/").send().await.unwrap().status(), 200);
    // This one it knows nothing of: nothing is awaited until it is asked to stop.
    let mut queued = std::net::TcpStream::connect(server.address).unwrap();
    queued.set_nonblocking(true).unwrap();

    server.stop.cancel();
    for socket in [&mut accepted, &mut queued] {
        std::io::Write::write_all(socket, REQUEST).unwrap();
    }

    for socket in [accepted, queued] {
        let mut answer = Vec::new();
        TcpStream::from_std(socket)
            .unwrap()
            .read_to_end(&mut answer)
            .await
            .unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"done"));
    }
    server.scope.join().await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_does_not_hold_up_the_end() {
    let server = Server::start_bare(echo(), &config(&[]));
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.stop.cancel();
    server.scope.join().await;
}

#[tokio::test]
async fn tls_is_served_with_the_configured_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, certificate) = write_certificate(folder.path());
    let mut config = config(&[]);
    config.http.tls = Some(tls);
    let server = Server::start_bare(echo(), &config);

    let client = reqwest::Client::builder()
        .tls_certs_only([certificate])
        .resolve("localhost", server.address)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/", server.address.port());
    let response = client.get(&url).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    assert_eq!(response.text().await.unwrap(), "127.0.0.1");
    assert!(
        server.client.get(&url).send().await.is_err(),
        "an unknown certificate must not be trusted"
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = write_certificate(folder.path());
    let other = tempfile::tempdir().unwrap();
    let (theirs, _) = write_certificate(other.path());
    let missing = Tls {
        cert_file: folder.path().join("nowhere.pem"),
        ..tls.clone()
    };
    let mismatched = Tls {
        key_file: theirs.key_file,
        ..tls.clone()
    };
    let swapped = Tls {
        cert_file: tls.key_file.clone(),
        key_file: tls.cert_file.clone(),
    };
    for (tls, named) in [(missing, "nowhere.pem"), (mismatched, "together"), (swapped, "key.pem")] {
        let listener = bind(&config(&[]).http).unwrap();
        let scope = TaskScope::root("test");
        let refused = serve(listener, echo(), Some(&tls), &scope, CancellationToken::new()).unwrap_err();
        assert_eq!(refused.status, exit::NO_INPUT);
        assert!(refused.what.contains(named), "{refused}");
    }
}
