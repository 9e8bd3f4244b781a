//! `POST /telephony/twilio` and `POST /`.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use service_kit::config::Secret;
use service_kit::token::{Claims, TokenSigner};
use session_store::{SessionState, Store};
use sha1::Sha1;
use tonic::Status;
use voxray_proto::control::Transport;

use crate::support::{Answer, Node, Plane, SERVICE_TOKEN, Switch, form};

const CALL: &[(&str, &str)] = &[
    ("AccountSid", "AC1"),
    ("CallSid", "CA1"),
    ("From", "+15550001111"),
    ("To", "+15552223333"),
];
type Pairs = &'static [(&'static str, &'static str)];

const SIGNED: &[(&str, &str)] = &[("api_keys.twilio", "12345")];

/// Checks that the answer connects the call, and answers the stream's URL without its token, and what that says.
fn stream(answer: &Answer) -> (String, Claims) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/xml");
    let url = answer
        .text
        .split("<Stream url=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert!(!url.contains('?'), "Twilio allows no query in a stream's URL: {url}");
    let (base, token) = url.rsplit_once('/').unwrap();
    let signer = TokenSigner::new(Secret::new(SERVICE_TOKEN));
    (base.to_owned(), signer.verify(token, SystemTime::now()).unwrap())
}

fn apologises(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/xml");
    assert!(answer.text.contains("<Say>We are sorry,"), "{}", answer.text);
    assert!(answer.text.ends_with("<Hangup/></Response>"), "{}", answer.text);
}

fn placements(metrics: &str, outcome: &str) -> u64 {
    let name = format!("placements_total{{outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The webhook, signed by Twilio for `url`.
fn signed(path: &str, url: &str) -> Request<Body> {
    let mut fields = CALL.to_vec();
    fields.sort();
    let mut mac = Hmac::<Sha1>::new_from_slice(b"12345").unwrap();
    mac.update(url.as_bytes());
    for (name, value) in fields {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let mut request = form(path, CALL);
    request
        .headers_mut()
        .insert("x-twilio-signature", signature.parse().unwrap());
    request
}

#[tokio::test]
async fn a_call_is_connected_to_a_tokened_stream_on_a_node_that_expects_it() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;

    let answer = plane
        .send(form("/telephony/twilio?name=Zo%C3%AB+%22Z%22&plan=gold", CALL))
        .await;

    let (base, claims) = stream(&answer);
    assert_eq!(base, "ws://n1.internal:8080/telephony/ws");
    assert_eq!(
        (claims.transport.as_str(), claims.provider.as_str()),
        ("telephony", "twilio")
    );
    assert_eq!(claims.call_id, "CA1");
    assert_eq!(
        claims.body_json, r#"{"name":"Zoë \"Z\"","plan":"gold"}"#,
        "no phone numbers in a URL"
    );
    assert!(
        answer.text.contains(
            "<Parameter name=\"name\" value=\"Zoë &quot;Z&quot;\"/><Parameter name=\"plan\" value=\"gold\"/>"
        ),
        "{}",
        answer.text
    );

    let created = node.created();
    assert_eq!(created.len(), 1);
    assert_eq!(created[0].session_id, claims.session_id);
    assert_eq!(created[0].transport(), Transport::Telephony);
    assert_eq!(
        (created[0].provider.as_str(), created[0].call_id.as_str()),
        ("twilio", "CA1")
    );
    let variables: serde_json::Value = serde_json::from_str(&created[0].body_json).unwrap();
    assert_eq!(variables["from"], "+15550001111");
    assert_eq!(variables["to"], "+15552223333");
    assert_eq!(variables["plan"], "gold");

    let record = store.session(&claims.session_id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.node_id.as_deref()),
        (SessionState::Reserved, Some("n1"))
    );
}

#[tokio::test]
async fn a_webhook_that_is_repeated_before_its_stream_comes_opens_no_second_session() {
    let store = Switch::new();
    let (one, other) = (Plane::start(&store, &[]).await, Plane::start(&store, &[]).await);
    let node = Node::start(&store, "n1").await;
    let ask = || form("/telephony/twilio?plan=gold", CALL);

    let (first, meanwhile) = tokio::join!(one.send(ask()), other.send(ask()));
    let later = other.send(ask()).await;

    assert_eq!((&meanwhile.text, &later.text), (&first.text, &first.text));
    let (_, claims) = stream(&first);
    let sessions = store.sessions().await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].session_id, claims.session_id);
    assert_eq!(node.created().len() - node.ended().len(), 1, "one slot");

    // A flow that comes back to the agent is another session, as soon as the first one has had its stream.
    let mut record = sessions[0].clone();
    record.state = SessionState::Connected;
    store
        .put_session(&record, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    let (_, again) = stream(&one.send(ask()).await);
    assert_ne!(again.session_id, claims.session_id);
}

#[tokio::test]
async fn the_streams_base_is_what_the_outside_world_can_reach() {
    // settings, expected base
    let cases: [(&[(&str, &str)], &str); 4] = [
        (
            &[("media_public_url", "wss://{node}.media.example.com/")],
            "wss://n1.media.example.com/telephony/ws",
        ),
        (
            &[("media_public_url", "https://media.example.com/rtc")],
            "wss://media.example.com/rtc/telephony/ws",
        ),
        (
            &[("proxy_host", "voice.example.com")],
            "wss://voice.example.com/telephony/ws",
        ),
        (
            &[
                ("proxy_host", "voice.example.com"),
                ("media_public_url", "http://10.0.0.1:81"),
            ],
            "ws://10.0.0.1:81/telephony/ws",
        ),
    ];
    for (settings, expected) in cases {
        let store = Switch::new();
        let plane = Plane::start(&store, settings).await;
        let _node = Node::start(&store, "n1").await;
        let (base, _) = stream(&plane.send(form("/telephony/twilio", CALL)).await);
        assert_eq!(base, expected);
    }
}

#[tokio::test]
async fn the_next_node_is_asked_when_one_refuses_or_does_not_answer() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let full = Node::start(&store, "full").await;
    full.refuse(Status::resource_exhausted("full"));
    let gone = Node::start(&store, "gone").await;
    let stranger = Node::unregistered("stranger", "another service token altogether").await;
    stranger.report(&store, |_| {}).await;
    drop(gone);
    let good = Node::start(&store, "good").await;
    good.report(&store, |record| record.sessions = 9).await;

    let (base, _) = stream(&plane.send(form("/telephony/twilio", CALL)).await);

    assert_eq!(base, "ws://good.internal:8080/telephony/ws");
    assert!(stranger.created().is_empty());
}

#[tokio::test]
async fn a_call_that_nobody_takes_hears_an_apology() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let before = placements(&plane.get("/metrics").await.text, "none");

    apologises(&plane.send(form("/telephony/twilio", CALL)).await);
    let node = Node::start(&store, "n1").await;
    node.refuse(Status::unavailable("draining"));
    apologises(&plane.send(form("/telephony/twilio", CALL)).await);
    store.switch(false);
    apologises(&plane.send(form("/telephony/twilio", CALL)).await);

    // Other tests of this process count too.
    assert!(placements(&plane.get("/metrics").await.text, "none") >= before + 3);
    store.switch(true);
    assert!(store.sessions().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_node_that_hangs_does_not_keep_the_caller_waiting_for_ever() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    // The kernel takes the connection, and nobody ever reads from it.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::unregistered("hangs", SERVICE_TOKEN).await;
    let url = format!("http://{}", hanging.local_addr().unwrap());
    node.report(&store, |record| record.control_url = url).await;

    apologises(&plane.send(form("/telephony/twilio", CALL)).await);
}

#[tokio::test]
async fn draining_and_full_nodes_and_those_of_another_pool_are_not_asked() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let nodes = [
        Node::start(&store, "draining").await,
        Node::start(&store, "full").await,
        Node::start(&store, "web").await,
    ];
    nodes[0].report(&store, |record| record.draining = true).await;
    nodes[1].report(&store, |record| record.sessions = 10).await;
    nodes[2]
        .report(&store, |record| record.transports = vec!["websocket".to_owned()])
        .await;

    apologises(&plane.send(form("/telephony/twilio", CALL)).await);

    for node in nodes {
        assert!(node.created().is_empty(), "{}", node.id);
    }
}

#[tokio::test]
async fn a_signed_webhook_is_taken_and_any_other_refused() {
    let store = Switch::new();
    let plane = Plane::start(&store, SIGNED).await;
    let node = Node::start(&store, "n1").await;
    let path = "/telephony/twilio?plan=gold";
    let url = format!("http://voice.example.com{path}");

    stream(&plane.send(signed(path, &url)).await);
    plane.send(form(path, CALL)).await.error(403, "FORBIDDEN");
    plane
        .send(signed("/telephony/twilio?plan=free", &url))
        .await
        .error(403, "FORBIDDEN");
    plane
        .send(signed(path, "http://evil.example.com/telephony/twilio"))
        .await
        .error(403, "FORBIDDEN");

    assert_eq!(node.created().len(), 1, "a refused webhook reserves nothing");
}

#[tokio::test]
async fn the_signed_url_is_the_public_one() {
    let path = "/api/v1/telephony/twilio";
    // settings, forwarded headers, signed host, taken
    const PROXIED: Pairs = &[
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "public.example.com, inner"),
    ];
    let cases: [(Pairs, Pairs, &str, bool); 6] = [
        (
            &[("proxy_host", "public.example.com")],
            &[],
            "https://public.example.com",
            true,
        ),
        (
            &[("proxy_host", "public.example.com")],
            PROXIED,
            "https://public.example.com:443",
            true,
        ),
        (
            &[("telephony.trusted_proxies", "10.0.0.0/8")],
            PROXIED,
            "https://public.example.com",
            true,
        ),
        (
            &[("telephony.trusted_proxies", "192.168.0.0/16")],
            PROXIED,
            "https://public.example.com",
            false,
        ),
        (&[], PROXIED, "https://public.example.com", false),
        (&[], PROXIED, "http://voice.example.com", true),
    ];
    for (settings, headers, host, taken) in cases {
        let store = Switch::new();
        let plane = Plane::start(&store, &[SIGNED, settings].concat()).await;
        let _node = Node::start(&store, "n1").await;
        let mut request = signed(path, &format!("{host}{path}"));
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let answer = plane.send(request).await;
        assert_eq!(
            answer.status == 200,
            taken,
            "{settings:?} {headers:?} {host}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn signatures_are_not_checked_when_that_was_asked_for() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[SIGNED, &[("telephony.verify_signatures", "false")]].concat()).await;
    let _node = Node::start(&store, "n1").await;

    stream(&plane.send(form("/telephony/twilio", CALL)).await);
}

#[tokio::test]
async fn the_root_takes_calls_of_the_configured_provider_only() {
    let store = Switch::new();
    let _node = Node::start(&store, "n1").await;
    let configured = Plane::start(&store, &[("runner_transport", "twilio")]).await;
    let any = Plane::start(&store, &[]).await;

    stream(&configured.send(form("/", CALL)).await);
    stream(&configured.send(form("/telephony/twilio", CALL)).await);
    any.send(form("/", CALL)).await.error(404, "NOT_FOUND");
    any.send(form("/telephony/nobody", CALL)).await.error(404, "NOT_FOUND");
}

#[tokio::test]
async fn what_is_no_form_is_refused() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    let json = Request::post("/telephony/twilio").body(Body::from("{}")).unwrap();
    plane.send(json).await.error(400, "BAD_REQUEST");

    let huge = "x".repeat(300_000);
    let answer = plane.send(form("/telephony/twilio", &[("CallSid", &huge)])).await;
    answer.error(413, "BAD_REQUEST");
}

#[tokio::test]
async fn a_webhook_that_leaves_fields_out_is_taken() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let node = Node::start(&store, "n1").await;

    let (_, claims) = stream(&plane.send(form("/telephony/twilio", &[])).await);

    assert_eq!((claims.call_id.as_str(), claims.body_json.as_str()), ("", ""));
    assert_eq!(node.created()[0].body_json, "");
}
