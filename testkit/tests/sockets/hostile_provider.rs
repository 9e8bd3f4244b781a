//! Whatever a provider's stream brings, it ends in the documented way, is counted, and harms nobody else.

use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Message as WireMessage, Provider};
use tokio_tungstenite::tungstenite::Message;
use voxray_testkit::scripted::Script;

use crate::support::{Server, Socket, closed, open, put, send, stream_start};

/// Bad messages that a running stream survives.
const TOLERATED: usize = 50;

const BY_TOKEN: [Provider; 5] = [
    Provider::Twilio,
    Provider::Telnyx,
    Provider::Plivo,
    Provider::Exotel,
    Provider::Vonage,
];

async fn opened(server: &Server, provider: Provider) -> (Socket, FarEnd) {
    let (url, _) = server.url_for(provider, "CA1");
    (open(&url).await, FarEnd::new(stream_start(provider, "CA1")))
}

async fn begun(server: &Server, provider: Provider) -> (Socket, FarEnd) {
    let (mut socket, mut far_end) = opened(server, provider).await;
    for message in far_end.opening() {
        put(&mut socket, message).await;
    }
    (socket, far_end)
}

fn wire(message: WireMessage) -> Message {
    match message {
        WireMessage::Text(text) => Message::text(text),
        WireMessage::Binary(bytes) => Message::binary(bytes),
    }
}

async fn counted(server: &Server) -> f64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let counter = "voxray_protocol_errors_total{transport=\"telephony\"}";
    let line = text.lines().find(|line| line.starts_with(counter));
    // A counter is there from its first event on.
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_a_start_is_refused_by_every_provider() {
    let server = Server::start(Script::new()).await;
    for provider in BY_TOKEN {
        let (_, mut far_end) = opened(&server, provider).await;
        let other = if provider == Provider::Twilio {
            Provider::Telnyx
        } else {
            Provider::Twilio
        };
        let foreign = FarEnd::new(stream_start(other, "CA1")).opening().pop().unwrap();
        let another_call = FarEnd::new(stream_start(provider, "CA2")).opening().pop().unwrap();
        let mut cases = vec![
            ("audio", wire(far_end.media(0, &[0; 160])), 1008, "before `start`"),
            ("a key", wire(far_end.dtmf('1')), 1008, "before `start`"),
            ("another provider", wire(foreign), 1008, "announced for"),
            ("junk", Message::text("hello"), 1007, "not a media stream message"),
            (
                "binary junk",
                Message::binary(vec![0xFF; 1_000]),
                1008,
                "before `start`",
            ),
            ("a megabyte", Message::text("x".repeat(1 << 20)), 1009, "larger than"),
        ];
        if provider != Provider::Vonage {
            // Vonage's streams do not say which call they are.
            cases.push(("another call", wire(another_call), 1008, "another call"));
        }
        for (case, message, code, says) in cases {
            let before = counted(&server).await;
            let (mut socket, _) = opened(&server, provider).await;
            send(&mut socket, message).await;
            let (closed_with, reason) = closed(&mut socket).await;
            assert_eq!(closed_with, code, "{provider:?}, {case}: {reason}");
            assert!(reason.contains(says), "{provider:?}, {case}: {reason}");
            assert!(counted(&server).await > before, "{provider:?}, {case}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_running_stream_ends_it_after_a_while_or_at_once() {
    let server = Server::start(Script::new()).await;
    for provider in BY_TOKEN {
        let not_base64 = Message::text(r#"{"event":"media","media":{"payload":"!!"}}"#);
        let (audio_case, bad_audio) = match provider {
            Provider::Vonage => ("half a sample", Message::binary(vec![0; 639])),
            Provider::Exotel => (
                "half a sample",
                Message::text(r#"{"event":"media","media":{"payload":"AAAA"}}"#),
            ),
            _ => ("not base64", not_base64),
        };
        let (_, mut far_end) = opened(&server, provider).await;
        let key = wire(far_end.dtmf('1'));
        let cases = [
            (audio_case, bad_audio, TOLERATED + 1, 1007),
            ("junk", Message::text("hello"), TOLERATED + 1, 1007),
            ("a storm of keys", key, 1_000, 1008),
            ("a megabyte", Message::binary(vec![0; 1 << 20]), 1, 1009),
        ];
        for (case, message, times, code) in cases {
            let before = counted(&server).await;
            let (mut socket, _) = begun(&server, provider).await;
            for _ in 0..times {
                send(&mut socket, message.clone()).await;
            }
            let (closed_with, reason) = closed(&mut socket).await;
            assert_eq!(closed_with, code, "{provider:?}, {case}: {reason}");
            assert!(counted(&server).await > before, "{provider:?}, {case}");
        }
        if provider != Provider::Vonage {
            let (mut socket, _) = begun(&server, provider).await;
            send(&mut socket, Message::binary(vec![0xFF; 160])).await;
            let (code, reason) = closed(&mut socket).await;
            assert_eq!(code, 1007, "{provider:?}: {reason}");
        }
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_out_of_order_or_used_twice_cost_no_call() {
    let server = Server::start(Script::new()).await;
    for provider in [Provider::Twilio, Provider::Telnyx, Provider::Plivo, Provider::Exotel] {
        let (mut socket, mut far_end) = begun(&server, provider).await;
        let late = format!("voxray_phone_frames_late_total{{provider=\"{}\"}}", provider.name());
        let mut messages: Vec<WireMessage> = (0..40).map(|at| far_end.media(at * 20, &[0; 160])).collect();
        messages.swap(10, 12);
        messages.insert(20, messages[19].clone());
        messages.insert(30, messages[1].clone());
        for message in messages {
            put(&mut socket, message).await;
        }
        match far_end.stop() {
            Some(stop) => {
                put(&mut socket, stop).await;
                assert_eq!(closed(&mut socket).await.0, 1000, "{provider:?}");
            }
            None => socket.close(None).await.unwrap(),
        }
        server.is_idle().await;
        assert!(server.metric(&late).await >= 2.0, "{provider:?}");
    }
    server.stop().await;
}
