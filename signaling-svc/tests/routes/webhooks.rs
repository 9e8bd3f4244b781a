//! `/telephony/{provider}`: each provider is answered in its own words, by POST or GET as it asks.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tonic::Status;

use crate::support::{Answer, Node, Plane, Switch, claims_of, encoded, form};

/// Call id, caller and called, as each provider names them.
const CALLS: [(&str, [(&str, &str); 3]); 5] = [
    (
        "twilio",
        [("CallSid", "id-1"), ("From", "+15550001111"), ("To", "+15552223333")],
    ),
    (
        "telnyx",
        [("CallSid", "id-1"), ("From", "+15550001111"), ("To", "+15552223333")],
    ),
    (
        "plivo",
        [("CallUUID", "id-1"), ("From", "+15550001111"), ("To", "+15552223333")],
    ),
    (
        "exotel",
        [
            ("CallSid", "id-1"),
            ("CallFrom", "+15550001111"),
            ("CallTo", "+15552223333"),
        ],
    ),
    (
        "vonage",
        [("uuid", "id-1"), ("from", "+15550001111"), ("to", "+15552223333")],
    ),
];

/// The stream's URL in an answer document, whatever its language.
fn stream_url(provider: &str, answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{provider}: {}", answer.text);
    let between = |before: &str, after: &str| {
        let (_, rest) = answer
            .text
            .split_once(before)
            .unwrap_or_else(|| panic!("{before} in {}", answer.text));
        rest.split_once(after).unwrap().0.to_owned()
    };
    let xml = answer.headers["content-type"] == "text/xml";
    match provider {
        "twilio" | "telnyx" => between("<Stream url=\"", "\""),
        "plivo" => {
            let open = between("<Stream ", "</Stream>");
            open.split_once('>').unwrap().1.to_owned()
        }
        "exotel" => {
            assert!(!xml);
            assert_eq!(answer.json()["url"], answer.json()["websocketUrl"]);
            answer.json()["url"].as_str().unwrap().to_owned()
        }
        _ => {
            assert!(!xml);
            answer.json()[0]["endpoint"][0]["uri"].as_str().unwrap().to_owned()
        }
    }
}

fn get(path: &str, query: &[(&str, &str)]) -> Request<Body> {
    let pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    let separator = if path.contains('?') { '&' } else { '?' };
    Request::get(format!("{path}{separator}{}", pairs.join("&")))
        .header("host", "voice.example.com")
        .body(Body::empty())
        .unwrap()
}

fn json_post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .header("host", "voice.example.com")
        .body(Body::from(body.to_string()))
        .unwrap()
}

#[tokio::test]
async fn every_provider_gets_its_own_document_for_a_stream_bound_to_its_call() {
    for (provider, fields) in CALLS {
        for by_get in [false, true] {
            let store = Switch::new();
            let plane = Plane::start(&store, &[]).await;
            let node = Node::start(&store, "n1").await;
            let path = format!("/telephony/{provider}?plan=gold");
            let request = if by_get {
                get(&path, &fields)
            } else {
                form(&path, &fields)
            };

            let url = stream_url(provider, &plane.send(request).await);

            let (base, claims) = claims_of(&url);
            assert_eq!(base, "ws://n1.internal:8080/telephony/ws", "{provider}");
            assert_eq!((claims.provider.as_str(), claims.call_id.as_str()), (provider, "id-1"));
            let created = node.created();
            assert_eq!(created[0].call_id, "id-1", "{provider} {by_get}");
            let variables: Value = serde_json::from_str(&created[0].body_json).unwrap();
            let expected = json!({"from": "+15550001111", "to": "+15552223333", "plan": "gold"});
            assert_eq!(variables, expected, "{provider} {by_get}");
            assert!(!url.contains("5550001111"), "no phone numbers in a URL: {url}");
        }
    }
}

#[tokio::test]
async fn custom_parameters_go_on_in_each_providers_way() {
    let carried = [
        ("twilio", r#"<Parameter name="plan" value="gold"/>"#),
        ("telnyx", r#"<Parameter name="plan" value="gold"/>"#),
        ("plivo", r#" extraHeaders="plan=gold">"#),
        ("exotel", "?plan=gold\""),
        ("vonage", r#""headers":{"plan":"gold"}"#),
    ];
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    for ((provider, fields), (_, expected)) in CALLS.into_iter().zip(carried) {
        let answer = plane
            .send(form(&format!("/telephony/{provider}?plan=gold"), &fields))
            .await;
        assert!(answer.text.contains(expected), "{provider}: {}", answer.text);
    }
}

#[tokio::test]
async fn vonage_may_post_json() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[("runner_transport", "vonage")]).await;
    let _node = Node::start(&store, "n1").await;
    let call = json!({"uuid": "id-1", "from": "15550001111", "to": "15552223333"});

    let answer = plane.send(json_post("/", &call)).await;

    let (_, claims) = claims_of(&stream_url("vonage", &answer));
    assert_eq!(claims.call_id, "id-1");
    assert_eq!(answer.json()[0]["from"], "15552223333");
}

#[tokio::test]
async fn a_body_that_its_provider_would_not_have_signed_is_refused() {
    let plane = Plane::start(&Switch::new(), &[]).await;
    for provider in ["twilio", "plivo"] {
        let request = json_post(&format!("/telephony/{provider}"), &json!({"CallSid": "CA1"}));
        plane.send(request).await.error(400, "BAD_REQUEST");
    }
    let event = json!({"data": {"event_type": "call.initiated"}});
    let message = plane
        .send(json_post("/telephony/telnyx", &event))
        .await
        .error(400, "BAD_REQUEST");
    assert!(message.contains("TeXML"), "{message}");
    let message = plane
        .send(form("/telephony/genesys", &[]))
        .await
        .error(404, "NOT_FOUND");
    assert!(message.contains("sends no webhook"), "{message}");
}

#[tokio::test]
async fn when_nobody_takes_a_call_its_caller_hears_the_configured_sentence() {
    let settings = [("telephony.busy_message", "All lines are <busy>.")];
    let spoken = [
        (
            "twilio",
            "<Response><Say>All lines are &lt;busy&gt;.</Say><Hangup/></Response>",
        ),
        (
            "telnyx",
            "<Response><Say>All lines are &lt;busy&gt;.</Say><Hangup/></Response>",
        ),
        (
            "plivo",
            "<Response><Speak>All lines are &lt;busy&gt;.</Speak><Hangup/></Response>",
        ),
        ("vonage", r#"[{"action":"talk","text":"All lines are <busy>."}]"#),
    ];
    let store = Switch::new();
    let plane = Plane::start(&store, &settings).await;
    let full = Node::start(&store, "full").await;
    full.refuse(Status::resource_exhausted("full"));
    for (provider, expected) in spoken {
        let answer = plane.send(form(&format!("/telephony/{provider}"), &[])).await;
        assert_eq!(answer.status, 200, "{provider}");
        assert!(answer.text.ends_with(expected), "{provider}: {}", answer.text);
    }
    // Its flow goes on with the next applet.
    plane
        .send(form("/telephony/exotel", &[]))
        .await
        .error(503, "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn when_nobody_takes_a_call_it_can_go_to_a_queue_elsewhere() {
    let settings = [("telephony.busy_redirect_url", "https://queue.example.com/q?a=1&b=2")];
    let plane = Plane::start(&Switch::new(), &settings).await;
    for provider in ["twilio", "telnyx", "plivo"] {
        let answer = plane.send(form(&format!("/telephony/{provider}"), &[])).await;
        let expected = "<Response><Redirect>https://queue.example.com/q?a=1&amp;b=2</Redirect></Response>";
        assert!(answer.text.ends_with(expected), "{provider}: {}", answer.text);
    }
    let answer = plane.send(form("/telephony/vonage", &[])).await.json();
    assert_eq!(answer[0]["action"], "notify");
    assert_eq!(answer[0]["eventUrl"], json!(["https://queue.example.com/q?a=1&b=2"]));
}

#[tokio::test]
async fn only_the_provider_of_runner_transport_is_served_where_that_is_set() {
    for (provider, fields) in CALLS {
        let store = Switch::new();
        let plane = Plane::start(&store, &[("runner_transport", provider)]).await;
        let _node = Node::start(&store, "n1").await;
        stream_url(provider, &plane.send(form("/", &fields)).await);
        stream_url(
            provider,
            &plane.send(form(&format!("/telephony/{provider}"), &fields)).await,
        );
        let other = if provider == "twilio" { "plivo" } else { "twilio" };
        plane
            .send(form(&format!("/telephony/{other}"), &fields))
            .await
            .error(404, "NOT_FOUND");
    }
}
