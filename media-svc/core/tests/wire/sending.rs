//! What is sent is what the documentation shows.

use media_core::wire::telephony::{Answer, Channels, Goodbye, Message, Outbound, Provider};
use serde_json::Value;

use crate::fixtures::{message, root, start};

fn json(message: &Message) -> Value {
    match message {
        Message::Text(text) => serde_json::from_str(text).unwrap(),
        Message::Binary(bytes) => Value::from(bytes.clone()),
    }
}

/// All that one call sends.
fn sent(folder: &str, send: impl FnOnce(&mut Outbound, &mut Vec<Message>)) -> Vec<Message> {
    let mut out = Vec::new();
    send(&mut Outbound::new(&start(folder)), &mut out);
    out
}

#[test]
fn audio_marks_and_clears_are_the_documented_messages() {
    let folders = [
        "twilio",
        "telnyx",
        "telnyx-pcma",
        "plivo",
        "plivo-l16",
        "exotel",
        "vonage",
        "genesys",
        "genesys-stereo",
    ];
    for folder in folders {
        let file = |name: &str| root().join(folder).join(name);
        let documented = |name: &str| {
            let path = ["json", "bin"]
                .map(|kind| file(&format!("{name}.{kind}")))
                .into_iter()
                .find(|path| path.exists());
            path.map(|path| json(&message(&path)))
        };
        let mut audio = sent(folder, |stream, out| {
            stream.audio(&[0], out);
            stream.flush(out);
        });
        if folder == "exotel" {
            // Silence fills the message up to 100 ms; the first sample is the documented one.
            let Message::Text(text) = &audio[0] else { panic!() };
            let padded = json(&audio[0])["media"]["payload"].as_str().unwrap().to_owned();
            assert_eq!(padded.len(), 1_600_usize.div_ceil(3) * 4);
            audio[0] = Message::Text(text.replace(&padded, "AAA="));
        }
        assert_eq!(Some(json(&audio[0])), documented("out-audio"), "{folder}");
        let mark = sent(folder, |stream, out| stream.mark("m1", out));
        assert_eq!(mark.first().map(json), documented("out-mark"), "{folder}");
        let clear = sent(folder, |stream, out| stream.clear(out));
        assert_eq!(clear.first().map(json), documented("out-clear"), "{folder}");
    }
}

#[test]
fn audio_goes_out_in_messages_of_the_providers_length() {
    for (folder, frames_in_message, bytes) in [
        ("twilio", 1, None),
        ("telnyx", 1, None),
        ("plivo", 1, None),
        ("exotel", 5, None),
        ("vonage", 1, Some(640)),
        ("genesys", 10, Some(1_600)),
    ] {
        let start = start(folder);
        let frame = vec![100; start.format.samples(20)];
        let mut stream = Outbound::new(&start);
        let mut out = Vec::new();
        for _ in 0..20 {
            stream.audio(&frame, &mut out);
        }
        assert_eq!(out.len(), 20 / frames_in_message, "{folder}");
        for message in &out {
            if let (Some(bytes), Message::Binary(sent)) = (bytes, message) {
                assert_eq!(sent.len(), bytes, "{folder}");
            }
        }
        assert!(!stream.is_holding());
    }
}

#[test]
fn a_mark_never_overtakes_audio_that_waits_for_a_whole_message() {
    let start = start("exotel");
    let frame = vec![100; start.format.samples(20)];
    let (mut stream, mut out) = (Outbound::new(&start), Vec::new());
    stream.audio(&frame, &mut out);
    stream.mark("m1", &mut out);
    assert_eq!(out, []);
    for _ in 0..4 {
        stream.audio(&frame, &mut out);
    }
    let events: Vec<String> = out
        .iter()
        .map(|message| json(message)["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(events, ["media", "mark"]);
    stream.audio(&frame, &mut out);
    stream.mark("m2", &mut out);
    assert!(stream.is_holding());
    stream.flush(&mut out);
    assert_eq!((out.len(), stream.is_holding()), (4, false));
}

#[test]
fn a_clear_forgets_what_was_held() {
    let start = start("exotel");
    let (mut stream, mut out) = (Outbound::new(&start), Vec::new());
    stream.audio(&vec![100; start.format.samples(40)], &mut out);
    stream.mark("m1", &mut out);
    stream.clear(&mut out);
    stream.flush(&mut out);
    assert_eq!(out.len(), 1);
    assert_eq!(json(&out[0])["event"], "clear");
}

#[test]
fn genesys_gets_numbered_answers_and_is_asked_to_close() {
    let (mut stream, mut out) = (Outbound::new(&start("genesys")), Vec::new());
    let channels = Channels::Caller;
    stream.answer(
        Answer::Opened {
            client_seq: 1,
            channels,
        },
        &mut out,
    );
    stream.answer(Answer::Pong { client_seq: 2 }, &mut out);
    assert!(stream.goodbye(Goodbye::Completed, &mut out), "Genesys closes");
    stream.answer(Answer::Closed { client_seq: 3 }, &mut out);
    let told: Vec<(String, u64, u64)> = out
        .iter()
        .map(json)
        .map(|message| {
            assert_eq!(
                (&message["version"], &message["id"]),
                (&"2".into(), &"e160e428-53e2-487c-977d-96989bf5c99d".into())
            );
            let number = |name: &str| message[name].as_u64().unwrap();
            (
                message["type"].as_str().unwrap().to_owned(),
                number("seq"),
                number("clientseq"),
            )
        })
        .collect();
    let told: Vec<(&str, u64, u64)> = told
        .iter()
        .map(|(kind, seq, client)| (kind.as_str(), *seq, *client))
        .collect();
    assert_eq!(
        told,
        [("opened", 1, 1), ("pong", 2, 2), ("disconnect", 3, 2), ("closed", 4, 3)]
    );
    let media = &json(&out[0])["parameters"]["media"];
    assert_eq!(media[0]["channels"], serde_json::json!(["external"]));
    assert_eq!(json(&out[2])["parameters"]["reason"], "completed");
}

#[test]
fn only_genesys_has_a_word_for_goodbye() {
    for folder in ["twilio", "telnyx", "plivo", "exotel", "vonage"] {
        let mut out = Vec::new();
        let start = start(folder);
        assert!(!Outbound::new(&start).goodbye(Goodbye::Completed, &mut out), "{folder}");
        assert_eq!((out.len(), start.provider != Provider::Genesys), (0, true));
    }
}
