//! What clients' messages mean in every dialect, and that none of them harms.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::conversation::{EndReason, Notice, SpeechId, ToolCall, TurnTiming};
use crate::wire::pipecat;
use crate::wire::telephony::Frame;

fn session() -> Session {
    Session {
        id: "s1".to_owned(),
        version: "0.1.0".to_owned(),
        input_rate_hz: 16_000,
        output_rate_hz: 24_000,
    }
}

fn inbound(dialect: Dialect) -> Inbound {
    Inbound::new(dialect, session())
}

/// Hears one message of a text dialect.
fn hear(dialect: Dialect, message: &Value) -> Heard {
    inbound(dialect).read(Frame::Text(&message.to_string())).unwrap()
}

fn said(message: &Message) -> Value {
    match message {
        Message::Text(text) => serde_json::from_str(text).unwrap(),
        Message::Binary(bytes) => match pipecat::read(bytes).unwrap() {
            pipecat::PipecatFrame::Message(json) => serde_json::from_str(&json).unwrap(),
            other => panic!("{other:?}"),
        },
    }
}

fn typed(text: &str, run_immediately: bool, audio_response: bool) -> Wish {
    Wish::Type(Typed {
        text: text.to_owned(),
        run_immediately,
        audio_response,
    })
}

#[test]
fn every_frame_of_the_envelope_has_its_meaning() {
    let cases = [
        (json!({"type": "StartFrame", "data": {}}), None),
        (
            json!({"type": "audio", "data": {"audio": "AQACAA==", "sample_rate": 16000}}),
            Some(Wish::Audio(vec![1, 2])),
        ),
        (
            json!({"type": "AudioRawFrame", "data": {"audio": "AQADAA==", "sample_rate": 16000, "num_channels": 2}}),
            Some(Wish::Audio(vec![2])),
        ),
        (
            json!({"type": "TextFrame", "data": {"text": "Hi"}}),
            Some(typed("Hi", true, true)),
        ),
        (
            json!({"type": "TextFrame", "data": {"text": "Hi", "run_immediately": false, "audio_response": false}}),
            Some(typed("Hi", false, false)),
        ),
        (
            json!({"type": "InputDTMFFrame", "data": {"digit": "4a#"}}),
            Some(Wish::Press(vec!['4', 'A', '#'])),
        ),
        (json!({"type": "InterruptionFrame"}), Some(Wish::Interrupt)),
        (
            json!({"type": "FunctionCallResultFrame", "data": {"tool_call_id": "c1", "result": {"ok": true}}}),
            Some(Wish::ToolResult {
                call_id: "c1".to_owned(),
                content: r#"{"ok":true}"#.to_owned(),
            }),
        ),
        (json!({"type": "EndFrame", "data": {}}), Some(Wish::Leave)),
        (json!({"type": "CancelFrame"}), Some(Wish::Leave)),
    ];
    for (message, wish) in cases {
        let heard = hear(Dialect::Json, &message);
        assert_eq!(heard.wish, wish, "{message}");
        assert!(heard.replies.is_empty() && heard.breach.is_none(), "{message}");
    }
}

#[test]
fn what_the_envelope_cannot_say_is_answered_with_an_error_frame() {
    let audio = |audio: &str, rate: u32| json!({"type": "audio", "data": {"audio": audio, "sample_rate": rate}});
    let cases = [
        (json!({"type": "TTSSpeakFrame", "data": {}}), "TTSSpeakFrame", false),
        (json!({"type": "TextFrame", "data": {}}), "text", false),
        (json!({"type": "InputDTMFFrame", "data": {"digit": "x"}}), "'X'", false),
        (
            json!({"type": "InputDTMFFrame", "data": {"digit": "1".repeat(65)}}),
            "65 keys",
            false,
        ),
        (audio("!", 16_000), "base64", false),
        (audio("AQ==", 16_000), "s16le", false),
        (audio("AQA=", 17), "17 Hz", false),
        (json!({"data": {}}), "type", true),
        (json!([]), "frame", true),
    ];
    for (message, says, is_breach) in cases {
        let heard = hear(Dialect::Json, &message);
        let answer = said(&heard.replies[0]);
        assert_eq!(
            (&answer["type"], &answer["data"]["fatal"]),
            (&json!("ErrorFrame"), &json!(false))
        );
        assert!(answer["data"]["error"].as_str().unwrap().contains(says), "{answer}");
        assert_eq!((heard.wish, heard.breach.is_some()), (None, is_breach), "{message}");
    }
}

#[test]
fn a_client_of_another_major_version_is_refused_with_both_versions() {
    for dialect in [Dialect::Rtvi, Dialect::Protobuf] {
        let ready = |version: &str| {
            let text = json!({"type": "client-ready", "id": "1", "data": {"version": version}}).to_string();
            let bytes = pipecat::message_frame(text.clone());
            let mut inbound = inbound(dialect);
            match dialect {
                Dialect::Protobuf => inbound.read(Frame::Binary(&bytes)),
                Dialect::Rtvi | Dialect::Json => inbound.read(Frame::Text(&text)),
            }
            .unwrap()
        };
        for version in ["2.0.0", "2.9"] {
            let heard = ready(version);
            assert_eq!(heard.wish, Some(Wish::Begin));
            assert_eq!(said(&heard.replies[0])["type"], "bot-ready");
        }
        for version in ["1.4.0", "3.0.0", "", "two", "22"] {
            let heard = ready(version);
            assert!(matches!(heard.wish, Some(Wish::Refused(_))), "{version}");
            let answer = said(&heard.replies[0]);
            assert_eq!(
                (&answer["type"], &answer["id"]),
                (&json!("error-response"), &json!("1"))
            );
            assert!(answer["data"]["error"].as_str().unwrap().contains("2.1.0"), "{answer}");
        }
    }
}

#[test]
fn an_application_s_message_is_answered_at_once_with_its_type_and_id() {
    let custom = |t: &str, d: Value| {
        let message = json!({"type": "client-message", "id": "7", "data": {"t": t, "d": d}});
        let heard = hear(Dialect::Rtvi, &message);
        (said(&heard.replies[0]), heard.wish)
    };
    let response =
        |t: &str, d: Value| json!({"label": "rtvi-ai", "type": "server-response", "id": "7", "data": {"t": t, "d": d}});
    assert_eq!(custom("ping", json!(5)), (response("ping", json!(5)), None));
    let facts = json!({"session_id": "s1", "audio_in_sample_rate": 16000, "audio_out_sample_rate": 24000});
    assert_eq!(custom("session", json!(null)), (response("session", facts), None));
    assert_eq!(
        custom("interrupt", json!({})),
        (response("interrupt", json!(null)), Some(Wish::Interrupt))
    );
    let (refused, wish) = custom("weather", json!({}));
    assert_eq!(
        (&refused["type"], &refused["id"], wish),
        (&json!("error-response"), &json!("7"), None)
    );
}

#[test]
fn a_tool_s_answer_from_the_client_goes_to_the_call_in_the_words_of_the_client() {
    let data = json!({"function_name": "f", "tool_call_id": "c1", "arguments": {}, "result": "sunny"});
    let heard = hear(
        Dialect::Rtvi,
        &json!({"type": "llm-function-call-result", "id": "1", "data": data}),
    );
    let answer = Wish::ToolResult {
        call_id: "c1".to_owned(),
        content: "sunny".to_owned(),
    };
    assert_eq!(heard, Heard::wish(answer));
}

#[test]
fn a_message_of_the_other_kind_is_told_apart() {
    assert_eq!(inbound(Dialect::Protobuf).read(Frame::Text("{}")), Err(WrongKind::Text));
    for dialect in [Dialect::Rtvi, Dialect::Json] {
        assert_eq!(inbound(dialect).read(Frame::Binary(b"{}")), Err(WrongKind::Binary));
    }
}

#[test]
fn junk_is_answered_where_there_is_somebody_to_answer_and_always_counted() {
    for dialect in [Dialect::Rtvi, Dialect::Json] {
        let heard = inbound(dialect).read(Frame::Text("ping: 5")).unwrap();
        assert!(heard.breach.is_some() && heard.replies.len() == 1, "{dialect:?}");
    }
    let heard = inbound(Dialect::Protobuf).read(Frame::Binary(b"\xFF\xFF")).unwrap();
    assert!(heard.breach.is_some() && heard.replies.is_empty());
}

#[test]
fn audio_of_any_usual_rate_reaches_the_call_at_the_call_s() {
    let mut peer = inbound(Dialect::Json);
    let mut heard = 0;
    for _ in 0..50 {
        let samples = audio::encode(&vec![100; 960]);
        let message = json!({"type": "audio", "data": {"audio": samples, "sample_rate": 48_000}}).to_string();
        match peer.read(Frame::Text(&message)).unwrap().wish {
            Some(Wish::Audio(samples)) => heard += samples.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!((15_900..=16_000).contains(&heard), "{heard} samples of a second");
}

#[test]
fn the_agent_s_audio_is_in_the_form_that_the_client_s_own_has() {
    let audio = |dialect| Outbound::new(dialect, session()).audio(&[1, -1]);
    let rtvi = said(&audio(Dialect::Rtvi));
    assert_eq!(rtvi["type"], "server-message");
    let same = json!({"type": "raw-audio", "base64Audio": "AQD//w==", "sampleRate": 24000, "numChannels": 1});
    assert_eq!(rtvi["data"], same);
    let json = said(&audio(Dialect::Json));
    let same = json!({"type": "audio", "data": {"audio": "AQD//w==", "sample_rate": 24000, "num_channels": 1}});
    assert_eq!(json, same);
    assert_eq!(
        audio(Dialect::Protobuf),
        Message::Binary(pipecat::audio_frame(&[1, -1], 24_000))
    );
}

#[test]
fn an_envelope_begins_with_its_rates_and_ends_with_the_reason() {
    let mut outbound = Outbound::new(Dialect::Json, session());
    let opening = said(&outbound.opening().unwrap());
    assert_eq!(opening["type"], "StartFrame");
    assert_eq!(opening["data"]["audio_out_sample_rate"], 24_000);
    let mut out = Vec::new();
    outbound.end(&EndReason::ProviderFailed("gone".to_owned()), &mut out);
    let kinds: Vec<Value> = out.iter().map(|message| said(message)["type"].clone()).collect();
    assert_eq!(kinds, ["ErrorFrame", "EndFrame"]);
    out.clear();
    outbound.end(&EndReason::AgentHungUp, &mut out);
    assert_eq!(said(&out[0])["data"]["reason"], "agent_hung_up");
}

#[test]
fn every_notice_has_its_frame() {
    let mut narrator = json::JsonNarrator::default();
    let call = ToolCall {
        id: "c1".to_owned(),
        name: "weather".to_owned(),
        arguments: r#"{"city":"Bern"}"#.to_owned(),
    };
    let text = || "Hi.".to_owned();
    let notices = vec![
        Notice::UserTranscript {
            text: text(),
            is_final: false,
        },
        Notice::ToolStarted(call),
        Notice::ToolRunning {
            call_id: "c1".to_owned(),
        },
        Notice::ToolDone {
            call_id: "c1".to_owned(),
            content: "sunny".to_owned(),
        },
        Notice::ToolCancelled {
            call_id: "c2".to_owned(),
        },
        Notice::Speaking {
            speech: SpeechId(1),
            text: text(),
        },
        Notice::Written {
            speech: SpeechId(2),
            text: text(),
        },
        Notice::Interrupted { heard: text() },
        Notice::TurnTiming(TurnTiming::default()),
        Notice::StageFailed {
            stage: "tts",
            error: text(),
        },
    ];
    let frames: Vec<Value> = notices
        .into_iter()
        .filter_map(|notice| narrator.frame(notice, "2026-03-05T10:00:00Z"))
        .map(|frame| serde_json::from_str(&frame).unwrap())
        .collect();
    let kinds: Vec<&str> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "TranscriptionFrame",
            "FunctionCallInProgressFrame",
            "FunctionCallResultFrame",
            "FunctionCallCancelFrame",
            "AggregatedTextFrame",
            "AggregatedTextFrame",
            "InterruptionFrame",
            "MetricsFrame",
            "ErrorFrame",
        ]
    );
    assert_eq!(frames[0]["data"]["finalized"], false);
    assert_eq!(frames[1]["data"]["arguments"]["city"], "Bern");
    assert_eq!(frames[2]["data"]["function_name"], "weather");
    assert_eq!(
        (&frames[4]["data"]["spoken"], &frames[5]["data"]["spoken"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(frames[8]["data"]["processor"], "tts");
}

proptest! {
    #[test]
    fn no_message_makes_a_reader_panic(bytes: Vec<u8>, text in ".{0,300}", kind in "[A-Za-z-]{0,24}", data in ".{0,40}") {
        for dialect in Dialect::ALL {
            let mut inbound = inbound(dialect);
            let _ = inbound.read(Frame::Binary(&bytes));
            let _ = inbound.read(Frame::Text(&text));
            let message = json!({"type": kind, "id": data, "data": data}).to_string();
            let _ = inbound.read(Frame::Text(&message));
        }
    }

    #[test]
    fn audio_survives_both_text_dialects(samples: Vec<i16>) {
        let audio = audio::encode(&samples);
        let json = json!({"type": "audio", "data": {"audio": audio, "sample_rate": 16000}});
        prop_assert_eq!(hear(Dialect::Json, &json).wish, Some(Wish::Audio(samples.clone())));
        let data = json!({"base64Audio": audio, "sampleRate": 16000, "numChannels": 1});
        let rtvi = json!({"type": "raw-audio", "data": data});
        prop_assert_eq!(hear(Dialect::Rtvi, &rtvi).wish, Some(Wish::Audio(samples)));
    }

    #[test]
    fn keys_are_pressed_as_they_are_or_not_at_all(keys_sent in "[0-9*#A-Dx]{0,70}") {
        let fits = (1..=MAX_KEYS).contains(&keys_sent.len()) && !keys_sent.contains('x');
        prop_assert_eq!(keys(keys_sent.chars()).is_ok(), fits);
    }
}
