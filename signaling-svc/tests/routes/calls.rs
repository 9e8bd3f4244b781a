//! `POST /calls`.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use serde_json::{Value, json};
use session_store::Store;

use crate::provider::{Say, plane, request, setup};
use crate::support::{Node, Plane, Switch, claims_of, form};

#[tokio::test]
async fn a_call_is_placed_at_every_provider_with_a_slot_that_waits_for_it() {
    for provider in ["twilio", "telnyx", "plivo", "vonage", "exotel"] {
        let setup = setup(&[]).await;

        let answer = setup.place(provider).await;

        assert_eq!(answer.status, 201, "{provider}: {}", answer.text);
        let data = answer.json()["data"].clone();
        assert_eq!(data["callId"], "out-1", "{provider}");
        assert_eq!(data["state"], "queued");
        let session_id = data["sessionId"].as_str().unwrap();
        let created = setup.node.created();
        assert_eq!(
            (created.len(), created[0].session_id.as_str()),
            (1, session_id),
            "{provider}"
        );
        let variables: Value = serde_json::from_str(&created[0].body_json).unwrap();
        let expected = json!({"name": "Zoë", "to": "+15550001111", "from": "+15552223333",
            "direction": "outbound", "machineDetection": true});
        assert_eq!(variables, expected, "{provider}");
        let shown = setup.shown(session_id).await;
        assert_eq!(shown["state"], "reserved");
        assert_eq!(
            (&shown["callId"], &shown["call"]),
            (&json!("out-1"), &json!({"state": "queued"}))
        );
        let asked = setup.provider.asked();
        assert_eq!(asked.len(), 1, "{provider}");
        assert!(
            asked[0].contains("15550001111") && asked[0].contains("15552223333"),
            "{}",
            asked[0]
        );
    }
}

#[tokio::test]
async fn when_somebody_answers_the_call_is_connected_to_its_own_session() {
    for provider in ["twilio", "plivo", "vonage"] {
        let setup = setup(&[]).await;
        let session_id = setup.placed(provider).await;
        let answer_url = setup.callback(&format!("/telephony/{provider}?call="));
        let fields = [("CallSid", "out-1"), ("CallUUID", "out-1"), ("uuid", "out-1")];

        let answer = setup.plane.send(form(&answer_url, &fields)).await;

        assert_eq!(answer.status, 200, "{provider}: {}", answer.text);
        let from = answer.text.find("ws://").unwrap();
        let url = answer.text[from..].split(['"', '<']).next().unwrap();
        let (base, claims) = claims_of(url);
        assert_eq!(base, "ws://n1.internal:8080/telephony/ws");
        assert_eq!(
            (claims.session_id, claims.call_id),
            (session_id, "out-1".to_owned()),
            "{provider}"
        );
        assert_eq!(setup.node.created().len(), 1, "the slot is the one that waits");
        assert!(
            !answer.text.contains("call="),
            "the token of the call is no parameter: {}",
            answer.text
        );
        let shown = setup.shown(&created_id(&setup.node)).await;
        assert_eq!(shown["call"], json!({"state": "answered"}), "{provider}");
    }
}

fn created_id(node: &Node) -> String {
    node.created()[0].session_id.clone()
}

#[tokio::test]
async fn telnyx_is_given_its_stream_at_once_and_exotel_brings_the_session_back_itself() {
    let setup = setup(&[]).await;
    let session_id = setup.placed("telnyx").await;
    let asked: Value = serde_json::from_str(&setup.provider.asked()[0].replace('\n', "&")).unwrap();
    let (_, claims) = claims_of(asked["stream_url"].as_str().unwrap());
    assert_eq!(claims.session_id, session_id);

    let session_id = setup.placed("exotel").await;
    let asked = setup.provider.asked().pop().unwrap();
    let reference = asked.split("CustomField=").nth(1).unwrap().split('\n').next().unwrap();
    // What Exotel takes, and what it has to be told to report as it does.
    assert!(reference.len() <= 128, "{reference}");
    for option in [
        "StatusCallbackContentType=application/json",
        "StatusCallbackEvents[0]=terminal",
        "StatusCallbackEvents[1]=answered",
    ] {
        assert!(asked.lines().any(|line| line == option), "{option} in {asked}");
    }
    let call = [("CallSid", "out-1"), ("CustomField", reference)];
    let answer = setup.plane.send(form("/telephony/exotel", &call)).await;
    let (_, claims) = claims_of(answer.json()["url"].as_str().unwrap());
    assert_eq!(claims.session_id, session_id);
}

#[tokio::test]
async fn what_an_operators_own_flow_puts_into_exotels_custom_field_is_no_call_of_ours() {
    let setup = setup(&[]).await;
    let session_id = setup.placed("exotel").await;
    for field in ["order 77", "a.b", &format!("{session_id}.")] {
        let call = [("CallSid", field), ("CustomField", field)];
        let answer = setup.plane.send(form("/telephony/exotel", &call)).await;
        assert_eq!(answer.status, 200, "{field}: {}", answer.text);
        let (_, claims) = claims_of(answer.json()["url"].as_str().unwrap());
        assert_ne!(claims.session_id, session_id, "{field}");
    }
}

#[tokio::test]
async fn a_session_whose_node_is_gone_gets_another_when_the_call_is_answered() {
    let setup = setup(&[]).await;
    let session_id = setup.placed("twilio").await;
    setup.store.remove_node("n1").await.unwrap();
    let other = Node::start(&setup.store, "n2").await;
    let answer_url = setup.callback("/telephony/twilio?call=");

    let answer = setup.plane.send(form(&answer_url, &[("CallSid", "out-1")])).await;

    assert!(answer.text.contains("ws://n2.internal:8080/"), "{}", answer.text);
    assert_eq!(other.created()[0].session_id, session_id);
}

#[tokio::test]
async fn whoever_places_a_call_may_do_without_machine_detection() {
    let setup = setup(&[]).await;
    let mut request = request("twilio");
    request["machineDetection"] = json!(false);
    request["body"] = json!("plain");

    assert_eq!(setup.plane.post("/calls", request).await.status, 201);

    assert!(
        !setup.provider.asked()[0].contains("MachineDetection"),
        "{:?}",
        setup.provider.asked()
    );
    let variables: Value = serde_json::from_str(&setup.node.created()[0].body_json).unwrap();
    assert_eq!(
        (&variables["machineDetection"], &variables["body"]),
        (&json!(false), &json!("plain"))
    );
}

#[tokio::test]
async fn what_cannot_be_called_is_said_field_by_field_before_anything_happens() {
    let setup = setup(&[("telephony.outbound_from", "+15552223333")]).await;
    let cases = [
        (json!({}), vec!["provider", "to", "from"]),
        (
            json!({"provider": "genesys", "to": "+15550001111", "from": "+15552223333"}),
            vec!["provider"],
        ),
        (
            json!({"provider": "twilio", "to": "5550001111", "from": "+15552223333"}),
            vec!["to"],
        ),
        (
            json!({"provider": "twilio", "to": "+1555000111x", "from": ""}),
            vec!["to", "from"],
        ),
        (
            json!({"provider": "twilio", "to": "+15550001111", "from": "+15559998888"}),
            vec!["from"],
        ),
    ];
    for (request, fields) in cases {
        let answer = setup.plane.post("/calls", request.clone()).await;
        answer.error(422, "VALIDATION_ERROR");
        let details = answer.json()["error"]["details"].clone();
        let named: Vec<_> = details
            .as_array()
            .unwrap()
            .iter()
            .map(|detail| detail["field"].as_str().unwrap())
            .collect();
        assert_eq!(named, fields, "{request}");
    }
    assert!(setup.node.created().is_empty() && setup.provider.asked().is_empty());
    setup.placed("twilio").await;
}

#[tokio::test]
async fn what_a_provider_will_not_do_is_said_and_leaves_nothing_behind() {
    // answer, status, code, words
    let cases = [
        (
            Say::Status(401, None),
            502,
            "BAD_GATEWAY",
            "check twilio.account_sid and api_keys.twilio",
        ),
        (
            Say::Status(429, Some(30)),
            503,
            "SERVICE_UNAVAILABLE",
            "asked too often",
        ),
        (Say::Status(400, None), 422, "VALIDATION_ERROR", "refused"),
    ];
    for (say, status, code, words) in cases {
        let setup = setup(&[("limits.sessions_per_key", "1")]).await;
        setup.provider.next(say);

        let answer = setup.place("twilio").await;

        let message = answer.error(status, code);
        assert!(message.contains(words), "{say:?}: {message}");
        if let Say::Status(429, Some(seconds)) = say {
            assert_eq!(answer.headers["retry-after"], seconds.to_string().as_str());
        }
        assert_eq!(setup.node.ended().len(), 1, "{say:?}: the slot is free again");
        assert!(setup.store.sessions().await.unwrap().is_empty(), "{say:?}");
        setup.placed("twilio").await;
    }
}

fn keyed() -> Request<Body> {
    Request::post("/calls")
        .header("idempotency-key", "k1")
        .body(Body::from(request("twilio").to_string()))
        .unwrap()
}

#[tokio::test]
async fn a_provider_that_may_have_placed_the_call_is_not_asked_again_under_the_same_key() {
    // No answer at all, an error of its edge, a success that names no call.
    for say in [Say::Nothing, Say::Status(500, None), Say::Status(200, None)] {
        let setup = setup(&[]).await;
        setup.provider.next(say);

        let message = setup.plane.send(keyed()).await.error(504, "GATEWAY_TIMEOUT");
        assert!(message.contains("not known"), "{say:?}: {message}");
        setup.plane.send(keyed()).await.error(504, "GATEWAY_TIMEOUT");

        assert_eq!(setup.provider.asked().len(), 1, "{say:?}: it could ring twice");
        assert!(
            setup.node.ended().is_empty(),
            "{say:?}: the call may exist: its slot waits"
        );
    }
}

#[tokio::test]
async fn a_call_that_is_placed_is_no_failure_when_the_store_does_not_take_it() {
    let setup = setup(&[]).await;
    setup.store.refuse_progress("call:", 0);

    let first = setup.plane.send(keyed()).await;
    let again = setup.plane.send(keyed()).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(again.json()["data"], first.json()["data"]);
    assert_eq!(setup.provider.asked().len(), 1);
}

#[tokio::test]
async fn a_key_whose_outcome_is_lost_never_places_another_call() {
    let setup = setup(&[]).await;
    setup.store.refuse_progress("calls:", 1);
    assert_eq!(setup.plane.send(keyed()).await.status, 201);

    // Long after any provider has answered.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();

    setup.plane.send(keyed()).await.error(409, "CONFLICT");
    assert_eq!(setup.provider.asked().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_while_it_rings_is_ended_at_the_provider() {
    // provider, how it is asked to end a call, what somebody is told who answers all the same
    let cases = [
        ("twilio", "Status=completed", "<Response><Hangup/></Response>"),
        ("plivo", "", "<Response><Hangup/></Response>"),
        ("vonage", r#"{"action":"hangup"}"#, "[]"),
    ];
    for (provider, hang_up, document) in cases {
        let setup = setup(&[]).await;
        let session_id = setup.placed(provider).await;
        let answer_url = setup.callback(&format!("/telephony/{provider}?call="));

        let ended = setup.plane.delete(&format!("/sessions/{session_id}")).await;
        assert_eq!(ended.status, 200, "{provider}: {}", ended.text);

        assert_eq!(setup.provider.request(1).await, hang_up, "{provider}");
        let fields = [("CallSid", "out-1"), ("CallUUID", "out-1"), ("uuid", "out-1")];
        let answer = setup.plane.send(form(&answer_url, &fields)).await;
        assert_eq!(answer.status, 200, "{provider}: {}", answer.text);
        assert!(answer.text.ends_with(document), "{provider}: {}", answer.text);
        assert_eq!(setup.provider.request(2).await, hang_up, "{provider}: once more");
    }
}

#[tokio::test]
async fn a_provider_is_told_to_call_nobody_whom_the_client_names() {
    let named = |host: &str| {
        let request = request("twilio").to_string();
        let call = Request::post("/calls").header("host", host);
        call.header("x-forwarded-host", host)
            .extension(ConnectInfo(SocketAddr::from(([10, 0, 0, 7], 4711))))
            .body(Body::from(request))
            .unwrap()
    };
    let cases: [&[(&str, &str)]; 2] = [&[], &[("telephony.trusted_proxies", "10.0.0.0/8")]];
    for settings in cases {
        let setup = setup(settings).await;
        let answer = setup.plane.send(named("evil.example.com")).await;
        let message = answer.error(422, "VALIDATION_ERROR");
        assert!(message.contains("set proxy_host"), "{message}");
        assert!(setup.provider.asked().is_empty() && setup.node.created().is_empty());
    }
    let setup = setup(&[("proxy_host", "voice.example.com")]).await;
    assert_eq!(setup.plane.send(named("evil.example.com")).await.status, 201);
    let asked = setup.provider.asked().pop().unwrap();
    assert!(
        asked.contains("https://voice.example.com/telephony/twilio?call="),
        "{asked}"
    );
    assert!(!asked.contains("evil"), "{asked}");
}

#[tokio::test]
async fn the_same_idempotency_key_places_one_call_on_any_instance_and_may_be_used_again_after_a_failure() {
    let setup = setup(&[]).await;
    let second = plane(&setup.store, &setup.provider, &[]).await;
    setup.provider.next(Say::Status(401, None));
    setup.plane.send(keyed()).await.error(502, "BAD_GATEWAY");

    let (a, b) = tokio::join!(setup.plane.send(keyed()), second.send(keyed()));
    let again = second.send(keyed()).await;

    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert!(statuses == [201, 409] || statuses == [201, 201], "{statuses:?}");
    assert_eq!(again.status, 201);
    let first = if a.status == 201 { a } else { b };
    assert_eq!(again.json()["data"], first.json()["data"]);
    assert_eq!(setup.provider.asked().len(), 2, "the failure and one call");
}

#[tokio::test]
async fn without_keys_only_pages_of_this_server_and_listed_ones_place_calls() {
    let setup = setup(&[("cors_allowed_origins", "https://app.example.com")]).await;
    let from = |origin: &str| {
        Request::post("/calls")
            .header("host", "localhost:8080")
            .header("origin", origin)
            .body(Body::from(request("twilio").to_string()))
            .unwrap()
    };

    for foreign in ["https://evil.example", "null", "http://localhost:8081"] {
        let message = setup.plane.send(from(foreign)).await.error(403, "FORBIDDEN");
        assert!(message.contains("cors_allowed_origins"), "{message}");
    }
    assert!(setup.provider.asked().is_empty());

    for known in ["http://localhost:8080", "https://app.example.com"] {
        assert_eq!(setup.plane.send(from(known)).await.status, 201, "{known}");
    }
}

#[tokio::test]
async fn calls_count_among_what_a_client_may_start() {
    let setup = setup(&[("limits.starts_per_minute", "1")]).await;
    setup.placed("twilio").await;
    let answer = setup.place("twilio").await;
    answer.error(429, "RATE_LIMIT_EXCEEDED");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(setup.provider.asked().len(), 1);
}

#[tokio::test]
async fn a_provider_whose_account_is_not_configured_names_the_key() {
    let store = Switch::new();
    let plane = Plane::start(&store, &[]).await;
    let _node = Node::start(&store, "n1").await;
    let message = plane
        .post("/calls", request("plivo"))
        .await
        .error(422, "VALIDATION_ERROR");
    assert!(message.contains("plivo.auth_id"), "{message}");
}

#[tokio::test]
async fn plivo_is_told_where_a_transferred_call_goes_by_a_path_that_nobody_can_make_up() {
    let setup = setup(&[]).await;
    let token = service_kit::config::Secret::new(crate::support::SERVICE_TOKEN);
    let dial = carriers::Dial {
        to: "+15550009999".to_owned(),
        report_to: None,
    };
    let sealed = carriers::TransferSeal::new(&token).seal(&dial, std::time::SystemTime::now());

    let answer = setup
        .plane
        .send(form(&format!("/telephony/plivo/transfer/{sealed}"), &[]))
        .await;

    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        answer.text.contains("<Dial><Number>+15550009999</Number></Dial>"),
        "{}",
        answer.text
    );
    setup
        .plane
        .send(form("/telephony/plivo/transfer/junk", &[]))
        .await
        .error(404, "NOT_FOUND");
}
