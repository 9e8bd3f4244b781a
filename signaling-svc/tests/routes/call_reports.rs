//! `/telephony/{provider}/status`: what becomes of a call that was placed.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use session_store::{SessionState, Store};
use tonic::Status;
use voxray_proto::control::AnsweredBy;

use crate::provider::setup;
use crate::support::form;

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

    assert_eq!(setup.node.ended(), std::slice::from_ref(&session_id));
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
            json!({"uuid": "leg-2", "to": "wss://h/telephony/ws/t", "status": "completed"}),
            json!({"state": "queued"}),
        ),
        (
            "vonage",
            json!({"uuid": "leg-2", "to": "wss://h/telephony/ws/t", "status": "failed"}),
            json!({"state": "queued"}),
        ),
        (
            "exotel",
            json!({"CallSid": "out-1", "EventType": "answered", "Status": "in-progress"}),
            json!({"state": "answered"}),
        ),
        (
            "exotel",
            json!({"CallSid": "out-1", "EventType": "terminal", "Status": "no-answer"}),
            json!({"state": "no-answer"}),
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
    type Fields = &'static [(&'static str, &'static str)];
    let forms: [(&str, Fields, Value); 4] = [
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
async fn a_node_whose_stream_has_not_begun_is_told_again() {
    let setup = setup(&[]).await;
    setup.placed("twilio").await;
    let status_url = setup.callback("/telephony/twilio/status?call=");
    let mut told = setup.node.asked.answered_by.subscribe();
    setup.node.refuse(Status::unavailable("the call has not begun"));
    let answer = setup
        .plane
        .send(form(&status_url, &[("AnsweredBy", "machine_start")]))
        .await;
    assert_eq!(answer.status, 204);
    told.wait_for(|told| !told.is_empty()).await.unwrap();

    setup.node.accept();

    let before = told.borrow().len();
    let again = told.wait_for(|told| told.len() > before);
    let again = tokio::time::timeout(Duration::from_secs(20), again).await;
    assert!(again.is_ok(), "it is never told");
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
