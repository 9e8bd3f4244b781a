//! `/telephony/{provider}/stream/{token}`: a stream that was cut is opened again, as long as there is somebody to talk to.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use session_store::{SessionState, Store};
use voxray_proto::control::Session;

use crate::provider::{Setup, setup};
use crate::support::Answer;

const PROVIDERS: [&str; 4] = ["twilio", "telnyx", "plivo", "vonage"];
const HOST: &str = "voice.example.com";

/// A request about a stream; `status` is Vonage's.
async fn asked(setup: &Setup, path: &str, status: &str) -> Answer {
    let request = Request::post(path).header("host", HOST);
    let request = if path.contains("vonage") {
        let event = json!({"uuid": "the-leg-of-the-socket", "to": "wss://x", "status": status});
        request
            .header("content-type", "application/json")
            .body(Body::from(event.to_string()))
    } else {
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("CallSid=u1&CallUUID=u1&CallStatus=in-progress"))
    };
    setup.plane.send(request.unwrap()).await
}

/// A call that comes in: where its stream is, and where the provider asks what is next.
async fn called(setup: &Setup, provider: &str) -> (String, String) {
    let path = format!("/telephony/{provider}?CallSid=u1&CallUUID=u1&uuid=u1&from=15550001111&to=15552223333");
    let request = Request::get(path).header("host", HOST).body(Body::empty());
    stream_of(&setup.plane.send(request.unwrap()).await)
}

fn stream_of(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let until_quote = |from: &str| {
        let at = answer
            .text
            .find(from)
            .unwrap_or_else(|| panic!("{from} in {}", answer.text));
        answer.text[at..].split(['"', '<']).next().unwrap().to_owned()
    };
    let next = until_quote("http://voice.example.com/");
    let path = next.strip_prefix("http://voice.example.com").unwrap().to_owned();
    (until_quote("ws://"), path)
}

/// Its stream begins on the only node.
async fn begin(setup: &Setup) -> String {
    let session_id = setup.node.created().pop().unwrap().session_id;
    let mut record = setup.store.session(&session_id).await.unwrap().unwrap();
    record.state = SessionState::Connected;
    record.node_id = Some(setup.node.id.clone());
    setup.store.put_session(&record, Duration::from_secs(60)).await.unwrap();
    carries(setup, &session_id, false);
    session_id
}

/// What the node says of it.
fn carries(setup: &Setup, session_id: &str, stream_is_over: bool) {
    *setup.node.asked.live.lock().unwrap() = vec![Session {
        session_id: session_id.to_owned(),
        state: "connected".to_owned(),
        stream_is_over,
        ..Session::default()
    }];
}

/// A call that nobody else has ends by that.
fn is_nothing(answer: &Answer) -> bool {
    answer.status == 204 || (answer.status == 200 && answer.text.ends_with("<Response></Response>"))
}

const SPOKEN: [&str; 4] = ["<Say>", "<Say>", "<Speak>", "talk"];

#[tokio::test]
async fn a_stream_that_was_cut_is_opened_again_while_its_call_lives() {
    for provider in PROVIDERS {
        let setup = setup(&[]).await;
        let (stream, mut next) = called(&setup, provider).await;
        let session_id = begin(&setup).await;

        for status in ["disconnected", "failed", "unanswered"] {
            let again = stream_of(&asked(&setup, &next, status).await);
            assert_eq!(again.0, stream, "{provider}, {status}: the stream that the node knows");
            next = again.1;
        }

        setup.store.remove_session(&session_id).await.unwrap();
        let over = asked(&setup, &next, "disconnected").await;
        assert!(is_nothing(&over), "{provider}: {}", over.text);
    }
}

#[tokio::test]
async fn a_stream_that_our_side_has_left_or_that_gave_way_to_somebody_else_is_not_opened_again() {
    for provider in PROVIDERS {
        let setup = setup(&[]).await;
        let (_, next) = called(&setup, provider).await;
        let session_id = begin(&setup).await;
        carries(&setup, &session_id, true);
        let answer = asked(&setup, &next, "disconnected").await;
        assert!(is_nothing(&answer), "{provider}: {}", answer.text);

        setup.node.asked.live.lock().unwrap().clear();
        let answer = asked(&setup, &next, "disconnected").await;
        assert!(is_nothing(&answer), "{provider}, over since: {}", answer.text);
    }
}

#[tokio::test]
async fn a_caller_whose_node_has_died_hears_an_apology() {
    let setup = setup(&[]).await;
    let mut questions = Vec::new();
    for provider in PROVIDERS {
        questions.push(called(&setup, provider).await.1);
        begin(&setup).await;
    }
    setup.store.remove_node(&setup.node.id).await.unwrap();
    tokio::time::pause();
    for (next, spoken) in questions.iter().zip(SPOKEN) {
        let answer = asked(&setup, next, "disconnected").await;
        assert!(answer.text.contains(spoken), "{next}: {}", answer.text);
    }
}

#[tokio::test]
async fn no_error_is_read_out_to_a_caller_while_the_store_is_away() {
    let setup = setup(&[]).await;
    let mut questions = Vec::new();
    for provider in PROVIDERS {
        questions.push(called(&setup, provider).await.1);
        begin(&setup).await;
    }
    setup.store.switch(false);
    tokio::time::pause();
    for next in questions {
        let answer = asked(&setup, &next, "disconnected").await;
        assert!(is_nothing(&answer), "{next}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_question_comes_to_where_the_call_came_in() {
    let setup = setup(&[]).await;
    let request = Request::get("/api/v1/telephony/twilio?CallSid=u1").header("host", HOST);
    let answer = setup.plane.send(request.body(Body::empty()).unwrap()).await;
    let (_, next) = stream_of(&answer);
    assert!(next.starts_with("/api/v1/telephony/twilio/stream/"), "{next}");
}

#[tokio::test]
async fn other_events_of_vonage_need_no_answer() {
    let setup = setup(&[]).await;
    let (_, next) = called(&setup, "vonage").await;
    begin(&setup).await;
    for status in ["started", "ringing", "answered", "completed", "", "something new"] {
        assert_eq!(asked(&setup, &next, status).await.status, 204, "{status}");
    }
}

#[tokio::test]
async fn a_caller_whose_stream_never_comes_about_hears_an_apology() {
    for (provider, spoken) in PROVIDERS.into_iter().zip(SPOKEN) {
        let setup = setup(&[]).await;
        let (_, next) = called(&setup, provider).await;
        let answer = asked(&setup, &next, "failed").await;
        assert!(answer.text.contains(spoken), "{provider}: {}", answer.text);
        assert_eq!(setup.node.ended().len(), 1, "{provider}: its slot is free again");
    }
}

#[tokio::test]
async fn what_this_deployment_did_not_sign_opens_nothing() {
    for provider in PROVIDERS {
        let setup = setup(&[]).await;
        let (_, next) = called(&setup, provider).await;
        begin(&setup).await;
        for path in [format!("{next}x"), format!("/telephony/{provider}/stream/AAAA")] {
            let answer = asked(&setup, &path, "disconnected").await;
            assert!(is_nothing(&answer), "{path}: {}", answer.text);
        }
        let other = if provider == "plivo" { "twilio" } else { "plivo" };
        let answer = asked(&setup, &next.replace(provider, other), "disconnected").await;
        assert!(is_nothing(&answer), "{provider} for {other}: {}", answer.text);
    }
    let setup = setup(&[]).await;
    let exotel = Request::post("/telephony/exotel/stream/AAAA").body(Body::empty());
    setup.plane.send(exotel.unwrap()).await.error(404, "NOT_FOUND");
}
