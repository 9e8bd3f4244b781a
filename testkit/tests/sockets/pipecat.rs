//! pipecat-ai's own serializers and ours, fed with the same messages and the same audio, say the same.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use media_core::audio::pcm;
use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Codec, Event, Inbound, Message, Outbound, Provider, Start};
use serde_json::{Value, json};
use voxray_testkit::servers::tools::{tools_folder, workspace_root};

use crate::support::stream_start;

const KEYS: &str = "0123456789*#";

fn theirs(cases: &Value) -> Value {
    let script = workspace_root().join("testkit/pipecat/serializers.py");
    let mut python = Command::new("python3")
        .arg(script)
        .arg(tools_folder().join("lib"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(cases.to_string().as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "run `make tools`, and see the lines above");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(message: Message) -> String {
    match message {
        Message::Text(text) => text,
        Message::Binary(_) => panic!("these four speak JSON"),
    }
}

/// Every value that the coding has, so that rounding plays no part.
fn every_value(codec: Codec) -> Vec<i16> {
    let bytes: Vec<u8> = match codec {
        Codec::Ulaw | Codec::Alaw => (0..=255).collect(),
        Codec::L16 => (0..=u16::MAX).step_by(13).flat_map(u16::to_le_bytes).collect(),
    };
    codec.decode(&bytes).unwrap()
}

fn ours(start: &Start, messages: &[String], samples: &[i16]) -> Value {
    let mut stream = Inbound::new(Some(start.provider));
    let heard: Vec<Value> = messages
        .iter()
        .map(|message| {
            match stream
                .read(media_core::wire::telephony::Frame::Text(message))
                .unwrap()
                .event
            {
                Event::Media(samples) => json!({"audio": BASE64.encode(pcm::to_s16le(&samples))}),
                Event::Dtmf(key) => json!({"key": key.to_string()}),
                _ => Value::Null,
            }
        })
        .collect();
    let (mut outbound, mut out) = (Outbound::new(start), Vec::new());
    outbound.audio(samples, &mut out);
    outbound.flush(&mut out);
    outbound.clear(&mut out);
    let sent: Vec<Value> = out
        .into_iter()
        .map(|message| serde_json::from_str(&text(message)).unwrap())
        .collect();
    json!({"heard": heard, "sent": sent})
}

#[test]
fn the_four_providers_that_both_know_are_read_and_written_alike() {
    let starts = [
        (Provider::Twilio, Codec::Ulaw),
        (Provider::Telnyx, Codec::Ulaw),
        (Provider::Telnyx, Codec::Alaw),
        (Provider::Plivo, Codec::Ulaw),
        (Provider::Exotel, Codec::L16),
    ]
    .map(|(provider, codec)| {
        let mut start = stream_start(provider, "call-1");
        start.format.codec = codec;
        start
    });
    let mut cases = Vec::new();
    let mut expected = Vec::new();
    for start in &starts {
        let mut far_end = FarEnd::new(start.clone());
        let samples = every_value(start.format.codec);
        // A whole message of Exotel's, so that nothing is filled up.
        let spoken: Vec<i16> = samples.iter().copied().cycle().take(800).collect();
        let mut messages: Vec<String> = far_end.opening().into_iter().map(text).collect();
        messages.push(text(far_end.media(0, &samples)));
        messages.extend(KEYS.chars().map(|key| text(far_end.dtmf(key))));
        messages.extend(far_end.played("m1").map(text));
        messages.extend(far_end.stop().map(text));
        cases.push(json!({
            "provider": start.provider.name(),
            "codec": if start.format.codec == Codec::Alaw { "PCMA" } else { "PCMU" },
            "stream": start.stream_id,
            "call": start.call_id,
            "messages": messages,
            "pcm": BASE64.encode(pcm::to_s16le(&spoken)),
        }));
        expected.push(ours(start, &messages, &spoken));
    }

    let answers = theirs(&Value::from(cases));

    for ((start, theirs), ours) in starts.iter().zip(answers.as_array().unwrap()).zip(expected) {
        assert_eq!(*theirs, ours, "{:?} {:?}", start.provider, start.format.codec);
    }
}
