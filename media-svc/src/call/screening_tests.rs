//! Who is told from whom on outbound calls: recordings of people through the telephone's codec, a real detector of voice
//! and the real conversation, in virtual time.

use std::time::Duration;

use media_core::Time;
use media_core::audio::beep::BeepDetector;
use media_core::conversation::{AnsweredBy, Conversation, Input, Notice, Output};
use serde_json::{Value, json};
use service_kit::config::{Config, Profile, Sources, load};
use tokio::sync::mpsc;

use super::barge_in_tests::packets;
use super::ear::Ear;
use super::phone::PhoneLine;
use super::{TransportTraits, conversation_settings};

const PACKET: Duration = Duration::from_millis(20);
/// Silence after the last word: longer than a person's pause.
const SILENCE: usize = 100;

const TELEPHONE: TransportTraits = TransportTraits {
    name: "telephony",
    input_rate_hz: 8_000,
    output_rate_hz: 8_000,
    recording_rate_hz: 8_000,
    echoes_marks: true,
    playout_lead: Duration::from_millis(200),
};

fn config() -> Config {
    let flags = [("outbound.voicemail_message", "Dear {{name}}, please call back.")];
    let sources = Sources {
        working_dir: std::env::temp_dir(),
        flags: flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Sources::default()
    };
    load(&sources, Profile::SingleProcess).unwrap().config
}

fn line(config: &Config) -> PhoneLine {
    let carriers = carriers::Carriers::from_config(config).unwrap();
    PhoneLine::new(carriers, "twilio".to_owned(), "CA1".to_owned(), Vec::new())
}

/// The verdict on whoever answers with this recording.
fn verdict(name: &str) -> Option<AnsweredBy> {
    let config = config();
    let body = json!({"direction": "outbound"});
    let settings = conversation_settings(&config, TELEPHONE, &body, Some(&line(&config)));
    let mut conversation = Conversation::new(settings);
    let (stt, _commands) = mpsc::channel(10_000);
    let mut ear = Ear::new(8_000, stt).unwrap();
    let mut beep = BeepDetector::new(8_000);
    conversation.handle_input(Time::ZERO, Input::Connected);
    let mut now = Time::ZERO;
    let silence = std::iter::repeat_n(vec![0; 160], SILENCE);
    for packet in packets(name).into_iter().chain(silence) {
        now += PACKET;
        assert!(!beep.hear(&packet), "{name}: a voice is no beep");
        for frame in ear.hear(&packet) {
            conversation.handle_input(now, Input::Voice(frame));
            while let Some(output) = conversation.poll_output() {
                if let Output::Notice(Notice::AnsweredBy(verdict)) = output {
                    return Some(verdict);
                }
            }
        }
    }
    None
}

#[test]
fn a_few_words_and_a_pause_are_a_person() {
    for name in ["cards-001.wav", "cards-002.wav", "cards-003.wav", "cards-004.wav"] {
        assert_eq!(verdict(name), Some(AnsweredBy::Human), "{name}");
    }
}

#[test]
fn somebody_who_talks_on_is_a_machine() {
    for name in [
        "austen-0870.wav",
        "austen-0890.wav",
        "austen-0920.wav",
        "austen-0930.wav",
        "cards-005.wav",
    ] {
        assert_eq!(verdict(name), Some(AnsweredBy::Machine), "{name}");
    }
}

#[test]
fn only_calls_that_were_placed_are_screened_and_only_when_that_is_wanted() {
    let config = config();
    let screening = |body: Value, phone: bool| {
        let line = phone.then(|| line(&config));
        conversation_settings(&config, TELEPHONE, &body, line.as_ref()).screening
    };
    let placed = screening(json!({"direction": "outbound", "name": "Ada"}), true).unwrap();
    assert_eq!(placed.voicemail_message.as_deref(), Some("Dear Ada, please call back."));
    assert!(screening(json!({"direction": "outbound", "machineDetection": false}), true).is_none());
    assert!(screening(json!({}), true).is_none());
    assert!(screening(json!({"direction": "outbound"}), false).is_none());
}
