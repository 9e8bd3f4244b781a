//! `/ws` in JSON, as RTVI messages and as envelopes: what a client that behaves may rely on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use media_core::audio::pcm;
use media_core::wire::client::Dialect;
use serde_json::{Value, json};
use service_kit::config::Config;
use service_kit::token::Claims;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::tungstenite::Message;
use voxray::wav;
use voxray_testkit::scripted::{Answer, MS_PER_CHARACTER, Script};
use voxray_testkit::servers::tools::workspace_root;

use crate::support::{LIMIT, Server, Socket, claims, closed, open, send};

pub const RTVI: &str = "/ws?rtvi=1";
pub const JSON: &str = "/ws";

/// One message of a text dialect.
pub fn text(kind: &str, data: &Value) -> Message {
    Message::text(json!({"type": kind, "id": "1", "data": data}).to_string())
}

fn audio(dialect: Dialect, samples: &[i16]) -> Message {
    let audio = BASE64.encode(pcm::to_s16le(samples));
    match dialect {
        Dialect::Rtvi => text(
            "raw-audio",
            &json!({"base64Audio": audio, "sampleRate": 16000, "numChannels": 1}),
        ),
        Dialect::Json => text("audio", &json!({"audio": audio, "sample_rate": 16000})),
        Dialect::Protobuf => unreachable!("not a text dialect"),
    }
}

/// Samples and rate, when the message is audio of the agent.
fn agent_audio(message: &Value) -> Option<(usize, u64)> {
    let data = &message["data"];
    let (audio, rate) = match message["type"].as_str()? {
        "audio" => (&data["audio"], &data["sample_rate"]),
        "server-message" if data["type"] == "raw-audio" => (&data["base64Audio"], &data["sampleRate"]),
        _ => return None,
    };
    Some((BASE64.decode(audio.as_str()?).unwrap().len() / 2, rate.as_u64()?))
}

/// The next message that satisfies `wanted`.
pub async fn next(socket: &mut Socket, wanted: impl Fn(&Value) -> bool) -> Value {
    let reading = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if wanted(&message) {
                        return message;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no such message came: {other:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap()
}

pub async fn next_of(socket: &mut Socket, kind: &str) -> Value {
    next(socket, |message| message["type"] == kind).await
}

/// A socket on which audio may flow.
pub async fn begun(server: &Server, path: &str) -> Socket {
    let mut socket = open(&server.ws(path)).await;
    if path.contains("rtvi=1") {
        send(&mut socket, text("client-ready", &json!({"version": "2.0.0"}))).await;
        next_of(&mut socket, "bot-ready").await;
    } else {
        let start = next_of(&mut socket, "StartFrame").await;
        assert_eq!(start["data"]["audio_out_sample_rate"], 24_000);
    }
    socket
}

fn quick(config: &mut Config) {
    config.agent.greeting = Some(String::new());
    // A muted microphone sends nothing: this long after its last audio, the turn is over.
    config.turn.user_turn_stop_timeout_secs = 0.4;
}

/// A second and a half of a real person's speech at 16 kHz, and no silence after it.
fn speech() -> Vec<i16> {
    let narrow = wav::read_file(&workspace_root().join("testdata/speech/austen-0880.wav")).unwrap();
    let wide = wav::resample(&narrow, wav::TELEPHONE_HZ, 16_000).unwrap();
    let mut samples = vec![0; 3_200];
    samples.extend(wide.into_iter().take(24_000));
    samples
}

/// Everything that comes until the agent has spoken its answer.
async fn converse(server: &Server, dialect: Dialect) -> Vec<Value> {
    let (path, last) = match dialect {
        Dialect::Rtvi => (RTVI, "bot-stopped-speaking"),
        Dialect::Json => (JSON, "BotStoppedSpeakingFrame"),
        Dialect::Protobuf => unreachable!("not a text dialect"),
    };
    let (mut sink, mut stream) = begun(server, path).await.split();
    let speaking = async {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for packet in speech().chunks(320) {
            clock.tick().await;
            sink.send(audio(dialect, packet)).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let listening = async {
        let mut told: Vec<Value> = Vec::new();
        while told.last().is_none_or(|message| message["type"] != last) {
            if let Some(Ok(Message::Text(text))) = stream.next().await {
                told.push(serde_json::from_str(&text).unwrap());
            }
        }
        told
    };
    tokio::select! {
        () = speaking => unreachable!(),
        told = tokio::time::timeout(LIMIT, listening) => told.unwrap(),
    }
}

fn assert_order(told: &[Value], kinds: &[&str]) {
    let at = |kind: &str| {
        let found = told.iter().position(|message| message["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {told:?}"))
    };
    for pair in kinds.windows(2) {
        assert!(at(pair[0]) < at(pair[1]), "{pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_that_just_stops_is_answered_in_speech_in_both_text_dialects() {
    are_answered_in_speech(quick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batched_writes_change_neither_what_clients_are_told_nor_its_order() {
    are_answered_in_speech(|config| {
        quick(config);
        config.pipeline.ws_write_coalesce_ms = 40;
    })
    .await;
}

/// A conversation in each text dialect, and all that the clients rely on in it.
async fn are_answered_in_speech(change: impl FnOnce(&mut Config)) {
    let answer = "We are open from nine to five.";
    let script = Script::new().hears("When are you open?").answers(Answer::say(answer));
    let server = Server::start_with(script, Default::default(), change).await;

    let (rtvi, json) = tokio::join!(converse(&server, Dialect::Rtvi), converse(&server, Dialect::Json));

    for told in [&rtvi, &json] {
        let audio: Vec<(usize, u64)> = told.iter().filter_map(agent_audio).collect();
        assert!(audio.iter().all(|&(samples, rate)| (samples, rate) == (480, 24_000)));
        let spoken_ms = MS_PER_CHARACTER as usize * answer.len();
        assert!((audio.len() * 20).abs_diff(spoken_ms) < 1_000, "{} frames", audio.len());
    }
    assert_order(
        &rtvi,
        &[
            "user-started-speaking",
            "user-stopped-speaking",
            "user-transcription",
            "user-llm-text",
            "bot-llm-started",
            "bot-llm-text",
            "bot-tts-started",
            "bot-started-speaking",
            "bot-tts-text",
            "server-message",
            "bot-stopped-speaking",
        ],
    );
    let outputs: Vec<&Value> = rtvi.iter().filter(|message| message["type"] == "bot-output").collect();
    let spoken: Vec<&str> = outputs
        .iter()
        .filter_map(|output| output["data"]["spoken_progress"]["accumulated_text"].as_str())
        .collect();
    assert!(
        spoken.contains(&"We are") && spoken.last() == Some(&answer),
        "{spoken:?}"
    );
    assert_eq!(outputs.last().unwrap()["data"]["spoken_status"], "completed");
    let metrics = rtvi.iter().find(|message| message["type"] == "metrics").unwrap();
    let turn = metrics["data"]["processing"][1]["value"].as_f64().unwrap();
    assert!((0.4..LIMIT.as_secs_f64()).contains(&turn), "{turn} s");

    assert_order(
        &json,
        &[
            "UserStartedSpeakingFrame",
            "UserStoppedSpeakingFrame",
            "TranscriptionFrame",
            "LLMFullResponseStartFrame",
            "LLMTextFrame",
            "BotStartedSpeakingFrame",
            "AggregatedTextFrame",
            "audio",
            "BotStoppedSpeakingFrame",
        ],
    );
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_text_may_be_answered_in_text_alone() {
    let script = Script::new()
        .answers(Answer::say("Fine."))
        .answers(Answer::say("Thank you."));
    let server = Server::start_with(script, Default::default(), quick).await;

    let mut socket = begun(&server, RTVI).await;
    let quietly = json!({"content": "How are you?", "options": {"audio_response": false}});
    send(&mut socket, text("send-text", &quietly)).await;
    let output = next_of(&mut socket, "bot-output").await;
    assert_eq!(output["data"]["text"], "Fine.");
    assert_eq!(output["data"]["will_be_spoken"], false);
    // The next answer is spoken again, and the first sound on this socket is its.
    send(&mut socket, text("send-text", &json!({"content": "Good."}))).await;
    let spoken = next(&mut socket, |message| {
        assert!(agent_audio(message).is_none(), "nothing was to be spoken yet");
        message["type"] == "bot-tts-started"
    });
    spoken.await;
    next(&mut socket, |message| agent_audio(message).is_some()).await;
    send(&mut socket, text("client-message", &json!({"t": "interrupt"}))).await;
    next_of(&mut socket, "server-response").await;
    send(&mut socket, text("disconnect-bot", &Value::Null)).await;
    assert_eq!(closed(&mut socket).await.0, 1000);

    let mut socket = begun(&server, JSON).await;
    let quietly = json!({"text": "How are you?", "audio_response": false});
    send(&mut socket, text("TextFrame", &quietly)).await;
    let output = next_of(&mut socket, "AggregatedTextFrame").await;
    assert_eq!(
        (&output["data"]["text"], &output["data"]["spoken"]),
        (&json!("Fine."), &json!(false))
    );
    send(&mut socket, text("EndFrame", &json!({}))).await;
    let end = next_of(&mut socket, "EndFrame").await;
    assert_eq!(end["data"]["reason"], "caller_hung_up");
    assert_eq!(closed(&mut socket).await.0, 1000);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_the_client_brought_runs_at_the_client() {
    let answer = Answer::say("").and_call_with("weather", r#"{"city":"Bern"}"#);
    let server = Server::start_with(Script::new().answers(answer), Default::default(), quick).await;
    let path = |base: &str| {
        let tools = json!({"tools": [{"name": "weather", "description": "Weather of a city"}]});
        let claims = Claims {
            body_json: tools.to_string(),
            ..claims("websocket")
        };
        format!("{base}token={}", server.sign(&claims))
    };

    let mut socket = begun(&server, &path("/ws?rtvi=1&")).await;
    send(&mut socket, text("send-text", &json!({"content": "Weather?"}))).await;
    let call = next_of(&mut socket, "llm-function-call-in-progress").await;
    assert_eq!(call["data"]["arguments"]["city"], "Bern");
    let stray = json!({"function_name": "weather", "tool_call_id": "other", "arguments": {}, "result": "rain"});
    send(&mut socket, text("llm-function-call-result", &stray)).await;
    let result = json!({"function_name": "weather", "tool_call_id": call["data"]["tool_call_id"], "arguments": {},
        "result": {"sky": "blue"}});
    send(&mut socket, text("llm-function-call-result", &result)).await;
    let stopped = next_of(&mut socket, "llm-function-call-stopped").await;
    assert_eq!(stopped["data"]["result"]["sky"], "blue");
    assert_eq!(stopped["data"]["function_name"], "weather");
    drop(socket);

    let mut socket = begun(&server, &path("/ws?")).await;
    send(&mut socket, text("TextFrame", &json!({"text": "Weather?"}))).await;
    let call = next_of(&mut socket, "FunctionCallInProgressFrame").await;
    let result = json!({"tool_call_id": call["data"]["tool_call_id"], "result": "blue"});
    send(&mut socket, text("FunctionCallResultFrame", &result)).await;
    let stopped = next_of(&mut socket, "FunctionCallResultFrame").await;
    assert_eq!(stopped["data"]["result"], "blue");
    drop(socket);
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_start_answers_opens_every_dialect_once() {
    let server = Server::start_with(Script::new(), Default::default(), quick).await;
    for (addition, says) in [
        ("", None),
        ("&rtvi=1", Some("bot-ready")),
        ("&format=json", Some("StartFrame")),
    ] {
        let start = server
            .http
            .post(format!("{}/start", server.base))
            .json(&json!({"transport": "websocket"}))
            .send()
            .await
            .unwrap();
        assert_eq!(start.status(), 201);
        let start: Value = start.json().await.unwrap();
        let keys: Vec<&String> = start.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["token", "wsUrl"]);
        let (url, token) = (start["wsUrl"].as_str().unwrap(), start["token"].as_str().unwrap());
        let url = format!("{url}{addition}&token={token}");

        let mut socket = open(&url).await;
        if let Some(says) = says {
            send(&mut socket, text("client-ready", &json!({"version": "2.0.0"}))).await;
            next_of(&mut socket, says).await;
        }

        let again = tokio_tungstenite::connect_async(&url).await.unwrap_err();
        assert!(again.to_string().contains("403"), "{again}");
        drop(socket);
        server.is_idle().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_in_every_dialect() {
    let server = Server::start_with(Script::new(), Default::default(), quick).await;
    for path in [crate::client::PROTOBUF, RTVI, JSON] {
        let mut socket = open(&server.ws(path)).await;
        send(&mut socket, Message::Ping("are you there?".into())).await;
        let answered = async {
            loop {
                match socket.next().await.unwrap().unwrap() {
                    Message::Pong(echo) => return echo,
                    _ => continue,
                }
            }
        };
        let echo = tokio::time::timeout(LIMIT, answered).await.unwrap();
        assert_eq!(echo.as_ref(), b"are you there?");
    }
    server.is_idle().await;
    server.stop().await;
}
