//! The stream URL that a webhook answers with opens one stream of one call, whichever provider asked.

use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::Provider;
use voxray_testkit::scripted::Script;

use crate::support::{Server, Socket, claims, closed, forged, open, put, stream_start};

const PROVIDERS: [&str; 5] = ["twilio", "telnyx", "plivo", "exotel", "vonage"];

/// The stream URL that this provider's webhook for a call answers with.
async fn stream_url(server: &Server, provider: &str, call_id: &str) -> String {
    let body = format!("CallSid={call_id}&CallUUID={call_id}&uuid={call_id}");
    let answer = server
        .http
        .post(format!("{}/telephony/{provider}", server.base))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200, "{provider}");
    let document = answer.text().await.unwrap();
    let from = document
        .find("ws://")
        .unwrap_or_else(|| panic!("{provider}: {document}"));
    document[from..].split(['"', '<']).next().unwrap().to_owned()
}

/// Everything up to the start of a stream.
async fn begin(socket: &mut Socket, provider: &str, call_id: &str) {
    let mut start = stream_start(Provider::from_name(provider).unwrap(), call_id);
    // Vonage's own messages name no call; the headers of a document may.
    start.parameters = [("call_uuid".to_owned(), call_id.to_owned())].into();
    for message in FarEnd::new(start).opening() {
        put(socket, message).await;
    }
}

fn path(url: &str) -> String {
    let (_, rest) = url.split_once("/telephony").unwrap();
    format!("/telephony{rest}")
}

async fn refused(server: &Server, reason: &str) -> f64 {
    let name = format!("voxray_socket_tokens_refused_total{{reason=\"{reason}\"}}");
    let text = server.get("/metrics").await.text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(&name));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_any_provider_is_good_once_and_until_its_end_and_what_is_refused_is_counted() {
    let server = Server::start_with(Script::new(), media_svc::transport::Timeouts::default(), |config| {
        config.media.max_sessions = 50;
    })
    .await;
    for provider in PROVIDERS {
        let used = stream_url(&server, provider, "CA1").await;
        let first = open(&used).await;
        let mut expired = claims("telephony");
        expired.provider = provider.to_owned();
        let forgery = forged(&expired);
        let client = server.sign(&claims("websocket"));
        expired.expires_at = 1;
        let cases = [
            ("used", path(&used)),
            ("forged", format!("/telephony/ws/{forgery}")),
            ("expired", format!("/telephony/ws/{}", server.sign(&expired))),
            ("foreign", format!("/telephony/ws/{client}")),
            ("malformed", "/telephony/ws/junk".to_owned()),
            ("missing", "/telephony/ws".to_owned()),
        ];
        for (reason, path) in cases {
            let before = refused(&server, reason).await;
            let (status, body) = server.handshake(&path, &[]).await;
            assert_eq!(
                (status, &body["error"]["code"]),
                (403, &"FORBIDDEN".into()),
                "{provider} {reason}"
            );
            assert_eq!(refused(&server, reason).await, before + 1.0, "{provider} {reason}");
        }
        drop(first);
    }
    server.end_all_sessions().await;
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_another_call_closes_the_stream_of_any_provider_and_is_counted() {
    let server = Server::start(Script::new()).await;
    for provider in PROVIDERS {
        let before = refused(&server, "foreign").await;
        let mut socket = open(&stream_url(&server, provider, "CA1").await).await;

        begin(&mut socket, provider, "CA2").await;

        let (code, reason) = closed(&mut socket).await;
        assert_eq!(code, 1008, "{provider}: {reason}");
        assert!(reason.contains("another call"), "{provider}: {reason}");
        assert_eq!(refused(&server, "foreign").await, before + 1.0, "{provider}");
        drop(socket);
        server.is_idle().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unused_token_of_a_session_that_was_ended_opens_nothing() {
    let server = Server::start(Script::new()).await;
    for provider in PROVIDERS {
        let before = refused(&server, "ended").await;
        let url = stream_url(&server, provider, "CA1").await;

        server.end_all_sessions().await;

        server.is_idle().await;
        let (status, body) = server.handshake(&path(&url), &[]).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (403, &"FORBIDDEN".into()),
            "{provider}"
        );
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("was ended"), "{provider}: {message}");
        assert_eq!(refused(&server, "ended").await, before + 1.0, "{provider}");
        server.is_idle().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_for_a_call_that_has_ended_begins_nothing() {
    let server = Server::start(Script::new()).await;
    for provider in PROVIDERS {
        let before = refused(&server, "used").await;
        let url = stream_url(&server, provider, "CA1").await;
        let mut over = open(&url).await;
        begin(&mut over, provider, "CA1").await;
        over.close(None).await.unwrap();
        drop(over);
        server.is_idle().await;

        // The same URL, as a provider that comes back would open it.
        let (status, body) = server.handshake(&path(&url), &[]).await;

        assert_eq!(
            (status, &body["error"]["code"]),
            (403, &"FORBIDDEN".into()),
            "{provider}"
        );
        assert_eq!(refused(&server, "used").await, before + 1.0, "{provider}");
    }
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_session_is_ended_before_its_start_is_closed_at_once() {
    let waiting = media_svc::transport::Timeouts {
        start: std::time::Duration::from_secs(3_600),
        ..media_svc::transport::Timeouts::default()
    };
    let server = Server::start_with(Script::new(), waiting, |_| {}).await;
    for provider in PROVIDERS {
        let mut socket = open(&stream_url(&server, provider, "CA1").await).await;

        server.end_all_sessions().await;

        let (code, reason) = closed(&mut socket).await;
        assert_eq!(code, 1000, "{provider}: {reason}");
        assert!(reason.contains("before it began"), "{provider}: {reason}");
        drop(socket);
        server.is_idle().await;
    }
    server.stop().await;
}
