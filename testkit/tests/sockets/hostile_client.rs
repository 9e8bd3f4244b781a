//! `/ws` in every dialect: junk, wrong order, storms, silence, and clients that do not read.

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
use crate::text_clients::{JSON, RTVI, begun, next_of, text};

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

#[tokio::test(flavor = "multi_thread")]
async fn in_the_text_dialects_too_each_breach_has_its_code() {
    let server = Server::start(Script::new()).await;
    let megabyte = Message::text("x".repeat(1 << 20));
    let half_a_sample = json!({"base64Audio": "AA==", "sampleRate": 16000, "numChannels": 1});
    let sound = json!({"base64Audio": "AAA=", "sampleRate": 16000, "numChannels": 1});
    let before = [
        ("sound", text("raw-audio", &sound), 1008, "client-ready"),
        ("keys", text("dtmf", &json!({"buttons": ["1"]})), 1008, "client-ready"),
        ("bytes", Message::binary(vec![0; 10]), 1007, "text messages"),
        ("junk", Message::text("hello"), 1007, "RTVI"),
        ("a megabyte", megabyte.clone(), 1009, "larger"),
        (
            "an old version",
            text("client-ready", &json!({"version": "1.4.0"})),
            1008,
            "version 2",
        ),
        ("goodbye", text("disconnect-bot", &json!({})), 1000, ""),
    ];
    for (case, message, code, says) in before {
        let mut socket = open(&server.ws(RTVI)).await;
        send(&mut socket, message).await;
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}: {reason}");
        assert!(reason.contains(says), "{case}: {reason}");
    }
    for path in [RTVI, JSON] {
        for (message, code) in [(Message::binary(vec![0; 10]), 1007), (megabyte.clone(), 1009)] {
            let mut socket = begun(&server, path).await;
            send(&mut socket, message).await;
            assert_eq!(closed(&mut socket).await.0, code, "{path}");
        }
        // Half samples are answered and forgiven, and so is some junk.
        let mut socket = begun(&server, path).await;
        for _ in 0..100 {
            send(&mut socket, text("raw-audio", &half_a_sample)).await;
        }
        for _ in 0..=50 {
            send(&mut socket, Message::text("hello")).await;
        }
        assert_eq!(closed(&mut socket).await.0, 1007, "{path}");
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_version_is_told_before_the_socket_is_closed() {
    let server = Server::start(Script::new()).await;
    let mut socket = open(&server.ws(RTVI)).await;

    send(&mut socket, text("client-ready", &json!({"version": "3.0.0"}))).await;

    let answer = next_of(&mut socket, "error-response").await;
    assert!(answer["data"]["error"].as_str().unwrap().contains("3.0.0"), "{answer}");
    assert_eq!(closed(&mut socket).await.0, 1008);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_keys_is_taken_in_turn_and_ends_with_the_client() {
    let server = Server::start_with(Script::new(), Default::default(), |config| {
        config.pipeline.input_queue_cap = 4;
    })
    .await;
    for (path, keys, goodbye) in [
        (
            RTVI,
            text("dtmf", &json!({"buttons": vec!["5"; 64]})),
            text("disconnect-bot", &json!({})),
        ),
        (
            JSON,
            text("InputDTMFFrame", &json!({"digit": "5".repeat(64)})),
            text("EndFrame", &json!({})),
        ),
    ] {
        let mut socket = begun(&server, path).await;
        for _ in 0..500 {
            send(&mut socket, keys.clone()).await;
        }
        send(&mut socket, goodbye).await;
        assert_eq!(closed(&mut socket).await.0, 1000, "{path}");
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_client_that_never_reads_is_given_up() {
    let server = Server::start_with(Script::new(), SHORT, |_| {}).await;
    for (path, question) in [
        (
            RTVI,
            text("client-message", &json!({"t": "ping", "d": "x".repeat(20_000)})),
        ),
        (JSON, text("nothing-known", &json!({}))),
    ] {
        let connection = TcpSocket::new_v4().unwrap();
        connection.set_recv_buffer_size(1).unwrap();
        let address = server.base.trim_start_matches("http://").parse().unwrap();
        let stream = MaybeTlsStream::Plain(connection.connect(address).await.unwrap());
        let (mut socket, _) = client_async(server.ws(path), stream).await.unwrap();
        let ready = text("client-ready", &json!({"version": "2.0.0"}));
        socket.send(ready).await.unwrap();
        // Fails once the server has closed.
        let asking = async { while socket.send(question.clone()).await.is_ok() {} };
        tokio::time::timeout(LIMIT, asking).await.unwrap();
        drop(socket);
        server.is_idle().await;
    }
    server.is_unharmed().await;
    server.stop().await;
}
