//! `/telephony/ws`: whatever comes on a phone stream, it ends in the documented way and harms nobody else.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::wire::twilio::far_end::connected;
use media_svc::transport::Timeouts;
use tokio_tungstenite::tungstenite::Message;
use voxray_testkit::scripted::Script;

use crate::support::{LIMIT, SHORT, Server, claims, closed, eventually, far_end, forged, open, send, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_good_token_is_refused_before_the_upgrade() {
    let server = Server::start(Script::new()).await;
    let mut expired = claims("telephony");
    expired.expires_at = 1;
    let used = server.stream_url("CA1").await;
    let used_path = used
        .split_once("/telephony")
        .map(|(_, rest)| format!("/telephony{rest}"))
        .unwrap();
    let first = open(&used).await;
    let cases = [
        ("no token", "/telephony/ws".to_owned()),
        ("junk", "/telephony/ws/junk".to_owned()),
        ("forged", format!("/telephony/ws/{}", forged(&claims("telephony")))),
        ("expired", format!("/telephony/ws/{}", server.sign(&expired))),
        (
            "for a client socket",
            format!("/telephony/ws?token={}", server.sign(&claims("websocket"))),
        ),
        ("used", used_path),
    ];
    for (case, path) in cases {
        let (status, body) = server.handshake(&path, &[]).await;
        assert_eq!(status, 403, "{case}: {body}");
        assert_eq!(body["error"]["code"], "FORBIDDEN", "{case}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("token"), "{case}: {message}");
    }
    drop(first);
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_stream_url_without_upgrading_does_not_use_it_up() {
    let server = Server::start(Script::new()).await;
    let url = server.stream_url("CA1").await;

    let look = server.http.get(url.replacen("ws", "http", 1)).send().await.unwrap();
    assert_eq!(look.status(), 400);
    let body: serde_json::Value = look.json().await.unwrap();
    assert_eq!(body["error"]["code"], "BAD_REQUEST");

    let mut socket = open(&url).await;
    send(&mut socket, far_end("CA1").stop()).await;
    assert_eq!(closed(&mut socket).await.0, 1000);
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_start_ends_the_stream_with_its_code() {
    let server = Server::start(Script::new()).await;
    let wrong_format = r#"{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1",
        "mediaFormat":{"encoding":"audio/l16","sampleRate":16000,"channels":1}}}"#;
    let cases: [(&str, Message, u16, &str); 8] = [
        (
            "media",
            far_end("CA1").media(0, &[255; 160]).into(),
            1008,
            "before `start`",
        ),
        ("a key", far_end("CA1").dtmf('1').into(), 1008, "before `start`"),
        ("junk", "hello".into(), 1007, "not a media stream message"),
        ("JSON of another kind", "[]".into(), 1007, "not a media stream message"),
        ("binary", Message::binary(vec![0; 160]), 1008, "before `start`"),
        (
            "start of another call",
            far_end("CA2").start().into(),
            1008,
            "another call",
        ),
        ("other audio", wrong_format.into(), 1007, "audio/x-mulaw"),
        ("a megabyte", "x".repeat(1 << 20).into(), 1009, "larger than"),
    ];
    for (case, message, code, says) in cases {
        let mut socket = server.open_stream("CA1").await;
        send(&mut socket, message).await;
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}: {reason}");
        assert!(reason.contains(says), "{case}: {reason}");
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_starts_is_closed_even_if_it_pings() {
    let server = Server::start_with(Script::new(), SHORT, |_| {}).await;

    let mut silent = server.open_stream("CA1").await;
    assert_eq!(
        closed(&mut silent).await,
        (1008, "no start message within 0.3 s".to_owned())
    );

    let mut pinging = server.open_stream("CA2").await;
    let mut greeting = server.open_stream("CA3").await;
    let pings = async {
        loop {
            send(&mut pinging, Message::Ping(bytes::Bytes::new())).await;
            send(&mut greeting, connected()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if server.process.media().sessions() == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, pings).await.unwrap();
    assert_eq!(closed(&mut pinging).await.0, 1008);
    assert_eq!(closed(&mut greeting).await.0, 1008);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_running_stream_ends_it_with_its_code() {
    let server = Server::start(Script::new()).await;
    let cases: [(&str, Message, u16); 2] = [
        ("binary", Message::binary(vec![0; 160]), 1007),
        ("a megabyte", "x".repeat(1 << 20).into(), 1009),
    ];
    for (case, message, code) in cases {
        let (mut socket, _) = server.begin_stream("CA1").await;
        send(&mut socket, message).await;
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}: {reason}");
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_survives_a_few_bad_messages_and_not_many() {
    let server = Server::start(Script::new()).await;
    let not_base64 = r#"{"event":"media","streamSid":"MZ1","media":{"payload":"!!"}}"#;
    let cases = [
        ("junk", "hello".to_owned(), 1007),
        ("audio that is not base64", not_base64.to_owned(), 1007),
        ("start again", far_end("CA1").start(), 1008),
        ("a key that no telephone has", far_end("CA1").dtmf('x'), 1007),
    ];
    for (case, message, code) in cases {
        let (mut socket, mut far_end) = server.begin_stream("CA1").await;
        for _ in 0..50 {
            send(&mut socket, message.clone()).await;
        }
        // Still there: the greeting's mark is asked for and hanging up is a normal end.
        let greeted = until(&mut socket, |text| text.contains(r#""event":"media""#)).await;
        assert!(greeted, "{case}");
        send(&mut socket, message).await;
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{case}: {reason}");
        send(&mut socket, far_end.stop()).await;
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_falls_silent_for_ever_is_closed() {
    let silence = |config: &mut service_kit::config::Config| config.media.socket_silence_secs = 0.3;
    let server = Server::start_with(Script::new(), Timeouts::default(), silence).await;

    let (mut socket, _) = server.begin_stream("CA1").await;
    let (code, reason) = closed(&mut socket).await;

    assert_eq!((code, reason.as_str()), (1008, "nothing was received for 0.3 s"));
    server.is_idle().await;
    eventually("the call is archived", async || server.recordings().len() == 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_end_that_vanishes_leaves_nothing_behind() {
    let server = Server::start_with(Script::new(), SHORT, |_| {}).await;
    let (running, _) = server.begin_stream("CA1").await;
    let waiting = server.open_stream("CA2").await;

    drop(running);
    drop(waiting);

    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_end_that_goes_on_talking_while_the_agent_hangs_up_sees_a_normal_close() {
    let server = Server::start(Script::new()).await;
    let (socket, mut far_end) = server.begin_stream("CA1").await;
    let (mut sink, mut stream) = socket.split();
    let talking = async {
        let mut clock = tokio::time::interval(Duration::from_millis(5));
        let mut at = 0;
        loop {
            clock.tick().await;
            let sent = sink.send(far_end.media(at, &[255; 160]).into()).await;
            if at == 0 {
                server.end_all_sessions().await;
            }
            at += 20;
            if sent.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let reading = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    };
    let code = tokio::select! {
        () = talking => unreachable!(),
        code = tokio::time::timeout(LIMIT, reading) => code.unwrap(),
    };
    assert_eq!(code, 1000);
    server.is_idle().await;
    server.stop().await;
}
