//! How soon real voices stop the agent: recordings of people through the telephone's codec, the real voice activity
//! detector and the real conversation, in virtual time.

use std::path::Path;
use std::time::Duration;

use media_core::Time;
use media_core::audio::g711;
use media_core::audio::resample::Resampler;
use media_core::conversation::{Conversation, Input, Output, SpeechId, TtsEvent};
use serde_json::Value;
use service_kit::config::{Config, Profile, Sources, load};
use tokio::sync::mpsc;

use super::ear::Ear;
use super::{TransportTraits, conversation_settings};

const PACKET: Duration = Duration::from_millis(20);
const PACKET_SAMPLES: usize = 160;
/// Quiet on the line before the caller speaks, while the agent does.
const LEAD_IN: usize = 100;
/// 20 ms of speech are louder than this (about −36 dBFS): the recordings have room noise below it.
const SPEECH_RMS: f32 = 0.016;

fn config() -> Config {
    let sources = Sources {
        working_dir: std::env::temp_dir(),
        ..Sources::default()
    };
    load(&sources, Profile::SingleProcess).unwrap().config
}

/// A recording as it arrives over the telephone, in packets.
pub(super) fn packets(name: &str) -> Vec<Vec<i16>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/speech")
        .join(name);
    let wav: Vec<i16> = hound::WavReader::open(path)
        .unwrap()
        .samples::<i16>()
        .map(Result::unwrap)
        .collect();
    let mut resampler = Resampler::new(16_000, 8_000).unwrap();
    let mut narrow = vec![0; LEAD_IN * PACKET_SAMPLES];
    narrow.extend(resampler.process(&wav));
    let heard = g711::decode_ulaw(&g711::encode_ulaw(&narrow));
    heard.chunks_exact(PACKET_SAMPLES).map(<[i16]>::to_vec).collect()
}

/// Answers every piece of text with long speech; says whether playback was cleared.
fn perform(conversation: &mut Conversation, ear: &mut Ear, now: Time) -> bool {
    let mut cleared = false;
    while let Some(output) = conversation.poll_output() {
        match output {
            Output::Speak { speech, .. } => speak(conversation, speech, now),
            Output::BeginUtterance { utterance, pre_roll } => ear.begin(utterance, pre_roll).unwrap(),
            Output::ClearPlayback { .. } => cleared = true,
            _ => {}
        }
    }
    cleared
}

fn speak(conversation: &mut Conversation, speech: SpeechId, now: Time) {
    conversation.handle_input(now, Input::Tts(speech, TtsEvent::Audio(vec![3_000; 8_000 * 60])));
    conversation.handle_input(now, Input::Tts(speech, TtsEvent::Done));
}

/// Milliseconds from the arrival of the first packet with speech to the stop of the agent.
fn reaction_ms(name: &str) -> u128 {
    let transport = TransportTraits {
        name: "telephony",
        input_rate_hz: 8_000,
        output_rate_hz: 8_000,
        recording_rate_hz: 8_000,
        echoes_marks: true,
        playout_lead: Duration::from_millis(200),
    };
    let mut conversation = Conversation::new(conversation_settings(&config(), transport, &Value::Null, None));
    let (stt, _commands) = mpsc::channel(10_000);
    let mut ear = Ear::new(8_000, stt).unwrap();
    conversation.handle_input(Time::ZERO, Input::Connected);
    perform(&mut conversation, &mut ear, Time::ZERO);

    let mut now = Time::ZERO;
    let mut speech_since = None;
    for (index, packet) in packets(name).into_iter().enumerate() {
        now += PACKET;
        conversation.handle_input(now, Input::Tick);
        assert!(!perform(&mut conversation, &mut ear, now), "{name}: nobody speaks yet");
        if index >= LEAD_IN && media_core::audio::level::rms(&packet) > SPEECH_RMS {
            speech_since.get_or_insert(now);
        }
        for frame in ear.hear(&packet) {
            conversation.handle_input(now, Input::Voice(frame));
            if perform(&mut conversation, &mut ear, now) {
                return (now - speech_since.unwrap_or(now)).as_millis();
            }
        }
    }
    panic!("{name} did not interrupt the agent");
}

#[test]
fn a_person_who_speaks_stops_the_agent_within_100_ms() {
    for name in [
        "austen-0870.wav",
        "austen-0880.wav",
        "austen-0890.wav",
        "austen-0920.wav",
        "austen-0930.wav",
    ] {
        let reaction = reaction_ms(name);
        println!("{name}: agent stopped {reaction} ms after speech arrived");
        assert!(reaction <= 100, "{name}: {reaction} ms");
    }
}
