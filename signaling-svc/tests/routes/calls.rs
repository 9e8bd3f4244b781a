//! `POST /calls` and what becomes of a call.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use session_store::{SessionState, Store};
use voxray_proto::control::AnsweredBy;

use crate::provider::{Provider, Say};
use crate::support::{Answer, Node, Plane, Switch, claims_of, form};

/// A deployment with one node, and a provider that answers every API of the five.
struct Setup {
    store: Arc<Switch>,
    plane: Plane,
    node: Node,
    provider: Provider,
}

async fn setup(more: &[(&str, &str)]) -> Setup {
    let (store, provider) = (Switch::new(), Provider::start().await);
    let plane = plane(&store, &provider, more).await;
    let node = Node::start(&store, "n1").await;
    Setup {
        store,
        plane,
        node,
        provider,
    }
}

async fn plane(store: &Arc<Switch>, provider: &Provider, more: &[(&str, &str)]) -> Plane {
    let url = provider.url.as_str();
    let key = include_str!("vonage_key.pem");
    let settings = [
        ("twilio.base_url", url),
        ("twilio.account_sid", "AC1"),
        ("telnyx.base_url", url),
        ("telnyx.connection_id", "con-1"),
        ("api_keys.telnyx", "t"),
        ("plivo.base_url", url),
        ("plivo.auth_id", "MA1"),
        ("exotel.base_url", url),
        ("exotel.account_sid", "ex1"),
        ("exotel.api_key", "k"),
        ("exotel.app_id", "77"),
        ("api_keys.exotel", "e"),
        ("vonage.base_url", url),
        ("vonage.application_id", "app-1"),
        ("vonage.private_key", key),
        ("api_keys.twilio", "tw"),
        ("api_keys.plivo", "pl"),
        ("telephony.verify_signatures", "false"),
        ("telephony.request_timeout_secs", "0.3"),
    ];
    Plane::start(store, &[&settings, more].concat()).await
}

fn request(provider: &str) -> Value {
    json!({"provider": provider, "to": "+15550001111", "from": "+15552223333", "body": {"name": "Zoë"}})
}

impl Setup {
    async fn place(&self, provider: &str) -> Answer {
        self.plane.post("/calls", request(provider)).await
    }

    async fn placed(&self, provider: &str) -> String {
        let answer = self.place(provider).await;
        assert_eq!(answer.status, 201, "{provider}: {}", answer.text);
        answer.json()["data"]["sessionId"].as_str().unwrap().to_owned()
    }

    /// The URL in what the provider was asked last, path and query only.
    fn callback(&self, path: &str) -> String {
        let asked = self.provider.asked().pop().unwrap();
        let from = asked.find(path).unwrap_or_else(|| panic!("{path} in {asked}"));
        let rest = &asked[from..];
        let end = rest.find(['"', '\n', ',']).unwrap_or(rest.len());
        rest[..end].to_owned()
    }

    async fn shown(&self, session_id: &str) -> Value {
        self.plane.get(&format!("/sessions/{session_id}")).await.json()["data"].clone()
    }
}

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
    }
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
    let call = [("CallSid", "out-1"), ("CustomField", reference)];
    let answer = setup.plane.send(form("/telephony/exotel", &call)).await;
    let (_, claims) = claims_of(answer.json()["url"].as_str().unwrap());
    assert_eq!(claims.session_id, session_id);
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
async fn reports_move_the_call_forward_only_and_its_end_frees_the_slot() {
    let setup = setup(&[]).await;
    let session_id = setup.placed("twilio").await;
    let status_url = setup.callback("/telephony/twilio/status?call=");
    let report = async |status: &str| {
        let fields = [("CallSid", "out-1"), ("CallStatus", status)];
        let answer = setup.plane.send(form(&status_url, &fields)).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
        setup.shown(&session_id).await["call"]["state"].clone()
    };

    assert_eq!(report("initiated").await, "queued");
    assert_eq!(report("ringing").await, "ringing");
    assert_eq!(report("initiated").await, "ringing", "late");
    assert_eq!(report("something new").await, "ringing");
    assert!(setup.node.ended().is_empty());
    assert_eq!(report("busy").await, "busy");
    assert_eq!(report("completed").await, "busy", "over is over");

    assert_eq!(setup.node.ended(), [session_id.clone()]);
    assert_eq!(setup.store.session(&session_id).await.unwrap(), None);
    let shown = setup.shown(&session_id).await;
    assert_eq!(
        (&shown["state"], &shown["callId"], &shown["provider"]),
        (&json!("ended"), &json!("out-1"), &json!("twilio"))
    );
}

#[tokio::test]
async fn the_end_of_a_call_whose_stream_runs_is_left_to_its_node() {
    let setup = setup(&[]).await;
    let session_id = setup.placed("twilio").await;
    let mut record = setup.store.session(&session_id).await.unwrap().unwrap();
    record.state = SessionState::Connected;
    setup
        .store
        .put_session(&record, std::time::Duration::from_secs(60))
        .await
        .unwrap();
    let status_url = setup.callback("/telephony/twilio/status?call=");

    setup
        .plane
        .send(form(&status_url, &[("CallStatus", "completed")]))
        .await;

    assert!(setup.node.ended().is_empty());
    assert_eq!(setup.shown(&session_id).await["call"]["state"], "completed");
}

#[tokio::test]
async fn every_providers_words_for_a_state_are_understood() {
    let event = |kind: &str, more: Value| {
        let mut payload = json!({"call_control_id": "out-1"});
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"data": {"event_type": kind, "payload": payload}})
    };
    // provider, report, shown
    let cases = [
        (
            "telnyx",
            event("call.answered", json!({})),
            json!({"state": "answered"}),
        ),
        (
            "telnyx",
            event("call.hangup", json!({"hangup_cause": "user_busy"})),
            json!({"state": "busy"}),
        ),
        (
            "telnyx",
            event("call.hangup", json!({"hangup_cause": "timeout"})),
            json!({"state": "no-answer"}),
        ),
        (
            "telnyx",
            event("call.hangup", json!({"hangup_cause": "not_found"})),
            json!({"state": "failed"}),
        ),
        (
            "telnyx",
            event("call.machine.detection.ended", json!({"result": "machine"})),
            json!({"state": "queued", "answeredBy": "machine"}),
        ),
        (
            "vonage",
            json!({"uuid": "out-1", "status": "ringing"}),
            json!({"state": "ringing"}),
        ),
        (
            "vonage",
            json!({"uuid": "out-1", "status": "unanswered"}),
            json!({"state": "no-answer"}),
        ),
        (
            "vonage",
            json!({"uuid": "leg-2", "to": "ws://h", "status": "answered"}),
            json!({"state": "queued"}),
        ),
        (
            "vonage",
            json!({"uuid": "out-1", "status": "machine", "sub_state": "beep_start"}),
            json!({"state": "queued", "answeredBy": "machine-beep"}),
        ),
    ];
    for (provider, report, shown) in cases {
        let setup = setup(&[]).await;
        let session_id = setup.placed(provider).await;
        let status_url = setup.callback(&format!("/telephony/{provider}/status?call="));
        let request = Request::post(status_url)
            .header("content-type", "application/json")
            .body(Body::from(report.to_string()))
            .unwrap();
        assert_eq!(setup.plane.send(request).await.status, 204, "{provider} {report}");
        assert_eq!(setup.shown(&session_id).await["call"], shown, "{provider} {report}");
    }
    let forms: [(&str, &[(&str, &str)], Value); 4] = [
        ("plivo", &[("CallStatus", "ringing")], json!({"state": "ringing"})),
        ("plivo", &[("CallStatus", "timeout")], json!({"state": "no-answer"})),
        (
            "plivo",
            &[
                ("Event", "MachineDetection"),
                ("Machine", "true"),
                ("CallStatus", "in-progress"),
            ],
            json!({"state": "queued", "answeredBy": "machine"}),
        ),
        ("exotel", &[("Status", "no-answer")], json!({"state": "no-answer"})),
    ];
    for (provider, fields, shown) in forms {
        let setup = setup(&[]).await;
        let session_id = setup.placed(provider).await;
        let status_url = setup.callback(&format!("/telephony/{provider}/status?call="));
        assert_eq!(setup.plane.send(form(&status_url, fields)).await.status, 204);
        assert_eq!(setup.shown(&session_id).await["call"], shown, "{provider} {fields:?}");
    }
}

#[tokio::test]
async fn the_node_that_has_the_call_is_told_once_who_answered() {
    let setup = setup(&[]).await;
    let session_id = setup.placed("twilio").await;
    let status_url = setup.callback("/telephony/twilio/status?call=");
    let mut told = setup.node.asked.answered_by.subscribe();
    for word in ["machine_start", "machine_start", "human", "machine_end_beep"] {
        let answer = setup.plane.send(form(&status_url, &[("AnsweredBy", word)])).await;
        assert_eq!(answer.status, 204, "{word}");
    }

    let told = told.wait_for(|told| told.len() == 2).await.unwrap().clone();

    assert!(told.iter().all(|report| report.session_id == session_id));
    let mut kinds: Vec<_> = told.iter().map(|report| report.answered_by()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [AnsweredBy::Machine, AnsweredBy::MachineReady]);
    assert_eq!(setup.shown(&session_id).await["call"]["answeredBy"], "machine-beep");
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
async fn a_report_or_an_answer_for_a_call_that_is_not_ours_is_refused() {
    let setup = setup(&[]).await;
    setup.placed("twilio").await;
    let status_url = setup.callback("/telephony/twilio/status?call=");
    let token = status_url.split_once("call=").unwrap().1;
    for path in [
        "/telephony/twilio/status?call=junk".to_owned(),
        format!("/telephony/plivo/status?call={token}"),
        format!("/telephony/twilio/status?call={token}x"),
        format!("/telephony/plivo?call={token}"),
        "/telephony/twilio?call=junk".to_owned(),
    ] {
        let answer = setup.plane.send(form(&path, &[("CallStatus", "busy")])).await;
        answer.error(403, "FORBIDDEN");
    }
    let unknown = setup
        .plane
        .send(form("/telephony/twilio/status", &[("CallStatus", "busy")]))
        .await;
    assert_eq!(unknown.status, 204, "an incoming call's");
    assert!(setup.node.ended().is_empty());
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
        (Say::Status(500, None), 502, "BAD_GATEWAY", "cannot be reached"),
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

#[tokio::test]
async fn a_provider_that_hangs_is_given_up_and_not_asked_again_under_the_same_key() {
    let setup = setup(&[]).await;
    setup.provider.next(Say::Nothing);
    let keyed = || {
        Request::post("/calls")
            .header("idempotency-key", "k1")
            .body(Body::from(request("twilio").to_string()))
            .unwrap()
    };

    let message = setup.plane.send(keyed()).await.error(504, "GATEWAY_TIMEOUT");
    assert!(message.contains("not known"), "{message}");
    setup.plane.send(keyed()).await.error(504, "GATEWAY_TIMEOUT");

    assert_eq!(setup.provider.asked().len(), 1, "it could ring twice");
    assert!(setup.node.ended().is_empty(), "the call may exist: its slot waits");
}

#[tokio::test]
async fn the_same_idempotency_key_places_one_call_on_any_instance_and_may_be_used_again_after_a_failure() {
    let setup = setup(&[]).await;
    let second = plane(&setup.store, &setup.provider, &[]).await;
    let keyed = || {
        Request::post("/calls")
            .header("idempotency-key", "k1")
            .body(Body::from(request("twilio").to_string()))
            .unwrap()
    };
    setup.provider.next(Say::Status(500, None));
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
    let sealed = carriers::TransferSeal::new(&token).seal("+15550009999", std::time::SystemTime::now());

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
