use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::conversation::{EndReason, Notice, SpeechId, ToolCall, TurnTiming};

fn body(kind: &str, data: Value) -> Result<ClientMessageBody, RtviError> {
    read(&json!({"label": "rtvi-ai", "type": kind, "id": "7", "data": data}).to_string()).map(|message| message.body)
}

fn told(notices: Vec<Notice>) -> Vec<Value> {
    let mut narrator = Narrator::default();
    let messages = notices
        .into_iter()
        .flat_map(|notice| narrator.messages(notice, "2026-03-05T10:00:00Z"));
    messages
        .map(|message| serde_json::from_str(&message.to_json(None)).unwrap())
        .collect()
}

fn message(kind: &str, data: Value) -> Value {
    json!({"label": "rtvi-ai", "type": kind, "data": data})
}

fn bare(kind: &str) -> Value {
    json!({"label": "rtvi-ai", "type": kind})
}

fn bot_output(id: u64, text: &str, status: &str, spoken: &str, rest: &str) -> Value {
    message(
        "bot-output",
        json!({"text": text, "aggregated_by": "sentence", "segment_id": id, "will_be_spoken": true,
            "spoken_status": status, "spoken_progress": {"accumulated_text": spoken, "remaining_text": rest}}),
    )
}

#[test]
fn a_client_ready_is_read_with_its_id() {
    let text =
        r#"{"label":"rtvi-ai","type":"client-ready","id":"a1","data":{"version":"2.0.0","about":{"library":"js"}}}"#;
    let expected = ClientMessageBody::ClientReady {
        version: Some("2.0.0".into()),
        about: json!({"library": "js"}),
    };
    assert_eq!(
        read(text).unwrap(),
        ClientMessage {
            id: "a1".into(),
            body: expected
        }
    );
}

#[test]
fn an_envelope_may_lack_label_data_and_id() {
    let message = read(r#"{"type":"disconnect-bot"}"#).unwrap();
    assert_eq!(
        message,
        ClientMessage {
            id: String::new(),
            body: ClientMessageBody::DisconnectBot
        }
    );
    assert_eq!(read(r#"{"type":"disconnect-bot","id":5}"#).unwrap().id, "5");
}

#[test]
fn every_client_message_is_understood() {
    let custom = ClientMessageBody::Custom {
        t: "get".into(),
        d: json!({"x": 1}),
    };
    assert_eq!(
        body("client-message", json!({"t": "get", "d": {"x": 1}})).unwrap(),
        custom
    );
    let typed = SendText {
        content: "hi".into(),
        run_immediately: false,
        audio_response: true,
    };
    let data = json!({"content": "hi", "options": {"run_immediately": false}});
    assert_eq!(body("send-text", data).unwrap(), ClientMessageBody::SendText(typed));
    assert_eq!(
        body("dtmf", json!({"buttons": ["1", "#"]})).unwrap(),
        ClientMessageBody::Dtmf(vec!['1', '#'])
    );
    let result = FunctionCallResult {
        function_name: "f".into(),
        tool_call_id: "c".into(),
        arguments: json!({}),
        result: json!("ok"),
    };
    let data = json!({"function_name": "f", "tool_call_id": "c", "arguments": {}, "result": "ok"});
    assert_eq!(
        body("llm-function-call-result", data).unwrap(),
        ClientMessageBody::FunctionCallResult(result)
    );
    let audio = ClientMessageBody::RawAudio {
        samples: vec![1],
        sample_rate_hz: 16_000,
    };
    let data = json!({"base64Audio": "AQA=", "sampleRate": 16000, "numChannels": 1});
    assert_eq!(body("raw-audio", data).unwrap(), audio);
    assert_eq!(
        body("future", json!(null)).unwrap(),
        ClientMessageBody::Unknown { kind: "future".into() }
    );
}

#[test]
fn bad_data_names_the_message_to_answer() {
    for (kind, data) in [
        ("client-message", json!({})),
        ("send-text", json!({"content": 5})),
        ("dtmf", json!({"buttons": ["12"]})),
        ("llm-function-call-result", json!(null)),
        (
            "raw-audio",
            json!({"base64Audio": "!", "sampleRate": 16000, "numChannels": 1}),
        ),
        (
            "raw-audio",
            json!({"base64Audio": "AA==", "sampleRate": 16000, "numChannels": 1}),
        ),
        (
            "raw-audio",
            json!({"base64Audio": "AQA=", "sampleRate": 16000, "numChannels": 9}),
        ),
        ("dtmf", json!({"buttons": []})),
        ("dtmf", json!({"buttons": ["x"]})),
    ] {
        let error = body(kind, data).unwrap_err();
        assert_eq!(error.id(), Some("7"), "{kind}");
        assert!(error.to_string().starts_with(&format!("`{kind}`")), "{error}");
    }
}

#[test]
fn what_is_not_rtvi_is_refused() {
    assert!(matches!(read("ping: 5"), Err(RtviError::NotJson(_))));
    assert!(matches!(read("{}"), Err(RtviError::NotJson(_))));
    assert!(matches!(
        read(r#"{"label":"other","type":"client-ready"}"#),
        Err(RtviError::WrongLabel)
    ));
    let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
    assert!(matches!(read(&huge), Err(RtviError::Oversized { .. })));
}

#[test]
fn answers_carry_the_id_of_what_they_answer() {
    let ready = ServerMessage::bot_ready("voxray", "0.1.0").to_json(Some("a1"));
    assert_eq!(
        ready,
        r#"{"label":"rtvi-ai","type":"bot-ready","data":{"version":"2.1.0","about":{"library":"voxray","library_version":"0.1.0"}},"id":"a1"}"#
    );
    let response = ServerMessage::ServerResponse {
        t: "get".into(),
        d: json!({"x": 1}),
    }
    .to_json(Some("b"));
    assert_eq!(
        response,
        r#"{"label":"rtvi-ai","type":"server-response","data":{"t":"get","d":{"x":1}},"id":"b"}"#
    );
    let error = ServerMessage::ErrorResponse { error: "no".into() }.to_json(Some("c"));
    assert_eq!(
        error,
        r#"{"label":"rtvi-ai","type":"error-response","data":{"error":"no"},"id":"c"}"#
    );
    let own = ServerMessage::ServerMessage(json!([1])).to_json(None);
    assert_eq!(own, r#"{"label":"rtvi-ai","type":"server-message","data":[1]}"#);
}

#[test]
fn a_turn_is_told_in_order() {
    let speech = |n| SpeechId(n);
    let (one, two) = ("One.".to_owned(), "Two.".to_owned());
    let told = told(vec![
        Notice::UserStartedSpeaking,
        Notice::UserTranscript {
            text: "hel".into(),
            is_final: false,
        },
        Notice::UserStoppedSpeaking,
        Notice::UserTranscript {
            text: "hello".into(),
            is_final: true,
        },
        Notice::Asked("hello there".into()),
        Notice::ReplyStarted,
        Notice::ReplyText("One. Two.".into()),
        Notice::SpeechQueued {
            speech: speech(1),
            text: one.clone(),
        },
        Notice::SpeechQueued {
            speech: speech(2),
            text: two.clone(),
        },
        Notice::ReplyDone,
        Notice::AgentStartedSpeaking,
        Notice::Speaking {
            speech: speech(1),
            text: one,
        },
        Notice::Speaking {
            speech: speech(2),
            text: two,
        },
        Notice::AgentStoppedSpeaking,
    ]);
    let transcription = |text, is_final| {
        let data = json!({"text": text, "final": is_final, "timestamp": "2026-03-05T10:00:00Z", "user_id": ""});
        message("user-transcription", data)
    };
    assert_eq!(
        told,
        [
            bare("user-started-speaking"),
            transcription("hel", false),
            bare("user-stopped-speaking"),
            transcription("hello", true),
            message("user-llm-text", json!({"text": "hello there"})),
            bare("bot-llm-started"),
            message("bot-llm-text", json!({"text": "One. Two."})),
            bare("bot-tts-started"),
            bot_output(1, "One.", "new", "", "One."),
            bot_output(2, "Two.", "new", "", "Two."),
            bare("bot-llm-stopped"),
            bare("bot-started-speaking"),
            message("bot-tts-text", json!({"text": "One."})),
            bot_output(1, "One.", "in-progress", "", "One."),
            bot_output(1, "One.", "completed", "One.", ""),
            message("bot-tts-text", json!({"text": "Two."})),
            bot_output(2, "Two.", "in-progress", "", "Two."),
            bot_output(2, "Two.", "completed", "Two.", ""),
            bare("bot-tts-stopped"),
            bare("bot-stopped-speaking"),
        ]
    );
}

#[test]
fn progress_is_told_of_the_sentence_being_heard_and_text_alone_has_none() {
    let told = told(vec![
        Notice::Speaking {
            speech: SpeechId(1),
            text: "One two.".into(),
        },
        Notice::Spoken {
            speech: SpeechId(1),
            heard: "One".into(),
        },
        Notice::Spoken {
            speech: SpeechId(7),
            heard: "Late".into(),
        },
        Notice::Written {
            speech: SpeechId(2),
            text: "Shown.".into(),
        },
    ]);
    let shown = json!({"text": "Shown.", "aggregated_by": "sentence", "segment_id": 2, "will_be_spoken": false,
        "spoken_status": "new"});
    assert_eq!(
        told[1..],
        [
            bot_output(1, "One two.", "in-progress", "", "One two."),
            bot_output(1, "One two.", "in-progress", "One", " two."),
            message("bot-output", shown),
        ]
    );
}

#[test]
fn a_call_that_failed_ends_with_a_fatal_error() {
    let narrator = Narrator::default();
    let failed = narrator.end(&EndReason::ProviderFailed("gone".into()));
    let fatal = ServerMessage::Error {
        error: "gone".into(),
        fatal: true,
    };
    assert_eq!(failed, Some(fatal));
    assert_eq!(narrator.end(&EndReason::AgentHungUp), None);
}

#[test]
fn a_sentence_that_was_cut_off_is_never_completed() {
    let told = told(vec![
        Notice::Speaking {
            speech: SpeechId(1),
            text: "One.".into(),
        },
        Notice::Interrupted { heard: "O".into() },
        Notice::AgentStoppedSpeaking,
    ]);
    assert!(told.contains(&bare("bot-interrupted")));
    assert!(
        told.iter()
            .all(|message| message["data"]["spoken_status"] != "completed")
    );
    assert_eq!(told.last(), Some(&bare("bot-stopped-speaking")));
}

#[test]
fn an_answer_that_is_withdrawn_is_cut_off_and_the_next_begins_anew() {
    let queued = |id, text: &str| Notice::SpeechQueued {
        speech: SpeechId(id),
        text: text.to_owned(),
    };

    let told = told(vec![queued(1, "One."), Notice::Withdrawn, queued(2, "Two.")]);

    assert_eq!(
        told,
        [
            bare("bot-tts-started"),
            bot_output(1, "One.", "new", "", "One."),
            bare("bot-interrupted"),
            bare("bot-tts-stopped"),
            bare("bot-tts-started"),
            bot_output(2, "Two.", "new", "", "Two."),
        ]
    );
}

#[test]
fn tools_failures_and_latencies_are_told() {
    let told = told(vec![
        Notice::ToolStarted(ToolCall {
            id: "c1".into(),
            name: "weather".into(),
            arguments: r#"{"city":"Bern"}"#.into(),
        }),
        Notice::ToolRunning { call_id: "c1".into() },
        Notice::ToolDone {
            call_id: "c1".into(),
            content: "sunny".into(),
        },
        Notice::ToolCancelled { call_id: "c2".into() },
        Notice::StageFailed {
            stage: "tts",
            error: "refused".into(),
        },
        Notice::TurnTiming(TurnTiming {
            endpoint: Duration::from_millis(500),
            transcript: Duration::from_millis(500),
            first_token: Duration::from_millis(750),
            first_audio: Duration::from_millis(1000),
        }),
    ]);
    let progress = json!({"tool_call_id": "c1", "function_name": "weather", "arguments": {"city": "Bern"}});
    let stopped = json!({"tool_call_id": "c1", "function_name": "weather", "cancelled": false, "result": "sunny"});
    let cancelled = json!({"tool_call_id": "c2", "cancelled": true});
    let measured = |processor, value| json!({"processor": processor, "value": value});
    assert_eq!(
        told,
        [
            message("llm-function-call-started", json!({"function_name": "weather"})),
            message("llm-function-call-in-progress", progress),
            message("llm-function-call-stopped", stopped),
            message("llm-function-call-stopped", cancelled),
            message("error", json!({"error": "tts: refused", "fatal": false})),
            message(
                "metrics",
                json!({"ttfb": [measured("stt", 0.5), measured("llm", 0.25), measured("tts", 0.25)],
                    "processing": [measured("endpoint", 0.5), measured("turn", 1.0)]})
            ),
        ]
    );
}

/// Any JSON, with the fields that messages have.
fn any_json() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 14] = [
        "label",
        "type",
        "id",
        "data",
        "version",
        "about",
        "t",
        "d",
        "content",
        "options",
        "buttons",
        "arguments",
        "result",
        "base64Audio",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 40, 6, |inner| {
        let key = proptest::sample::select(&FIELDS[..]).prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What clients send, and one that nobody does.
const KINDS: [&str; 8] = [
    "client-ready",
    "disconnect-bot",
    "client-message",
    "send-text",
    "dtmf",
    "llm-function-call-result",
    "raw-audio",
    "made-up",
];

proptest! {
    #[test]
    fn no_message_of_any_kind_makes_the_parser_panic(kind in proptest::sample::select(&KINDS[..]), data in any_json()) {
        let _ = body(kind, data.clone());
        let _ = read(&json!({"label": "rtvi-ai", "type": kind, "id": "1", "data": data}).to_string());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,300}", kind in "[a-z-]{0,20}", data in ".{0,40}") {
        let _ = read(&text);
        let _ = body(&kind, Value::String(data.clone()));
        let _ = body("send-text", json!({"content": data}));
    }

    #[test]
    fn typed_text_survives(id: String, content: String) {
        let text = json!({"type": "send-text", "id": id, "data": {"content": content}}).to_string();
        let message = read(&text).unwrap();
        prop_assert_eq!(message.id, id);
        let expected = SendText { content, run_immediately: true, audio_response: true };
        prop_assert_eq!(message.body, ClientMessageBody::SendText(expected));
    }
}
