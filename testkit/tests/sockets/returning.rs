//! A stream that the network cuts may come back; one that hangs up is gone at once.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::Provider;
use media_svc::transport::Timeouts;
use service_kit::config::Config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use voxray_testkit::scripted::Script;

use crate::support::{Server, Socket, closed, eventually, open, put, send, stream_start, until};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3_600);

fn holding(hold: Duration) -> Timeouts {
    Timeouts {
        hold,
        ..Timeouts::default()
    }
}

/// Long enough to be interrupted by a cut.
fn long_greeting(config: &mut Config) {
    config.agent.greeting = Some("We are glad that you call us today. ".repeat(8));
}

async fn begin(socket: &mut Socket, far_end: &mut FarEnd) {
    for message in far_end.opening() {
        put(socket, message).await;
    }
}

async fn begun(server: &Server, provider: Provider, call_id: &str) -> (Socket, FarEnd, String) {
    let (url, _) = server.url_for(provider, call_id);
    let mut socket = open(&url).await;
    let mut far_end = FarEnd::new(stream_start(provider, call_id));
    begin(&mut socket, &mut far_end).await;
    (socket, far_end, url)
}

async fn hears_the_agent(socket: &mut Socket) -> bool {
    let hearing = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(_))) => return true,
                Some(Ok(Message::Text(text))) if text.contains("payload") => return true,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return false,
                Some(Ok(_)) => {}
            }
        }
    };
    tokio::time::timeout(crate::support::LIMIT, hearing).await.unwrap()
}

/// Opens the URL again as soon as the server has noticed the cut.
async fn reopened(url: &str) -> Socket {
    let opening = async {
        loop {
            match tokio_tungstenite::connect_async(url).await {
                Ok((socket, _)) => return socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(crate::support::LIMIT, opening).await.unwrap()
}

async fn status_of(server: &Server, url: &str) -> (u16, String) {
    let path = url
        .split_once("/telephony")
        .map(|(_, rest)| format!("/telephony{rest}"))
        .unwrap();
    let (status, body) = server.handshake(&path, &[]).await;
    (status, body["error"]["message"].as_str().unwrap_or_default().to_owned())
}

async fn cuts(server: &Server, outcome: &str) -> f64 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let wanted = format!("voxray_phone_stream_cuts_total{{outcome=\"{outcome}\"}}");
    let line = text.lines().find(|line| line.starts_with(&wanted));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_cut_comes_back_to_the_same_conversation() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    let before = cuts(&server, "returned").await;
    for provider in [
        Provider::Twilio,
        Provider::Telnyx,
        Provider::Plivo,
        Provider::Exotel,
        Provider::Vonage,
    ] {
        let (mut socket, _, url) = begun(&server, provider, "CA1").await;
        assert!(hears_the_agent(&mut socket).await, "{provider:?}");
        assert_eq!(
            status_of(&server, &url).await.0,
            403,
            "{provider:?}: the first socket lives"
        );

        drop(socket);
        let mut socket = reopened(&url).await;
        let mut far_end = FarEnd::new(stream_start(provider, "CA1"));
        begin(&mut socket, &mut far_end).await;

        assert!(hears_the_agent(&mut socket).await, "{provider:?}: the greeting goes on");
        assert_eq!(server.process.media().sessions(), 1, "{provider:?}");
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
        server.is_idle().await;
        let (status, message) = status_of(&server, &url).await;
        assert_eq!(status, 403, "{provider:?}: the call has ended");
        assert!(message.contains("used before"), "{message}");
    }
    eventually("one recording a call", async || server.recordings().len() == 5).await;
    assert_eq!(cuts(&server, "returned").await - before, 5.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_asks_what_is_next_is_given_the_stream_again_until_the_call_is_over() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    let ask = async |url: &str| {
        let fields = [
            ("CallSid", "CA1"),
            ("CallStatus", "in-progress"),
            ("From", "+15550001111"),
        ];
        let answer = server.http.post(url).form(&fields).send().await.unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    };
    let attribute = |twiml: &str, name: &str| {
        let (_, rest) = twiml
            .split_once(&format!("{name}=\""))
            .unwrap_or_else(|| panic!("{twiml}"));
        rest.split('"').next().unwrap().to_owned()
    };
    let twiml = ask(&format!("{}/telephony/twilio", server.base)).await;
    let (url, action) = (attribute(&twiml, "url"), attribute(&twiml, "action"));
    let mut far_end = FarEnd::new(stream_start(Provider::Twilio, "CA1"));
    let mut socket = open(&url).await;
    begin(&mut socket, &mut far_end).await;
    assert!(hears_the_agent(&mut socket).await);

    drop(socket);
    let twiml = ask(&action).await;
    assert_eq!(attribute(&twiml, "url"), url, "the same stream");
    let mut socket = reopened(&url).await;
    let mut far_end = FarEnd::new(stream_start(Provider::Twilio, "CA1"));
    begin(&mut socket, &mut far_end).await;
    assert!(hears_the_agent(&mut socket).await, "the greeting goes on");
    assert_eq!(server.process.media().sessions(), 1);

    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    server.is_idle().await;
    let twiml = ask(&attribute(&twiml, "action")).await;
    assert!(twiml.ends_with("<Response></Response>"), "{twiml}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_server_of_the_provider_that_goes_away_has_not_hung_up() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    for (provider, code) in [
        (Provider::Twilio, CloseCode::Away),
        (Provider::Vonage, CloseCode::Restart),
    ] {
        let (mut socket, _, url) = begun(&server, provider, "CA1").await;
        assert!(hears_the_agent(&mut socket).await, "{provider:?}");
        let reason = "".into();
        socket.close(Some(CloseFrame { code, reason })).await.unwrap();

        let mut socket = reopened(&url).await;
        let mut far_end = FarEnd::new(stream_start(provider, "CA1"));
        begin(&mut socket, &mut far_end).await;

        assert!(hears_the_agent(&mut socket).await, "{provider:?}");
        assert_eq!(server.process.media().sessions(), 1, "{provider:?}");
        socket.close(None).await.unwrap();
        server.is_idle().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_back_in_time_may_take_a_moment_to_say_so() {
    let hold = Duration::from_secs(2);
    let timeouts = Timeouts {
        start: crate::support::LIMIT,
        ..holding(hold)
    };
    let server = Server::start_with(Script::new(), timeouts, long_greeting).await;
    let (mut socket, _, url) = begun(&server, Provider::Twilio, "CA1").await;
    assert!(hears_the_agent(&mut socket).await);
    drop(socket);

    let mut socket = reopened(&url).await;
    // It says so only when the time to come back is over.
    tokio::time::sleep(hold + Duration::from_millis(500)).await;
    let mut far_end = FarEnd::new(stream_start(Provider::Twilio, "CA1"));
    begin(&mut socket, &mut far_end).await;

    assert!(hears_the_agent(&mut socket).await);
    socket.close(None).await.unwrap();
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_is_given_back_to_its_own_call_only() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    let (mut socket, _, url) = begun(&server, Provider::Twilio, "CA1").await;
    assert!(hears_the_agent(&mut socket).await);
    drop(socket);

    let mut wrong = reopened(&url).await;
    let mut far_end = FarEnd::new(stream_start(Provider::Twilio, "CA2"));
    begin(&mut wrong, &mut far_end).await;
    let (code, reason) = closed(&mut wrong).await;
    assert_eq!(code, 1008, "{reason}");
    assert!(reason.contains("another call"), "{reason}");

    let mut right = reopened(&url).await;
    let mut far_end = FarEnd::new(stream_start(Provider::Twilio, "CA1"));
    begin(&mut right, &mut far_end).await;
    assert!(hears_the_agent(&mut right).await);
    put(&mut right, far_end.stop().unwrap()).await;
    assert_eq!(closed(&mut right).await.0, 1000);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_come_back_in_time_ends_its_call() {
    let server = Server::start_with(Script::new(), holding(Duration::from_millis(300)), long_greeting).await;
    let before = cuts(&server, "lost").await;
    let (mut socket, _, url) = begun(&server, Provider::Telnyx, "CA1").await;
    assert!(hears_the_agent(&mut socket).await);

    drop(socket);

    server.is_idle().await;
    assert_eq!(cuts(&server, "lost").await - before, 1.0);
    assert_eq!(status_of(&server, &url).await.0, 403);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_on_which_nothing_comes_any_more_may_be_replaced() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    let (mut stalled, _, url) = begun(&server, Provider::Plivo, "CA1").await;
    assert!(hears_the_agent(&mut stalled).await);

    let mut socket = reopened(&url).await;
    let mut far_end = FarEnd::new(stream_start(Provider::Plivo, "CA1"));
    begin(&mut socket, &mut far_end).await;

    assert!(hears_the_agent(&mut socket).await);
    assert!(!until(&mut stalled, |_| false).await, "the old one is let go");
    assert_eq!(server.process.media().sessions(), 1);
    socket.close(None).await.unwrap();
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_is_noticed_at_once_however_the_provider_says_it() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    for provider in Provider::ALL
        .into_iter()
        .filter(|provider| *provider != Provider::Genesys)
    {
        let (mut socket, mut far_end, _) = begun(&server, provider, "CA1").await;
        assert!(hears_the_agent(&mut socket).await, "{provider:?}");
        match far_end.stop() {
            Some(stop) => {
                put(&mut socket, stop).await;
                assert_eq!(closed(&mut socket).await.0, 1000, "{provider:?}");
            }
            None => socket.send(Message::Close(None)).await.unwrap(),
        }
        eventually("the call is over", async || server.process.media().sessions() == 0).await;
    }
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_ended_while_its_stream_is_cut_is_over() {
    let server = Server::start_with(Script::new(), holding(FOR_EVER), long_greeting).await;
    let (mut socket, _, url) = begun(&server, Provider::Exotel, "CA1").await;
    assert!(hears_the_agent(&mut socket).await);
    drop(socket);
    let mut back = reopened(&url).await;
    send(&mut back, Message::Close(None)).await;
    // Nothing was said on it: the stream is still cut.
    eventually("the call still waits", async || server.process.media().sessions() == 1).await;

    server.end_all_sessions().await;

    server.is_idle().await;
    server.stop().await;
}
