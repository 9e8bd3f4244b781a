//! `/telephony/{provider}/transferred/{sealed}`: what becomes of a caller who was put through.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::Request;
use carriers::{Origin, TransferSeal};
use serde_json::{Value, json};
use service_kit::config::Secret;
use session_store::{SessionState, Store};
use voxray_proto::control::TransferOutcome;

use crate::provider::{Setup, setup};
use crate::support::{Answer, SERVICE_TOKEN, form};

/// A call that is connected on the only node, and the path of its reports.
async fn transferred(setup: &Setup, provider: &str) -> String {
    let session_id = setup.placed(provider).await;
    let mut record = setup.store.session(&session_id).await.unwrap().unwrap();
    record.state = SessionState::Connected;
    record.node_id = Some(setup.node.id.clone());
    setup.store.put_session(&record, Duration::from_secs(60)).await.unwrap();
    let origin = Origin {
        session_id,
        call_id: "A".to_owned(),
        token: "the.token".to_owned(),
    };
    let sealed = TransferSeal::new(&Secret::new(SERVICE_TOKEN)).seal(&origin, SystemTime::now());
    format!("/telephony/{provider}/transferred/{sealed}")
}

async fn report(setup: &Setup, path: &str, report: &Value) -> Answer {
    let is_json = path.contains("telnyx") || path.contains("vonage");
    if is_json {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(report.to_string()));
        return setup.plane.send(request.unwrap()).await;
    }
    let fields = report.as_object().unwrap().iter();
    let fields: Vec<_> = fields
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    setup.plane.send(form(path, &fields)).await
}

fn telnyx(kind: &str, leg: &str, cause: &str) -> Value {
    let payload = json!({"call_control_id": leg, "hangup_cause": cause});
    json!({"data": {"event_type": kind, "payload": payload}})
}

fn told(setup: &Setup) -> Vec<(TransferOutcome, String)> {
    let told = std::mem::take(&mut *setup.node.asked.transferred.lock().unwrap());
    told.into_iter().map(|told| (told.outcome(), told.reason)).collect()
}

/// What the node is told, and why.
type Expected = Option<(TransferOutcome, &'static str)>;

#[tokio::test]
async fn every_providers_words_for_what_became_of_it_are_understood() {
    use TransferOutcome::{CallerGone, NotTaken, Taken};
    let setup = setup(&[]).await;
    // provider, report, what the node is told, what stands in the answer
    let cases: [(&str, Value, Expected, &str); 23] = [
        (
            "twilio",
            json!({"CallSid": "A", "DialCallStatus": "busy"}),
            Some((NotTaken, "busy")),
            "<Stream url=",
        ),
        (
            "twilio",
            json!({"CallSid": "A", "DialCallStatus": "no-answer"}),
            Some((NotTaken, "no answer")),
            "<Stream url=",
        ),
        (
            "twilio",
            json!({"CallSid": "A", "DialCallStatus": "failed"}),
            Some((NotTaken, "the call failed")),
            "<Stream url=",
        ),
        (
            "twilio",
            json!({"CallSid": "A", "DialCallStatus": "no-answer", "CallStatus": "completed"}),
            Some((CallerGone, "")),
            "<Hangup/>",
        ),
        (
            "twilio",
            json!({"CallSid": "B", "ParentCallSid": "A", "CallStatus": "in-progress"}),
            Some((Taken, "")),
            "",
        ),
        (
            "twilio",
            json!({"CallSid": "A", "DialCallStatus": "completed"}),
            Some((Taken, "")),
            "<Hangup/>",
        ),
        ("twilio", json!({"CallSid": "A", "CallStatus": "in-progress"}), None, ""),
        (
            "plivo",
            json!({"CallUUID": "A", "DialStatus": "busy"}),
            Some((NotTaken, "busy")),
            "<Stream bidirectional",
        ),
        (
            "plivo",
            json!({"CallUUID": "A", "DialStatus": "timeout"}),
            Some((NotTaken, "no answer")),
            "<Stream bidirectional",
        ),
        (
            "plivo",
            json!({"CallUUID": "A", "DialAction": "answer", "Event": "DialAnswer"}),
            Some((Taken, "")),
            "",
        ),
        (
            "plivo",
            json!({"CallUUID": "A", "DialAction": "hangup", "Event": "DialHangup"}),
            None,
            "",
        ),
        (
            "plivo",
            json!({"CallUUID": "A", "DialStatus": "completed"}),
            Some((Taken, "")),
            "<Hangup/>",
        ),
        ("vonage", json!({"uuid": "B", "status": "ringing"}), None, ""),
        (
            "vonage",
            json!({"uuid": "B", "status": "timeout"}),
            Some((NotTaken, "no answer")),
            "\"type\":\"websocket\"",
        ),
        (
            "vonage",
            json!({"uuid": "B", "status": "rejected"}),
            Some((NotTaken, "declined")),
            "the.token",
        ),
        (
            "vonage",
            json!({"uuid": "B", "status": "answered"}),
            Some((Taken, "")),
            "",
        ),
        ("vonage", json!({"uuid": "A", "status": "answered"}), None, ""),
        (
            "telnyx",
            telnyx("call.hangup", "B", "timeout"),
            Some((NotTaken, "no answer")),
            "",
        ),
        (
            "telnyx",
            telnyx("call.hangup", "B", "user_busy"),
            Some((NotTaken, "busy")),
            "",
        ),
        (
            "telnyx",
            telnyx("call.hangup", "A", "normal_clearing"),
            Some((CallerGone, "")),
            "",
        ),
        ("telnyx", telnyx("call.answered", "B", ""), Some((Taken, "")), ""),
        ("telnyx", telnyx("call.bridged", "A", ""), Some((Taken, "")), ""),
        ("telnyx", telnyx("call.initiated", "B", ""), None, ""),
    ];
    for (provider, said, expected, answered) in cases {
        let path = transferred(&setup, provider).await;
        let answer = report(&setup, &path, &said).await;
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(outcome, why)| (outcome, why.to_owned()))
            .collect();
        assert_eq!(told(&setup), expected, "{provider} {said}");
        assert!(answer.text.contains(answered), "{provider} {said}: {}", answer.text);
        assert_eq!(
            answer.status,
            if answered.is_empty() { 204 } else { 200 },
            "{provider} {said}"
        );
    }
}

#[tokio::test]
async fn a_caller_whose_conversation_is_over_hears_a_goodbye() {
    let setup = setup(&[]).await;
    let path = transferred(&setup, "twilio").await;
    let busy = json!({"CallSid": "A", "DialCallStatus": "busy"});
    setup.node.refuse(tonic::Status::not_found("no such session here"));
    for path in [path.as_str(), "/telephony/twilio/transferred/made-up"] {
        let answer = report(&setup, path, &busy).await;
        assert!(answer.text.contains("</Say><Hangup/>"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_report_about_another_call_brings_nobody_back() {
    let setup = setup(&[]).await;
    let path = transferred(&setup, "twilio").await;
    let foreign = json!({"CallSid": "C", "DialCallStatus": "busy"});
    let answer = report(&setup, &path, &foreign).await;
    assert!(
        answer.text.contains("<Say>") && !answer.text.contains("<Stream"),
        "{}",
        answer.text
    );
    assert_eq!(told(&setup), []);
}

#[tokio::test]
async fn reports_are_signed_like_every_webhook() {
    let setup = setup(&[("telephony.verify_signatures", "true")]).await;
    let path = transferred(&setup, "twilio").await;
    let answer = report(&setup, &path, &json!({"CallSid": "A", "DialCallStatus": "busy"})).await;
    answer.error(403, "FORBIDDEN");
    assert_eq!(told(&setup), []);
}

#[tokio::test]
async fn a_goodbye_is_said_by_whoever_has_the_caller() {
    let setup = setup(&[
        ("telephony.transfer_not_taken", "goodbye"),
        ("telephony.busy_message", "Sorry."),
    ])
    .await;
    let path = transferred(&setup, "vonage").await;
    let answer = report(&setup, &path, &json!({"uuid": "B", "status": "busy"})).await;
    assert_eq!(answer.json(), json!([{"action": "talk", "text": "Sorry."}]));
    assert_eq!(told(&setup), [(TransferOutcome::Taken, String::new())]);

    let path = transferred(&setup, "telnyx").await;
    assert_eq!(
        report(&setup, &path, &telnyx("call.hangup", "B", "timeout"))
            .await
            .status,
        204
    );
    let asked = setup.node.asked.transferred.lock().unwrap().clone();
    assert_eq!(
        (asked[0].outcome(), asked[0].last_words.as_str()),
        (TransferOutcome::NotTaken, "Sorry.")
    );
}
