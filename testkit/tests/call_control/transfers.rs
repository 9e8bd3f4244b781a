//! A caller who is put through and whom nobody takes is back with the agent.

use std::time::Duration;

use carriers::Provider;
use media_core::conversation::Notice;
use media_core::wire::telephony::Provider as WireProvider;
use serde_json::{Value, json};
use voxray_testkit::carriers::{Asked, Fault};
use voxray_testkit::scripted::{Answer, Script};
use voxray_testkit::wait::eventually;

use crate::server::{CALL, LIMIT, Phone, Server};
use crate::support::{NUMBER, between};

/// What the agent says of it: 16 characters at 50 ms, in samples.
const NOBODY: usize = 16 * 400;

const REACHABLE: [(&str, &str); 2] = [
    ("proxy_host", "voice.example.com"),
    ("telephony.verify_signatures", "false"),
];

fn script() -> Script {
    let transfer = Answer::say("One moment.").and_call("transfer_call");
    Script::new().answers(transfer.and_then_say("Nobody is there."))
}

fn transfer() -> Asked {
    Asked::Transfer {
        call: CALL.to_owned(),
        to: NUMBER.to_owned(),
    }
}

/// A caller at Twilio.
async fn caller(server: &Server) -> Phone {
    called(server).await.0
}

/// And where Twilio asks what is next when the stream has ended.
async fn called(server: &Server) -> (Phone, String) {
    let fields = [("CallSid", CALL), ("From", "+15005550006")];
    let (status, twiml) = server.webhook("/telephony/twilio", &fields).await;
    assert_eq!(status, 200, "{twiml}");
    let stream = between(&twiml, "<Stream url=\"", "\"").to_owned();
    let next = between(&twiml, "<Connect action=\"https://voice.example.com", "\"").to_owned();
    (Phone::open(WireProvider::Twilio, &server.socket(&stream)).await, next)
}

/// Nothing that would take the caller away from anybody.
async fn nothing_is_next(server: &Server, next: &str) {
    let ended = [("CallSid", CALL), ("CallStatus", "in-progress")];
    let (status, twiml) = server.webhook(next, &ended).await;
    assert!(
        status == 200 && twiml.ends_with("<Response></Response>"),
        "{status}: {twiml}"
    );
}

/// One who was just put through: the path at which Twilio says what becomes of that.
async fn put_through(server: &Server) -> (Phone, String) {
    let (mut phone, next) = called(server).await;
    phone.press("1#").await;
    // Nobody hears the end of this before the provider has the order.
    phone.hears(|heard| heard.len() >= 4_400).await;
    let asked = {
        let asking = server.carrier.request(0);
        let listening = phone.hears(|_| false);
        tokio::select! {
            asked = asking => asked.unwrap(),
            _ = listening => panic!("the stream has ended"),
        }
    };
    assert_eq!(asked.asked, transfer());
    let twiml = asked.field("Twiml");
    assert!(twiml.contains("<Dial timeout=\"30\" action="), "{twiml}");
    let action = between(twiml, "action=\"https://voice.example.com", "\"").to_owned();
    assert!(action.starts_with("/telephony/twilio/transferred/"), "{action}");
    // Twilio ends the stream for the new document.
    phone.hang_up().await;
    phone.is_closed().await;
    assert_eq!(server.sessions().await.len(), 1, "the conversation waits");
    nothing_is_next(server, &next).await;
    (phone, action)
}

const NO_ANSWER: [(&str, &str); 3] = [
    ("CallSid", CALL),
    ("CallStatus", "in-progress"),
    ("DialCallStatus", "no-answer"),
];

#[tokio::test]
async fn a_transfer_that_rings_out_brings_the_caller_back_to_the_same_conversation() {
    let server = Server::start_at(Provider::Twilio, script(), &REACHABLE).await;
    let mut notices = server.process.media().events();
    let (_gone, action) = put_through(&server).await;

    let (status, twiml) = server.webhook(&action, &NO_ANSWER).await;
    assert_eq!(status, 200, "{twiml}");
    let stream = server.socket(between(&twiml, "<Stream url=\"", "\""));
    let mut phone = Phone::open(WireProvider::Twilio, &stream).await;
    phone.hears(|heard| heard.len() >= NOBODY).await;

    let told = async {
        loop {
            if let Ok((_, Notice::ToolDone { content, .. })) = notices.recv().await {
                return content;
            }
        }
    };
    let told = tokio::time::timeout(LIMIT, told).await.unwrap();
    assert_eq!(told, "error: the caller could not be put through: no answer");
    assert_eq!(server.sessions().await.len(), 1, "it is the same one");
    assert!(
        tokio_tungstenite::connect_async(&stream).await.is_err(),
        "while the stream lives its token is used up"
    );
    phone.hang_up().await;
    phone.is_closed().await;
    server.is_idle().await;
    assert_eq!(server.asked(), [transfer()]);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_our_side_has_closed_is_not_opened_again() {
    let server = Server::start_at(Provider::Twilio, Script::new(), &REACHABLE).await;
    let (mut phone, next) = called(&server).await;
    let id = server.connected().await;
    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    nothing_is_next(&server, &next).await;
    server.is_idle().await;
    nothing_is_next(&server, &next).await;
    server.stop().await;
}

#[tokio::test]
async fn a_transfer_that_is_taken_ends_the_session_and_a_later_report_finds_nobody() {
    let server = Server::start_at(Provider::Twilio, script(), &REACHABLE).await;
    let (_gone, action) = put_through(&server).await;

    let answered = [
        ("CallSid", "CA-other-leg"),
        ("ParentCallSid", CALL),
        ("CallStatus", "in-progress"),
    ];
    assert_eq!(server.webhook(&action, &answered).await.0, 204);
    server.is_idle().await;

    let completed = [("CallSid", CALL), ("DialCallStatus", "completed")];
    let (status, twiml) = server.webhook(&action, &completed).await;
    assert!(status == 200 && twiml.contains("<Hangup/>"), "{status}: {twiml}");
    let (status, twiml) = server.webhook(&action, &NO_ANSWER).await;
    assert!(status == 200 && twiml.contains("<Say>"), "{status}: {twiml}");
    assert_eq!(server.asked(), [transfer()], "nobody hangs up on them");
    server.stop().await;
}

#[tokio::test]
async fn a_caller_may_be_told_goodbye_instead() {
    let polite = ("telephony.transfer_not_taken", "goodbye");
    let server = Server::start_at(Provider::Twilio, script(), &[&REACHABLE[..], &[polite]].concat()).await;
    let (_gone, action) = put_through(&server).await;

    let (status, twiml) = server.webhook(&action, &NO_ANSWER).await;

    assert!(status == 200 && twiml.contains("</Say><Hangup/>"), "{status}: {twiml}");
    server.is_idle().await;
    server.stop().await;
}

/// Telnyx keeps the stream, and reports each leg.
#[tokio::test]
async fn a_stream_that_goes_on_while_it_rings_is_silent_until_nobody_has_answered() {
    let server = Server::start_at(Provider::Telnyx, script(), &REACHABLE).await;
    let fields = [("CallSid", CALL), ("From", "+15005550006")];
    let (_, texml) = server.webhook("/telephony/telnyx", &fields).await;
    let stream = server.socket(between(&texml, "<Stream url=\"", "\""));
    let mut phone = Phone::open(WireProvider::Telnyx, &stream).await;
    server.connected().await;
    phone.press("1#").await;
    let asked = {
        let listening = phone.hears(|_| false);
        tokio::select! {
            asked = server.carrier.request(0) => asked.unwrap(),
            _ = listening => panic!("the stream has ended"),
        }
    };
    assert_eq!(asked.asked, transfer());
    assert_eq!(asked.json["timeout_secs"], 30);
    let report = asked.text("/webhook_url").replace("https://voice.example.com", "");
    let event = |kind: &str, leg: &str, more: Value| {
        let mut payload = json!({"call_control_id": leg});
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"data": {"event_type": kind, "payload": payload}})
    };
    let rings = event("call.initiated", "other-leg", json!({}));
    assert_eq!(server.event(&report, &rings).await.0, 204);

    let rang_out = event("call.hangup", "other-leg", json!({"hangup_cause": "timeout"}));
    assert_eq!(server.event(&report, &rang_out).await.0, 204);

    phone.hears(|heard| heard.len() >= NOBODY).await;
    assert_eq!(server.sessions().await.len(), 1);
    let gone = event("call.hangup", CALL, json!({"hangup_cause": "normal_clearing"}));
    assert_eq!(server.event(&report, &gone).await.0, 204);
    eventually("the call is over", LIMIT, || async {
        Ok((server.process.media().sessions() == 0).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(server.asked(), [transfer()]);
    server.stop().await;
}

#[tokio::test]
async fn a_transfer_that_fails_after_its_client_has_gone_leaves_the_caller_with_the_agent() {
    let script = Script::new().answers(Answer::say("I am still here."));
    let server = Server::start_at(Provider::Twilio, script, &REACHABLE).await;
    let mut phone = caller(&server).await;
    let id = server.connected().await;
    server.carrier.fail([Fault::NoAnswer, Fault::NoAnswer, Fault::NoAnswer]);
    let transfer = format!("/sessions/{id}/transfer");
    tokio::select! {
        asked = server.carrier.request(0) => drop(asked.unwrap()),
        answered = server.post(&transfer, json!({"to": NUMBER})) => panic!("{answered:?}"),
    }

    // Keys are for whoever takes the call until it is known that nobody does.
    let heard = tokio::time::timeout(LIMIT, async {
        loop {
            phone.press("1#").await;
            let hearing = phone.hears(|heard| heard.len() >= NOBODY);
            if let Ok(heard) = tokio::time::timeout(Duration::from_secs(3), hearing).await {
                return heard;
            }
        }
    });

    assert!(heard.await.expect("the agent hears nothing any more").len() >= NOBODY);
    // The provider has not said whether it did it: a stream that ends by itself may be the transfer.
    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_may_have_been_handed_over_is_not_ended_at_the_provider() {
    // One of its own servers may have done it before another one failed.
    for fault in [Fault::NoAnswer, Fault::Status(502)] {
        let server = Server::start(Script::new()).await;
        let (mut phone, id) = server.call().await;
        server.carrier.fail_always(Some(fault));
        transfer_in_vain(&server, &id).await;

        phone.leave().await;
        phone.is_closed().await;
        server.is_idle().await;
        let Server { process, carrier, .. } = server;
        tokio::time::timeout(LIMIT, process.stop()).await.unwrap();

        let asked = carrier.requests();
        assert!(asked.iter().all(|request| request.asked == transfer()), "{asked:?}");
    }
}

/// Telnyx keeps the stream, whether the caller is handed over or not: nothing but the agent may be left to end the call.
#[tokio::test]
async fn where_the_stream_goes_on_either_way_the_agent_still_ends_the_call() {
    let server = Server::start_at(Provider::Telnyx, Script::new(), &[]).await;
    let (_, texml) = server.webhook("/telephony/telnyx", &[("CallSid", CALL)]).await;
    let stream = server.socket(between(&texml, "<Stream url=\"", "\""));
    let mut phone = Phone::open(WireProvider::Telnyx, &stream).await;
    let id = server.connected().await;
    server.carrier.fail_always(Some(Fault::Status(502)));
    transfer_in_vain(&server, &id).await;
    server.carrier.fail_always(None);

    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    server.is_idle().await;
    let hung_up = eventually("the provider to be told", LIMIT, || async {
        let asked = server.asked();
        Ok(asked.last().filter(|asked| **asked != transfer()).cloned())
    });
    assert_eq!(hung_up.await.unwrap(), Asked::HangUp { call: CALL.to_owned() });
    server.stop().await;
}

/// Until the stream has begun, which nobody announces, the provider is not asked.
async fn transfer_in_vain(server: &Server, id: &str) {
    eventually("the provider to be asked", LIMIT, || async {
        let path = format!("/sessions/{id}/transfer");
        assert_eq!(server.event(&path, &json!({"to": NUMBER})).await.0, 503);
        Ok((!server.asked().is_empty()).then_some(()))
    })
    .await
    .unwrap();
}
