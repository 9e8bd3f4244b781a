//! `/ws?format=protobuf`: what a client that behaves may rely on.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::wire::pipecat::{self, PipecatFrame};
use serde_json::{Value, json};
use service_kit::config::Config;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;
use voxray::wav;
use voxray_testkit::scripted::{Answer, MS_PER_CHARACTER, Script};
use voxray_testkit::servers::tools::workspace_root;

use crate::support::{LIMIT, Server, Socket, closed, open, send};

pub const PROTOBUF: &str = "/ws?format=protobuf";

/// One RTVI message in its frame.
pub fn rtvi(kind: &str, id: &str, data: &Value) -> Message {
    let message = json!({"label": "rtvi-ai", "type": kind, "id": id, "data": data});
    Message::binary(pipecat::message_frame(message.to_string()))
}

pub fn client_ready() -> Message {
    rtvi(
        "client-ready",
        "ready-1",
        &json!({"version": "2.0.0", "about": {"library": "test"}}),
    )
}

/// The next RTVI message that satisfies `wanted`.
pub async fn next_message(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Value {
    let reading = async {
        loop {
            let message = match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                other => panic!("no such message came: {other:?}"),
            };
            if let PipecatFrame::Message(json) = pipecat::read(&message).unwrap() {
                let message: Value = serde_json::from_str(&json).unwrap();
                assert_eq!(message["label"], "rtvi-ai");
                if wanted(&message) {
                    return message;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap()
}

pub async fn ready(server: &Server) -> Socket {
    let mut socket = open(&server.ws(PROTOBUF)).await;
    send(&mut socket, client_ready()).await;
    let ready = next_message(&mut socket, |message| message["type"] == "bot-ready").await;
    assert_eq!(ready["id"], "ready-1");
    assert_eq!(ready["data"]["about"]["library"], "voxray");
    socket
}

fn no_greeting(config: &mut Config) {
    config.agent.greeting = Some(String::new());
}

/// A real person's sentence at 16 kHz, with silence around it.
fn sentence() -> Vec<i16> {
    let narrow = wav::read_file(&workspace_root().join("testdata/speech/austen-0880.wav")).unwrap();
    let mut samples = vec![0; 8_000];
    samples.extend(wav::resample(&narrow, wav::TELEPHONE_HZ, 16_000).unwrap());
    samples.extend(vec![0; 32_000]);
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoken_turn_is_told_in_order_and_answered_at_the_pace_of_speech() {
    let answer = "We are open from nine to five, on every day but Sunday, and gladly take your message.";
    let script = Script::new().hears("When are you open?").answers(Answer::say(answer));
    let server = Server::start_with(script, Default::default(), no_greeting).await;
    let socket = ready(&server).await;
    let (mut sink, mut stream) = socket.split();
    let speaking = async move {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for packet in sentence().chunks(320) {
            clock.tick().await;
            let frame = Message::binary(pipecat::audio_frame(packet, 16_000));
            sink.send(frame).await.unwrap();
        }
        // A muted microphone sends nothing at all.
        std::future::pending::<()>().await;
    };
    let listening = async {
        let mut order: HashMap<String, usize> = HashMap::new();
        let mut transcripts = Vec::new();
        let (mut count, mut audio_ms, mut first_audio, mut max_lead_ms) = (0, 0_u128, None, 0);
        loop {
            let Some(Ok(Message::Binary(bytes))) = stream.next().await else {
                continue;
            };
            count += 1;
            match pipecat::read(&bytes).unwrap() {
                PipecatFrame::Audio {
                    samples,
                    sample_rate_hz,
                } => {
                    assert_eq!((sample_rate_hz, samples.len()), (24_000, 480));
                    order.entry("audio".to_owned()).or_insert(count);
                    audio_ms += 20;
                    let since = first_audio.get_or_insert_with(Instant::now).elapsed().as_millis();
                    max_lead_ms = max_lead_ms.max(audio_ms.saturating_sub(since));
                }
                PipecatFrame::Message(json) => {
                    let message: Value = serde_json::from_str(&json).unwrap();
                    let kind = message["type"].as_str().unwrap().to_owned();
                    if kind == "user-transcription" && message["data"]["final"] == true {
                        transcripts.push(message["data"]["text"].clone());
                    }
                    order.entry(kind.clone()).or_insert(count);
                    if kind == "bot-stopped-speaking" {
                        return (order, transcripts, audio_ms, max_lead_ms);
                    }
                }
                other => panic!("a client has no use for {other:?}"),
            }
        }
    };
    let (order, transcripts, audio_ms, max_lead_ms) = tokio::select! {
        () = speaking => unreachable!(),
        heard = tokio::time::timeout(2 * LIMIT, listening) => heard.unwrap(),
    };

    assert_eq!(transcripts, ["When are you open?"]);
    let expected = [
        "user-started-speaking",
        "user-stopped-speaking",
        "user-transcription",
        "user-llm-text",
        "bot-llm-started",
        "bot-llm-text",
        "bot-tts-started",
        "bot-started-speaking",
        "bot-stopped-speaking",
    ];
    for pair in expected.windows(2) {
        assert!(order[pair[0]] < order[pair[1]], "{pair:?}: {order:?}");
    }
    assert!(order["bot-tts-started"] < order["audio"], "{order:?}");
    assert!(order.contains_key("metrics"), "{order:?}");
    let spoken_ms = u128::from(MS_PER_CHARACTER) * answer.len() as u128;
    assert!(
        audio_ms.abs_diff(spoken_ms) < 1_000,
        "{audio_ms} ms of audio, {spoken_ms} ms spoken"
    );
    // The promise is 60 ms; the rest is for a machine that reads late.
    assert!(max_lead_ms < 1_000, "{max_lead_ms} ms ahead of the clock");
    drop(stream);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_text_and_keys_are_answered_and_the_client_may_end_it() {
    let script = Script::new()
        .answers(Answer::say("Fine."))
        .answers(Answer::say("Thank you."));
    let server = Server::start_with(script, Default::default(), no_greeting).await;
    let mut socket = ready(&server).await;

    send(
        &mut socket,
        rtvi("send-text", "t1", &json!({"content": "How are you?"})),
    )
    .await;
    let said = next_message(&mut socket, |message| message["type"] == "bot-llm-text").await;
    assert_eq!(said["data"]["text"], "Fine.");
    next_message(&mut socket, |message| message["type"] == "bot-stopped-speaking").await;

    send(&mut socket, rtvi("dtmf", "d1", &json!({"buttons": ["4", "2", "#"]}))).await;
    send(
        &mut socket,
        rtvi("send-text", "t2", &json!({"content": "That was my number."})),
    )
    .await;
    // Whether the text came in time to be asked with them or not.
    next_message(&mut socket, |message| {
        let text = message["data"]["text"].as_str().unwrap_or_default();
        message["type"] == "user-llm-text" && text.contains("keys pressed: 42#")
    })
    .await;
    next_message(&mut socket, |message| message["type"] == "bot-llm-text").await;

    send(&mut socket, rtvi("disconnect-bot", "x", &Value::Null)).await;
    assert_eq!(closed(&mut socket).await.0, 1000);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_cannot_do_is_answered_with_the_same_id() {
    let server = Server::start(Script::new()).await;
    let mut socket = ready(&server).await;
    let long = "x".repeat(50_000);
    let cases = [
        ("make-coffee", json!({}), "make-coffee"),
        ("client-message", json!({"t": "weather", "d": {}}), "weather"),
        ("send-text", json!({"text": "wrong key"}), "content"),
        ("dtmf", json!({"buttons": "12"}), "dtmf"),
        (
            "raw-audio",
            json!({"base64Audio": "!", "sampleRate": 16000, "numChannels": 1}),
            "base64",
        ),
        (
            "raw-audio",
            json!({"base64Audio": "AAA=", "sampleRate": 17, "numChannels": 1}),
            "17",
        ),
        (long.as_str(), json!({}), "xxx"),
    ];
    for (number, (kind, data, says)) in cases.into_iter().enumerate() {
        let id = format!("request-{number}");
        send(&mut socket, rtvi(kind, &id, &data)).await;
        let answer = next_message(&mut socket, |message| message["type"] == "error-response").await;
        assert_eq!(answer["id"], id.as_str());
        let error = answer["data"]["error"].as_str().unwrap();
        assert!(error.contains(says) && error.len() < 500, "{error}");
    }
    drop(socket);
    server.is_unharmed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_client_is_pinged_and_kept() {
    let server = Server::start_with(Script::new(), crate::support::SHORT, no_greeting).await;
    let mut socket = ready(&server).await;

    let pings = async {
        let mut pings = 0;
        while pings < 3 {
            if matches!(socket.next().await, Some(Ok(Message::Ping(_)))) {
                pings += 1;
            }
        }
    };
    tokio::time::timeout(LIMIT, pings).await.unwrap();

    send(&mut socket, rtvi("disconnect-bot", "x", &Value::Null)).await;
    assert_eq!(closed(&mut socket).await.0, 1000);
    server.is_idle().await;
    server.stop().await;
}
