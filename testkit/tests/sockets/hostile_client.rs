//! `/ws?format=protobuf`: junk, wrong order, silence, and clients that do not read.

use std::time::Duration;

use futures_util::SinkExt;
use media_core::wire::pipecat;
use media_svc::transport::Timeouts;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, client_async};
use voxray_testkit::scripted::Script;

use crate::client::{PROTOBUF, client_ready, ready, rtvi};
use crate::support::{LIMIT, SHORT, Server, closed, open, send};

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_client_ready_ends_the_socket_with_its_code() {
    let server = Server::start(Script::new()).await;
    let cases = [
        (
            "audio",
            Message::binary(pipecat::audio_frame(&[0; 320], 16_000)),
            1008,
            "client-ready",
        ),
        ("text", Message::text("{}"), 1007, "binary"),
        ("junk", Message::binary(b"\xFF\xFF\xFF".to_vec()), 1007, "pipecat"),
        ("a megabyte", Message::binary(vec![0; 1 << 20]), 1009, "larger"),
        ("goodbye", rtvi("disconnect-bot", "x", &json!({})), 1000, ""),
    ];
    for (case, message, code, says) in cases {
        let mut socket = open(&server.ws(PROTOBUF)).await;
        send(&mut socket, message).await;
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}: {reason}");
        assert!(reason.contains(says), "{case}: {reason}");
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_says_it_is_ready_is_closed_with_the_reason() {
    let server = Server::start_with(Script::new(), SHORT, |_| {}).await;
    let mut socket = open(&server.ws(PROTOBUF)).await;

    assert_eq!(
        closed(&mut socket).await,
        (1008, "no client-ready within 0.3 s".to_owned())
    );

    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_running_socket_ends_it_with_its_code() {
    let server = Server::start(Script::new()).await;
    let cases = [
        ("text", Message::text("{}"), 1007),
        ("a megabyte", Message::binary(vec![0; 1 << 20]), 1009),
    ];
    for (case, message, code) in cases {
        let mut socket = ready(&server).await;
        send(&mut socket, message).await;
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}: {reason}");
    }
    let mut socket = ready(&server).await;
    for _ in 0..=50 {
        send(&mut socket, Message::binary(b"\xFF\xFF\xFF".to_vec())).await;
    }
    assert_eq!(closed(&mut socket).await.0, 1007);
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_which_not_even_a_pong_comes_is_closed() {
    let timeouts = Timeouts {
        silence: Duration::from_millis(400),
        ping_every: Duration::from_millis(100),
        ..Timeouts::default()
    };
    let server = Server::start_with(Script::new(), timeouts, |_| {}).await;
    // Not polled, so it does not answer pings.
    let socket = ready(&server).await;

    server.is_idle().await;

    drop(socket);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_never_reads_is_given_up_and_costs_no_one_else() {
    let server = Server::start_with(Script::new(), SHORT, |_| {}).await;
    // A window as small as the kernel allows, so that what is not read piles up at the server.
    let connection = TcpSocket::new_v4().unwrap();
    connection.set_recv_buffer_size(1).unwrap();
    let address = server.base.trim_start_matches("http://").parse().unwrap();
    let connection: TcpStream = connection.connect(address).await.unwrap();
    let stream = MaybeTlsStream::Plain(connection);
    let (mut socket, _) = client_async(server.ws(PROTOBUF), stream).await.unwrap();
    socket.send(client_ready()).await.unwrap();

    let asking = async {
        // Fails once the server has closed.
        while socket
            .send(rtvi("make-coffee", &"x".repeat(20_000), &json!({})))
            .await
            .is_ok()
        {}
    };
    tokio::time::timeout(LIMIT, asking).await.unwrap();

    server.is_unharmed().await;
    server.stop().await;
}
