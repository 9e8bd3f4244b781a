//! Genesys opens its socket without a webhook: who it is, it proves by headers.

use futures_util::StreamExt;
use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Message as WireMessage, Provider};
use service_kit::config::{Config, Secret, Secrets};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use voxray::caller::{Call, CallError, Step};
use voxray_testkit::scripted::{Answer, Script};

use crate::support::{LIMIT, Server, Socket, closed, put, send, stream_start};

const PATH: &str = "/telephony/genesys/ws/bot";
const KEY: &str = "the-key-of-the-integration";
/// "secret" in base64.
const SECRET: &str = "c2VjcmV0";

fn with_key(config: &mut Config) {
    config.secrets = Secrets::new([("genesys".to_owned(), Secret::new(KEY))].into(), Vec::new()).into();
}

/// The server's own key opens nothing here.
fn with_both_keys(config: &mut Config) {
    let keys = [("genesys".to_owned(), Secret::new(KEY))];
    config.secrets = Secrets::new(keys.into(), vec![Secret::new("server key")]).into();
}

fn with_secret(config: &mut Config) {
    with_key(config);
    config.telephony.genesys_client_secret = Some(Secret::new(SECRET));
}

async fn connected(server: &Server) -> Socket {
    let mut request = server.ws(PATH).as_str().into_client_request().unwrap();
    request.headers_mut().insert("x-api-key", KEY.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

async fn next(socket: &mut Socket) -> serde_json::Value {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(_)) => {}
                other => panic!("no message: {other:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap()
}

fn call(server: &Server, steps: Vec<Step>) -> Call {
    let mut call = Call::new(&server.base, steps).by(Provider::Genesys);
    call.auth_token = Some(KEY.to_owned());
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_of_the_integration_nobody_comes_in() {
    let server = Server::start(Script::new()).await;
    let (status, body) = server.handshake(PATH, &[("x-api-key", "")]).await;
    assert_eq!(status, 403);
    assert!(
        body["error"]["message"].as_str().unwrap().contains("api_keys.genesys"),
        "{body}"
    );
    server.stop().await;

    let server = Server::start_with(Script::new(), Default::default(), with_both_keys).await;
    for headers in [
        &[][..],
        &[("x-api-key", "wrong")][..],
        &[("x-api-key", "server key")][..],
    ] {
        let (status, body) = server.handshake(PATH, headers).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (403, &"FORBIDDEN".into()),
            "{headers:?}"
        );
    }
    assert_eq!(server.handshake(PATH, &[("x-api-key", KEY)]).await.0, 101);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_secret_every_connection_is_signed_and_only_once() {
    let server = Server::start_with(Script::new(), Default::default(), with_secret).await;
    let (status, body) = server.handshake(PATH, &[("x-api-key", KEY)]).await;
    assert_eq!(status, 403);
    assert!(
        body["error"]["message"].as_str().unwrap().contains("not signed"),
        "{body}"
    );

    let greeted = || {
        vec![Step::WaitForSpeech {
            heard: Duration::from_millis(100),
            timeout: LIMIT,
        }]
    };
    let mut forged = call(&server, greeted());
    forged.client_secret = Some("d3Jvbmc=".to_owned());
    let refused = forged.place().await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Connect { said, .. } if said.contains("signature")),
        "{refused}"
    );

    let mut signed = call(&server, greeted());
    signed.client_secret = Some(SECRET.to_owned());
    signed.place().await.unwrap();
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_room_leaves_the_signature_for_another_one() {
    let full = |config: &mut Config| {
        with_key(config);
        config.media.max_sessions = 1;
    };
    let server = Server::start_with(Script::new(), Default::default(), full).await;
    let only = connected(&server).await;
    // What is wrong with it is not even looked at.
    for key in [KEY, "wrong"] {
        let (status, body) = server.handshake(PATH, &[("x-api-key", key)]).await;
        assert_eq!((status, &body["error"]["code"]), (503, &"SERVICE_UNAVAILABLE".into()));
    }
    drop(only);
    server.is_idle().await;
    assert_eq!(server.handshake(PATH, &[("x-api-key", "wrong")]).await.0, 403);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_asks_genesys_to_close_and_answers_its_close() {
    let script = Script::new().answers(Answer::say("Goodbye.").and_call("end_call"));
    let server = Server::start_with(script, Default::default(), with_key).await;
    let steps = vec![
        Step::answer(),
        Step::Press('1'),
        Step::Press('#'),
        Step::WaitForHangUp { timeout: LIMIT },
    ];
    let report = call(&server, steps).place().await.unwrap();
    assert!(report.ended_by_agent);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_are_answered_and_a_test_of_the_connection_is_no_call() {
    let server = Server::start_with(Script::new(), Default::default(), with_key).await;
    let mut socket = connected(&server).await;
    let FarEnd::Genesys(mut far_end) = FarEnd::new(stream_start(Provider::Genesys, "C1")) else {
        unreachable!()
    };
    send(&mut socket, far_end.open()).await;
    let opened = next(&mut socket).await;
    assert_eq!(
        (&opened["type"], &opened["seq"], &opened["clientseq"]),
        (&"opened".into(), &1.into(), &1.into())
    );
    send(&mut socket, far_end.ping()).await;
    loop {
        let message = next(&mut socket).await;
        if message["type"] == "pong" {
            assert_eq!(message["clientseq"], 2);
            break;
        }
    }
    send(&mut socket, far_end.close("end")).await;
    loop {
        let message = next(&mut socket).await;
        if message["type"] == "closed" {
            break;
        }
    }
    assert_eq!(closed(&mut socket).await.0, 1000);
    server.is_idle().await;

    let mut socket = connected(&server).await;
    let FarEnd::Genesys(mut far_end) = FarEnd::new(stream_start(Provider::Genesys, "C1")) else {
        unreachable!()
    };
    send(&mut socket, far_end.probe()).await;
    assert_eq!(next(&mut socket).await["type"], "opened");
    send(&mut socket, far_end.close("end")).await;
    assert_eq!(next(&mut socket).await["type"], "closed");
    assert_eq!(closed(&mut socket).await.0, 1000);
    server.is_idle().await;
    assert_eq!(server.recordings().len(), 1, "the test left nothing behind");
    server.stop().await;
}

/// As for the providers that come by a token: documented, counted, and of no harm to the next call.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_socket_of_genesys_brings_it_ends_as_documented_and_is_counted() {
    let server = Server::start_with(Script::new(), Default::default(), with_key).await;
    let far_end = || FarEnd::new(stream_start(Provider::Genesys, "CA1"));
    let text = |message| match message {
        WireMessage::Text(text) => Message::text(text),
        WireMessage::Binary(bytes) => Message::binary(bytes),
    };
    let key = || text(far_end().dtmf('1'));
    // whether the session is open, what comes, how often, close code
    let cases = [
        (false, "audio", Message::binary(vec![0xFF; 160]), 1, 1008),
        (false, "a key", key(), 1, 1008),
        (false, "junk", Message::text("hello"), 1, 1007),
        (false, "a megabyte", Message::text("x".repeat(1 << 20)), 1, 1009),
        (true, "junk", Message::text("hello"), 51, 1007),
        (true, "a megabyte", Message::binary(vec![0; 1 << 20]), 1, 1009),
    ];
    for (open, case, message, times, code) in cases {
        let before = protocol_errors(&server).await;
        let mut socket = connected(&server).await;
        if open {
            for message in far_end().opening() {
                put(&mut socket, message).await;
            }
        }
        for _ in 0..times {
            send(&mut socket, message.clone()).await;
        }
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}, open: {open}: {reason}");
        assert!(protocol_errors(&server).await > before, "{case}, open: {open}");
    }
    let greeted = vec![Step::WaitForSpeech {
        heard: Duration::from_millis(100),
        timeout: LIMIT,
    }];
    call(&server, greeted).place().await.unwrap();
    server.stop().await;
}

async fn protocol_errors(server: &Server) -> f64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let counter = "voxray_protocol_errors_total{transport=\"telephony\"}";
    let line = text.lines().find(|line| line.starts_with(counter));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}
