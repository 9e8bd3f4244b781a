//! What one client may start: 429 with `Retry-After` beyond, counted over all instances.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use serde_json::json;
use session_store::Store;

use crate::provider::{request, setup};
use crate::support::{Answer, Node, Plane, Switch, form};

fn start(key: &str, address: [u8; 4], forwarded: Option<&str>) -> Request<Body> {
    let mut request = Request::post("/start")
        .header("x-api-key", key)
        .extension(ConnectInfo(std::net::SocketAddr::from((address, 4711))))
        .body(Body::from("{}"))
        .unwrap();
    if let Some(forwarded) = forwarded {
        request
            .headers_mut()
            .insert("x-forwarded-for", forwarded.parse().unwrap());
    }
    request
}

const HOME: [u8; 4] = [203, 0, 113, 9];
const KEYS: (&str, &str) = ("server_api_key", "a,b");

fn retry_after(answer: &Answer) -> u64 {
    answer.error(429, "RATE_LIMIT_EXCEEDED");
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_key_starts_no_more_than_it_may_in_a_minute_whichever_instance_it_asks() {
    let store = Switch::new();
    let settings = [KEYS, ("limits.starts_per_minute", "2")];
    let planes = [
        Plane::start(&store, &settings).await,
        Plane::start(&store, &settings).await,
    ];

    assert_eq!(planes[0].send(start("a", HOME, None)).await.status, 201);
    assert_eq!(planes[1].send(start("a", HOME, None)).await.status, 201);
    let wait = retry_after(&planes[0].send(start("a", HOME, None)).await);

    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(planes[1].send(start("b", HOME, None)).await.status, 201, "another key");
}

#[tokio::test]
async fn an_address_starts_no_more_than_it_may_and_a_trusted_proxy_is_not_the_address() {
    let store = Switch::new();
    let settings = [
        ("limits.starts_per_minute_per_address", "1"),
        ("telephony.trusted_proxies", "10.0.0.0/8"),
    ];
    let plane = Plane::start(&store, &settings).await;
    let proxy = [10, 0, 0, 1];

    assert_eq!(plane.send(start("", HOME, None)).await.status, 201);
    retry_after(&plane.send(start("", HOME, Some("198.51.100.1"))).await);
    assert_eq!(plane.send(start("", proxy, Some("198.51.100.1"))).await.status, 201);
    retry_after(&plane.send(start("", proxy, Some("1.2.3.4, 198.51.100.1"))).await);
    assert_eq!(plane.send(start("", proxy, Some("198.51.100.2"))).await.status, 201);
}

#[tokio::test]
async fn an_address_that_asks_too_often_leaves_the_others_what_they_may_start() {
    let settings = [
        ("limits.starts_per_minute", "2"),
        ("limits.starts_per_minute_per_address", "1"),
    ];
    let plane = Plane::start(&Switch::new(), &settings).await;

    assert_eq!(plane.send(start("", HOME, None)).await.status, 201);
    for _ in 0..5 {
        retry_after(&plane.send(start("", HOME, None)).await);
    }

    assert_eq!(plane.send(start("", [203, 0, 113, 10], None)).await.status, 201);
}

#[tokio::test]
async fn a_key_has_no_more_live_sessions_than_it_may_until_one_ends() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[KEYS, ("limits.sessions_per_key", "2")]).await;
    let first = plane.send(start("a", HOME, None)).await.json();
    assert_eq!(plane.send(start("a", HOME, None)).await.status, 201);

    retry_after(&plane.send(start("a", HOME, None)).await);
    assert_eq!(plane.send(start("b", HOME, None)).await.status, 201, "another key");
    retry_after(&plane.send(start("a", HOME, None)).await);

    // What was refused counts for nothing, and what has ended counts no longer once its grace is over.
    store
        .remove_session(first["sessionId"].as_str().unwrap())
        .await
        .unwrap();
    tokio::time::pause();
    tokio::time::advance(session_store::HOLD_GRACE).await;
    tokio::time::resume();
    assert_eq!(plane.send(start("a", HOME, None)).await.status, 201);
    retry_after(&plane.send(start("a", HOME, None)).await);
}

#[tokio::test]
async fn a_key_places_no_more_calls_than_it_may_and_the_provider_is_not_asked_for_more() {
    let setup = setup(&[KEYS, ("limits.sessions_per_key", "1")]).await;
    let place = |key: &str| {
        let request = Request::post("/calls")
            .header("x-api-key", key)
            .header("content-type", "application/json")
            .extension(ConnectInfo(std::net::SocketAddr::from((HOME, 4711))))
            .body(Body::from(request("twilio").to_string()));
        setup.plane.send(request.unwrap())
    };

    assert_eq!(place("a").await.status, 201);
    retry_after(&place("a").await);
    retry_after(&setup.plane.send(start("a", HOME, None)).await);
    assert_eq!(setup.provider.asked().len(), 1);

    assert_eq!(place("b").await.status, 201, "another key");
    assert_eq!(setup.provider.asked().len(), 2);
}

#[tokio::test]
async fn every_route_that_starts_a_session_is_limited_by_key_and_by_address() {
    let routes = [
        ("/start", json!({})),
        ("/start", json!({"transport": "websocket"})),
        ("/webrtc/offer", json!({"offer": "v=0"})),
        ("/calls", request("twilio")),
    ];
    let limits = [
        "limits.starts_per_minute",
        "limits.starts_per_minute_per_address",
        "limits.sessions_per_key",
    ];
    for (path, body) in &routes {
        for limit in limits {
            let setup = setup(&[KEYS, (limit, "1")]).await;
            let ask = |prefix: &str| {
                let request = Request::post(format!("{prefix}{path}"))
                    .header("x-api-key", "a")
                    .header("content-type", "application/json")
                    .extension(ConnectInfo(std::net::SocketAddr::from((HOME, 4711))))
                    .body(Body::from(body.to_string()));
                setup.plane.send(request.unwrap())
            };
            let first = ask("").await;
            assert!(first.status.is_success(), "{path} {limit}: {}", first.text);
            let placed = setup.node.created().len() + setup.node.offers().len();
            for prefix in ["", "/api/v1"] {
                retry_after(&ask(prefix).await);
            }
            let further = setup.node.created().len() + setup.node.offers().len() - placed;
            assert_eq!(further, 0, "{path} {limit}: who is refused holds no slot");
        }
    }
}

#[tokio::test]
async fn every_webhook_that_is_not_checked_is_limited_by_address() {
    // provider, its own path or the one that is configured
    let routes = [
        ("", "/telephony/twilio"),
        ("", "/telephony/telnyx"),
        ("", "/telephony/plivo"),
        ("", "/telephony/exotel"),
        ("", "/telephony/vonage"),
        ("twilio", "/"),
    ];
    for (configured, path) in routes {
        let limit = ("limits.starts_per_minute_per_address", "1");
        let setup = setup(&[limit, ("runner_transport", configured)]).await;
        for prefix in ["", "/api/v1", ""] {
            // Nobody says which call it is: each is another one.
            setup.plane.send(form(&format!("{prefix}{path}"), &[])).await;
        }
        assert_eq!(setup.node.created().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_start_that_fails_is_given_back() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[("limits.sessions_per_key", "1")]).await;
    let socket = || plane.post("/start", json!({"transport": "websocket"}));

    socket().await.error(503, "SERVICE_UNAVAILABLE");
    socket().await.error(503, "SERVICE_UNAVAILABLE");
    let _node = Node::start(&store, "n1").await;
    assert_eq!(socket().await.status, 201);
    socket().await.error(429, "RATE_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn the_same_idempotency_key_uses_an_allowance_once() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[("limits.starts_per_minute", "1")]).await;
    let keyed = |key: &str| {
        let mut request = start("", HOME, None);
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        request
    };

    let first = plane.send(keyed("k")).await;
    let again = plane.send(keyed("k")).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.json()["sessionId"], again.json()["sessionId"]);
    retry_after(&plane.send(keyed("other")).await);
}

#[tokio::test]
async fn an_idempotency_key_is_of_one_client_and_of_one_request() {
    let plane = Plane::start(&Switch::new(), &[KEYS]).await;
    let asked = |client: &str, body: &str| {
        let (mut head, _) = start(client, HOME, None).into_parts();
        head.headers.insert("idempotency-key", "order-4711".parse().unwrap());
        plane.send(Request::from_parts(head, Body::from(body.to_owned())))
    };

    let first = asked("a", r#"{"body": {"name": "Ann", "age": 7}}"#).await;
    let again = asked("a", r#"{"body": {"age": 7, "name": "Ann"}}"#).await;
    let other_client = asked("b", r#"{"body": {"name": "Ann", "age": 7}}"#).await;
    let other_request = asked("a", r#"{"body": {"name": "Bob", "age": 7}}"#).await;

    assert_eq!(first.json()["sessionId"], again.json()["sessionId"]);
    assert_eq!(other_client.status, 201);
    assert_ne!(first.json()["sessionId"], other_client.json()["sessionId"]);
    let message = other_request.error(422, "VALIDATION_ERROR");
    assert!(message.contains("Idempotency-Key"), "{message}");
}

#[tokio::test]
async fn a_call_whose_webhook_is_not_checked_takes_a_start_of_its_address_and_one_that_is_signed_takes_none() {
    let store = Switch::new();
    let node = Node::start(&store, "n1").await;
    let settings = [
        ("limits.starts_per_minute_per_address", "1"),
        ("exotel.webhook_secret", "s3cret"),
    ];
    let plane = Plane::start(&store, &settings).await;
    let unsigned = |call_id: &str| form("/telephony/twilio", &[("CallSid", call_id)]);
    let signed = |call_id: &str| form("/telephony/exotel?secret=s3cret", &[("CallSid", call_id)]);

    let first = plane.send(unsigned("CA1")).await;
    let asked_again = plane.send(unsigned("CA1")).await;
    let second = plane.send(unsigned("CA2")).await;
    let mut elsewhere = unsigned("CA3");
    let address = std::net::SocketAddr::from((HOME, 4711));
    elsewhere.extensions_mut().insert(ConnectInfo(address));
    let elsewhere = plane.send(elsewhere).await;

    assert!(first.text.contains("<Stream "), "{}", first.text);
    assert_eq!(first.text, asked_again.text, "a provider may ask twice");
    assert_eq!(second.status, 200, "the caller hears why");
    assert!(second.text.contains("<Say>We are sorry,"), "{}", second.text);
    assert!(elsewhere.text.contains("<Stream "), "{}", elsewhere.text);
    assert_eq!(node.created().len(), 2, "who is turned away holds no slot");
    for call_id in ["EX1", "EX2"] {
        let answer = plane.send(signed(call_id)).await;
        assert!(answer.json()["url"].is_string(), "{}", answer.text);
    }
}
