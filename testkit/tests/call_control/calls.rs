//! Whole calls over real sockets: what the agent and the API do with them at the provider.

use media_core::audio::{dtmf, goertzel};
use media_core::conversation::Notice;
use media_core::wire::telephony::Provider;
use serde_json::json;
use voxray_testkit::carriers::{Asked, Fault};
use voxray_testkit::scripted::{Answer, Script};

use crate::server::{CALL, Phone, Server};
use crate::support::NUMBER;

fn asked(server: &Server) -> Vec<Asked> {
    server.asked()
}

fn hang_up() -> Asked {
    Asked::HangUp { call: CALL.to_owned() }
}

#[tokio::test]
async fn a_call_that_the_agent_ends_is_ended_at_the_provider() {
    let server = Server::start(Script::new().answers(Answer::say("Bye.").and_call("end_call"))).await;
    let (mut phone, _) = server.call().await;
    phone.press("1#").await;
    phone.is_closed().await;
    assert_eq!(server.carrier.request(0).await.unwrap().asked, hang_up());
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_the_caller_ends_is_over_and_the_provider_is_not_bothered() {
    let server = Server::start(Script::new()).await;
    let (mut phone, _) = server.call().await;
    phone.hang_up().await;
    phone.is_closed().await;
    server.is_idle().await;
    assert_eq!(asked(&server), []);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_closed_without_a_word_leaves_no_call_at_the_provider() {
    let server = Server::start(Script::new()).await;
    let (mut phone, _) = server.call().await;
    phone.leave().await;
    assert_eq!(server.carrier.request(0).await.unwrap().asked, hang_up());
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_cannot_begin_leaves_no_call_at_the_provider() {
    let server = Server::start(Script::new()).await;
    // A token of Twilio's, and a stream of another provider's.
    let mut phone = Phone::open(Provider::Telnyx, &server.stream_url().await).await;
    phone.is_closed().await;
    assert_eq!(server.carrier.request(0).await.unwrap().asked, hang_up());
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn a_provider_that_says_nothing_keeps_no_call_alive() {
    let server = Server::start(Script::new()).await;
    server.carrier.fail_always(Some(Fault::NoAnswer));
    let (mut phone, id) = server.call().await;
    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    server.is_idle().await;
    assert_eq!(server.carrier.request(0).await.unwrap().asked, hang_up());
    server.stop().await;
}

#[tokio::test]
async fn the_agent_puts_a_caller_through_after_saying_so() {
    let server = Server::start(Script::new().answers(Answer::say("One moment.").and_call("transfer_call"))).await;
    let (mut phone, _) = server.call().await;
    phone.press("1#").await;
    let heard = phone.hears(|_| false).await;
    // 11 characters at 50 ms.
    assert!(heard.len() >= 4_400, "the caller was told: {}", heard.len());
    server.is_idle().await;
    let transfer = Asked::Transfer {
        call: CALL.to_owned(),
        to: NUMBER.to_owned(),
    };
    // And nobody hangs up on the two who talk now.
    assert_eq!(asked(&server), [transfer]);
    server.stop().await;
}

#[tokio::test]
async fn a_transfer_that_fails_leaves_the_caller_with_the_agent() {
    let server = Server::start(Script::new().answers(Answer::say("Wait.").and_call("transfer_call"))).await;
    let mut notices = server.process.media().events();
    server.carrier.fail([Fault::Status(400)]);
    let (mut phone, id) = server.call().await;
    phone.press("1#").await;
    let listening = phone.hears(|heard| heard.len() > 800_000);
    let done = async {
        loop {
            if let Ok((_, Notice::ToolDone { content, .. })) = notices.recv().await {
                return content;
            }
        }
    };
    let content = tokio::select! {
        content = done => content,
        _ = listening => panic!("the call has ended"),
    };
    assert!(content.starts_with("error:"), "{content}");
    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    server.carrier.request(1).await.unwrap();
    assert_eq!(asked(&server)[1], hang_up());
    server.stop().await;
}

#[tokio::test]
async fn a_call_is_transferred_by_the_api_and_not_ended_after_that() {
    let server = Server::start(Script::new()).await;
    let (mut phone, id) = server.call().await;
    let transfer = format!("/sessions/{id}/transfer");
    server.carrier.fail([Fault::Unauthorized, Fault::NotFound]);
    let (status, body) = server.post(&transfer, json!({"to": NUMBER})).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(server.post(&transfer, json!({"to": NUMBER})).await.0, 404);
    let (status, body) = server.post(&transfer, json!({"to": NUMBER})).await;
    assert_eq!(
        (status, body["data"]["transferred"].as_bool()),
        (200, Some(true)),
        "{body}"
    );
    phone.is_closed().await;
    server.is_idle().await;
    let asked = asked(&server);
    assert!(!asked.contains(&hang_up()), "{asked:?}");
    assert_eq!(server.post(&transfer, json!({"to": NUMBER})).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn keys_that_the_provider_cannot_send_are_heard_as_tones() {
    let server = Server::start(Script::new()).await;
    let (mut phone, id) = server.call().await;
    let (status, body) = server
        .post(&format!("/sessions/{id}/dtmf"), json!({"digits": "5#"}))
        .await;
    assert_eq!(status, 200, "{body}");
    let heard = phone.hears(|heard| heard.len() >= 3_200).await;
    for (key, tone) in [('5', &heard[80..720]), ('#', &heard[1_680..2_320])] {
        let (low, high) = dtmf::frequencies(key).unwrap();
        let share = goertzel::share(tone, low, 8_000) + goertzel::share(tone, high, 8_000);
        assert!(share > 0.95, "{key}: {share}");
    }
    assert_eq!(asked(&server), []);
    phone.hang_up().await;
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn the_agent_asks_for_keys_and_gets_them() {
    let collect = Answer::say("Code?").and_call_with("collect_dtmf", r#"{"max_digits": 4}"#);
    let server = Server::start(Script::new().answers(collect)).await;
    let mut notices = server.process.media().events();
    let (mut phone, _) = server.call().await;
    phone.press("1#").await;
    // The question: 5 characters at 50 ms.
    phone.hears(|heard| heard.len() >= 2_000).await;
    phone.press("2468").await;
    let listening = phone.hears(|_| false);
    let done = async {
        loop {
            if let Ok((_, Notice::ToolDone { content, .. })) = notices.recv().await {
                return content;
            }
        }
    };
    let content = tokio::select! {
        content = done => content,
        _ = listening => panic!("the call has ended"),
    };
    assert_eq!(content, r#"{"digits":"2468","ended_by":"length"}"#);
    phone.hang_up().await;
    server.is_idle().await;
    server.stop().await;
}
