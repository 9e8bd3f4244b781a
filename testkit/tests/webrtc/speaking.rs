//! A conversation over WebRTC.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use media_core::rtp::AudioCodec;
use serde_json::{Value, json};
use voxray_testkit::scripted::{Answer, Script};
use voxray_testkit::webrtc_client::{Client, Kind, PLAIN};

use crate::plane::{LIMIT, Plane, SHORT};

const READY: &str =
    r#"{"label":"rtvi-ai","type":"client-ready","id":"r1","data":{"version":"2.0.0","about":{"library":"test"}}}"#;

/// Of [`converses`].
pub fn script() -> Script {
    Script::new()
        .hears("I want to leave a message.")
        .answers(Answer::say("What is your message?"))
}

/// The client is greeted, understood and answered.
pub async fn converses(client: &mut Client) {
    client.hears_voice(Duration::from_millis(200)).await.unwrap();
    client.hears_out().await.unwrap();
    client.speak().await.unwrap();
    let heard = client
        .message(|message| message["type"] == "user-transcription" && message["data"]["final"] == true)
        .await
        .unwrap();
    assert_eq!(heard["data"]["text"], "I want to leave a message.");
    client.hears_voice(Duration::from_millis(900)).await.unwrap();
    client.hears_out().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_greeted_understood_and_answered_and_the_call_is_archived() {
    let plane = Plane::start(script()).await;
    let mut client = plane.connected(PLAIN).await;

    client.say(READY).await.unwrap();
    let ready = client.message_of("bot-ready").await.unwrap();
    assert_eq!(ready["id"], "r1");
    converses(&mut client).await;
    let session_id = client.session_id.clone();
    client
        .say(r#"{"label":"rtvi-ai","type":"disconnect-bot","id":"d1"}"#)
        .await
        .unwrap();
    client
        .message(|message| message["message"]["type"] == "peerLeft")
        .await
        .unwrap();

    let (rows, recording) = plane.archived(&session_id).await;
    let said: Vec<&str> = rows.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(said, ["Hello.", "I want to leave a message.", "What is your message?"]);
    let wav = hound::WavReader::open(recording).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels), (16_000, 2));
    plane.is_idle().await;
    plane.stop().await;
}

/// What a page can be told of turns and tools; failures and messages of the server's own are not part of them.
const TOLD: [&str; 17] = [
    "bot-llm-started",
    "bot-llm-stopped",
    "bot-llm-text",
    "bot-output",
    "bot-started-speaking",
    "bot-stopped-speaking",
    "bot-tts-started",
    "bot-tts-stopped",
    "bot-tts-text",
    "llm-function-call-in-progress",
    "llm-function-call-started",
    "llm-function-call-stopped",
    "metrics",
    "user-llm-text",
    "user-started-speaking",
    "user-stopped-speaking",
    "user-transcription",
];

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_turn_and_its_tool_is_told_over_the_data_channel() {
    let collecting = Answer::say("Your number?").and_call_with("collect_digits", r#"{"max_digits": 1}"#);
    let script = Script::new()
        .hears("Hi")
        .answers(collecting)
        .answers(Answer::say("Thank you."));
    let plane = Plane::start_with(script, SHORT, &[]).await;
    let mut client = plane.connected(PLAIN).await;
    let told = Mutex::new(BTreeSet::new());
    let note = |message: &Value| {
        let kind = message["type"].as_str().unwrap_or_default();
        told.lock().unwrap().insert(kind.to_owned())
    };

    client.say(READY).await.unwrap();
    client.speak().await.unwrap();
    let collects = client.message(|message| {
        note(message);
        message["type"] == "llm-function-call-in-progress"
    });
    assert_eq!(collects.await.unwrap()["data"]["function_name"], "collect_digits");
    client
        .say(r#"{"label":"rtvi-ai","type":"dtmf","id":"k","data":{"buttons":["7"]}}"#)
        .await
        .unwrap();
    let thanks = client.message(|message| {
        note(message);
        message["type"] == "bot-output" && message["data"]["text"] == "Thank you."
    });
    thanks.await.unwrap();
    let ends = client.message(|message| {
        note(message);
        message["type"] == "bot-stopped-speaking"
    });
    ends.await.unwrap();
    client
        .say(r#"{"label":"rtvi-ai","type":"disconnect-bot","id":"d1"}"#)
        .await
        .unwrap();
    let left = client.message(|message| {
        note(message);
        message["message"]["type"] == "peerLeft"
    });
    left.await.unwrap();

    let told = told.into_inner().unwrap();
    let missing: Vec<_> = TOLD.iter().filter(|kind| !told.contains(**kind)).collect();
    assert!(missing.is_empty(), "{missing:?} of {told:?}");
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_only_speaks_g711_holds_the_same_conversation() {
    for codec in [AudioCodec::Pcmu, AudioCodec::Pcma] {
        let plane = Plane::start_with(script(), SHORT, &[]).await;
        let mut client = plane.connected(Kind { codec, ..PLAIN }).await;

        converses(&mut client).await;

        client.close().await.unwrap();
        plane.is_idle().await;
        plane.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_every_tenth_packet_is_lost_is_still_understood() {
    let plane = Plane::start_with(script(), SHORT, &[]).await;
    let mut client = plane.connected(Kind { cable: true, ..PLAIN }).await;
    client.cable.lose_every(10);

    client.speak().await.unwrap();
    let heard = client.message_of("user-transcription").await.unwrap();
    assert_eq!(heard["data"]["text"], "I want to leave a message.");
    let mut loss = 0.0;
    let measured = async {
        while loss == 0.0 {
            loss = plane.session(&client.session_id).await["media"]["lossPercent"]
                .as_f64()
                .unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, measured).await.unwrap();
    assert!((5.0..15.0).contains(&loss), "{loss} %");

    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_reach_the_agent_as_telephone_events_and_as_messages() {
    let collecting = Answer::say("Your number?").and_call_with("collect_digits", r#"{"max_digits": 3}"#);
    let script = Script::new()
        .hears("Hi")
        .answers(collecting)
        .answers(Answer::say("Thank you."));
    let plane = Plane::start_with(script, SHORT, &[]).await;
    let mut client = plane.connected(PLAIN).await;

    client.play(&vec![0; 480 * 12], Some(5)).await.unwrap();
    client.play(&vec![0; 480 * 12], Some(11)).await.unwrap();
    client
        .say(r#"{"label":"rtvi-ai","type":"dtmf","id":"k","data":{"buttons":["7"]}}"#)
        .await
        .unwrap();
    client.silence(Duration::from_secs(2)).await.unwrap();

    let session_id = client.session_id.clone();
    client
        .say(r#"{"label":"rtvi-ai","type":"disconnect-bot","id":"d1"}"#)
        .await
        .unwrap();
    let (rows, _) = plane.archived(&session_id).await;
    let users = rows.iter().filter(|(role, _)| role == "user");
    let keys: String = users.flat_map(|(_, text)| text.matches(['5', '#', '7'])).collect();
    assert_eq!(keys, "5#7", "{rows:?}");
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_start_was_given_reaches_the_agent_and_the_offers_own_data_wins() {
    let plane = Plane::start_with(Script::new(), SHORT, &[("greeting", "Good day {{name}} of {{city}}.")]).await;
    let session_id = plane.begin(json!({ "name": "Ada", "city": "Paris" })).await;
    let mut client = Client::new(&session_id, PLAIN).await.unwrap();
    client
        .offer(&plane.a, &json!({ "request_data": { "city": "London" } }))
        .await
        .unwrap();
    client.is_connected().await.unwrap();

    let spoken = client
        .message(|message: &Value| message["type"] == "bot-tts-text")
        .await
        .unwrap();

    assert_eq!(spoken["data"]["text"], "Good day Ada of London.");
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}
