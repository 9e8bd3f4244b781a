//! Who may open a client socket, and what is refused before the upgrade.

use std::time::Duration;

use media_core::wire::telephony::Provider;
use media_svc::transport::Timeouts;
use serde_json::{Value, json};
use service_kit::config::{Config, Limits, Secret, Secrets};
use voxray::caller::{Call, CallError};
use voxray_testkit::scripted::{Answer, Script};

use crate::client::{PROTOBUF, client_ready, next_message, ready, rtvi};
use crate::support::{Server, claims, closed, eventually, open, send};

const KEY: &str = "a-key-of-this-server";

fn with_key(config: &mut Config) {
    config.secrets = Secrets::new([].into(), vec![Secret::new(KEY)]).into();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_server_key_a_client_needs_the_key_or_a_token_of_start() {
    let server = Server::start_with(Script::new(), Timeouts::default(), with_key).await;

    for headers in [&[][..], &[("authorization", "Bearer wrong")][..]] {
        let (status, body) = server.handshake(PROTOBUF, headers).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &json!("UNAUTHORIZED")),
            "{headers:?}"
        );
    }
    let (status, _) = server.handshake(PROTOBUF, &[("x-api-key", KEY)]).await;
    assert_eq!(status, 101);

    let start = || {
        let request = server.http.post(format!("{}/start", server.base));
        request.json(&json!({"transport": "websocket", "body": {"name": "Ada"}}))
    };
    assert_eq!(start().send().await.unwrap().status(), 401);
    let answer: Value = start().bearer_auth(KEY).send().await.unwrap().json().await.unwrap();
    let keys: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["token", "wsUrl"]);
    let url = answer["wsUrl"].as_str().unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    let format = if url.contains("format=") {
        ""
    } else {
        "format=protobuf&"
    };
    let url = format!("{url}{separator}{format}token={}", answer["token"].as_str().unwrap());

    let mut socket = open(&url).await;
    send(&mut socket, client_ready()).await;
    next_message(&mut socket, |message| message["type"] == "bot-ready").await;
    let path = url.split_once("/ws").map(|(_, query)| format!("/ws{query}")).unwrap();
    let (status, body) = server.handshake(&path, &[]).await;
    assert_eq!(status, 403, "{body}");
    assert!(
        body["error"]["message"].as_str().unwrap().contains("used before"),
        "{body}"
    );

    let wrong = server.sign(&claims("telephony"));
    let (status, _) = server
        .handshake(&format!("{PROTOBUF}&token={wrong}"), &[("x-api-key", KEY)])
        .await;
    assert_eq!(status, 403);
    drop(socket);
    eventually("the calls are over", async || server.process.media().sessions() == 0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_sessions_are_limited_a_client_needs_a_token_of_start_whatever_its_key() {
    let limits: [fn(&mut Limits); 3] = [
        |limits| limits.sessions_per_key = 1,
        |limits| limits.starts_per_minute = 1,
        |limits| limits.starts_per_minute_per_address = 1,
    ];
    for limit in limits {
        let limited = |config: &mut Config| {
            with_key(config);
            limit(&mut config.limits);
        };
        let server = Server::start_with(Script::new(), Timeouts::default(), limited).await;

        let (status, _) = server.handshake(PROTOBUF, &[]).await;
        assert_eq!(status, 401, "who has no key is told that first");
        let (status, body) = server.handshake(PROTOBUF, &[("x-api-key", KEY)]).await;
        assert_eq!((status, &body["error"]["code"]), (403, &json!("FORBIDDEN")));
        assert!(
            body["error"]["message"].as_str().unwrap().contains("POST /start"),
            "{body}"
        );

        let start = || {
            let request = server.http.post(format!("{}/start", server.base)).bearer_auth(KEY);
            request.json(&json!({"transport": "websocket"})).send()
        };
        let answer: Value = start().await.unwrap().json().await.unwrap();
        let (url, token) = (answer["wsUrl"].as_str().unwrap(), answer["token"].as_str().unwrap());
        let mut socket = open(&format!("{url}&token={token}")).await;
        send(&mut socket, client_ready()).await;
        next_message(&mut socket, |message| message["type"] == "bot-ready").await;
        assert_eq!(start().await.unwrap().status(), 429);
        drop(socket);
        eventually("the call is over", async || server.process.media().sessions() == 0).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_an_unknown_dialect_or_origin_is_refused() {
    let origins = |config: &mut Config| config.http.cors_allowed_origins = vec!["https://app.example".to_owned()];
    let server = Server::start_with(Script::new(), Timeouts::default(), origins).await;

    let unknown = [
        ("/ws?format=xml", "format"),
        ("/ws?rtvi=2", "rtvi"),
        ("/api/v1/ws?format=", "format"),
    ];
    for (path, field) in unknown {
        let (status, body) = server.handshake(path, &[]).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (422, &json!("VALIDATION_ERROR")),
            "{path}"
        );
        assert_eq!(body["error"]["details"][0]["field"], field);
    }
    let (status, body) = server.handshake(PROTOBUF, &[("origin", "https://evil.example")]).await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("FORBIDDEN")));
    let (status, _) = server.handshake(PROTOBUF, &[("origin", "https://app.example")]).await;
    assert_eq!(status, 101);
    let plain = server.get(PROTOBUF).await;
    assert_eq!(plain.status(), 400);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_draining_new_callers_are_refused_and_running_ones_go_on() {
    let script = Script::new().answers(Answer::say("Still here."));
    let server = Server::start(script).await;
    let mut socket = ready(&server).await;
    let checks = async {
        eventually("the node drains", async || server.get("/ready").await.status() == 503).await;
        let (status, body) = server.handshake(PROTOBUF, &[]).await;
        assert_eq!((status, &body["error"]["code"]), (503, &json!("SERVICE_UNAVAILABLE")));
        assert!(
            body["error"]["message"].as_str().unwrap().contains("draining"),
            "{body}"
        );
        assert_eq!(server.get("/health").await.status(), 200);

        send(
            &mut socket,
            rtvi("send-text", "t", &json!({"content": "Are you there?"})),
        )
        .await;
        let said = next_message(&mut socket, |message| message["type"] == "bot-llm-text").await;
        assert_eq!(said["data"]["text"], "Still ");
        send(&mut socket, rtvi("disconnect-bot", "x", &Value::Null)).await;
        assert_eq!(closed(&mut socket).await.0, 1000);
    };
    let (drained, ()) = tokio::join!(server.process.media().drain(), checks);

    let drained = drained.unwrap();
    assert_eq!((drained.ended, drained.left), (0, 0));
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_call_could_not_be_recorded_it_is_refused_and_says_why() {
    const LIMIT_BYTES: u64 = 140_000;
    let tiny = |config: &mut Config| config.outbox.max_bytes = LIMIT_BYTES;
    let server = Server::start_with(Script::new(), Timeouts::default(), tiny).await;
    // Audio stays in the outbox until its call has ended.
    let (mut running, mut far_end) = server.begin_stream("CA1").await;
    let mut at_ms = 0;
    let talking = async {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        loop {
            clock.tick().await;
            send(&mut running, far_end.media(at_ms, &[255; 160])).await;
            at_ms += 20;
        }
    };
    let full = eventually("the outbox is full", async || {
        server.metric("outbox_depth_bytes").await > LIMIT_BYTES as f64 * 0.88
    });
    tokio::select! {
        () = talking => unreachable!(),
        () = full => {}
    }

    // Who calls now hears an apology; a stream that was announced before is refused, with the reason.
    let refused = Call::new(&server.base, Vec::new()).place().await.unwrap_err();
    assert!(matches!(refused, CallError::Refused(_)), "{refused}");
    let (url, _) = server.url_for(Provider::Twilio, "CA2");
    let path = url
        .split_once("/telephony")
        .map(|(_, rest)| format!("/telephony{rest}"))
        .unwrap();
    let (status, body) = server.handshake(&path, &[]).await;

    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("SERVICE_UNAVAILABLE")),
        "{body}"
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("could not be recorded") && message.contains("outbox is full"),
        "{message}"
    );
    send(&mut running, far_end.stop()).await;
    assert_eq!(closed(&mut running).await.0, 1000);
    server.is_idle().await;
    eventually("the outbox is empty", async || {
        server.metric("outbox_depth_bytes").await < 1_000.0
    })
    .await;
    server.is_unharmed().await;
    server.stop().await;
}
