use proptest::prelude::*;

use super::far_end::{FarEnd, FromServer};
use super::*;

// The examples of Twilio's documentation, with made-up identifiers.
const CONNECTED: &str = r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#;
const START: &str = r#"{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1",
    "tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},
    "customParameters":{"FirstName":"Jane","Age":7}},"streamSid":"MZ1"}"#;
const MEDIA: &str = r#"{"event":"media","sequenceNumber":"3","media":{"track":"inbound","chunk":"1","timestamp":"5","payload":"/38A"},"streamSid":"MZ1"}"#;
const DTMF: &str =
    r#"{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"1"}}"#;
const MARK: &str = r#"{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"my label"}}"#;
const STOP: &str =
    r#"{"event":"stop","sequenceNumber":"5","stop":{"accountSid":"AC1","callSid":"CA1"},"streamSid":"MZ1"}"#;

fn started() -> TwilioStream {
    let mut stream = TwilioStream::new();
    stream.read(START).unwrap();
    stream
}

#[test]
fn the_documented_messages_are_understood_in_order() {
    let mut stream = TwilioStream::new();
    let events: Vec<_> = [CONNECTED, START, MEDIA, DTMF, MARK, STOP]
        .iter()
        .map(|text| stream.read(text).unwrap())
        .collect();
    let start = StreamStart {
        stream_sid: "MZ1".into(),
        call_sid: "CA1".into(),
        account_sid: Some("AC1".into()),
        custom_parameters: [("FirstName".into(), "Jane".into()), ("Age".into(), "7".into())].into(),
    };
    let media = MediaFrame {
        chunk: Some(1),
        timestamp_ms: Some(5),
        samples: vec![0, 0, -32124],
    };
    assert_eq!(
        events,
        [
            TwilioEvent::Connected,
            TwilioEvent::Start(start),
            TwilioEvent::Media(media),
            TwilioEvent::Dtmf('1'),
            TwilioEvent::Mark("my label".into()),
            TwilioEvent::Stop,
        ]
    );
}

#[test]
fn an_emulator_that_leaves_out_everything_optional_is_understood() {
    let mut stream = TwilioStream::new();
    let start = stream
        .read(r#"{"event":"start","streamSid":"MZ9","start":{"callSid":"CA9"}}"#)
        .unwrap();
    let TwilioEvent::Start(start) = start else {
        panic!("{start:?}")
    };
    assert_eq!(
        (start.stream_sid.as_str(), start.call_sid.as_str(), start.account_sid),
        ("MZ9", "CA9", None)
    );
    let media = stream
        .read(r#"{"event":"media","media":{"payload":"\/w==","chunk":2,"timestamp":null}}"#)
        .unwrap();
    let expected = MediaFrame {
        chunk: Some(2),
        timestamp_ms: None,
        samples: vec![0],
    };
    assert_eq!(media, TwilioEvent::Media(expected));
}

#[test]
fn the_order_of_messages_is_judged() {
    let mut stream = TwilioStream::new();
    for (text, name) in [(MEDIA, "media"), (DTMF, "dtmf"), (MARK, "mark")] {
        assert!(matches!(stream.read(text), Err(TwilioError::BeforeStart { event }) if event == name));
    }
    stream.read(START).unwrap();
    assert!(stream.is_streaming());
    assert!(matches!(stream.read(START), Err(TwilioError::SecondStart)));
    assert!(stream.is_streaming(), "an error changes nothing");
    stream.read(STOP).unwrap();
    assert!(!stream.is_streaming());
    assert_eq!(stream.read(MEDIA).unwrap(), TwilioEvent::Ignored);
    assert!(matches!(stream.read(START), Err(TwilioError::SecondStart)));
}

#[test]
fn unknown_events_and_our_own_audio_are_ignored() {
    let mut stream = started();
    assert_eq!(
        stream.read(r#"{"event":"weather","rain":true}"#).unwrap(),
        TwilioEvent::Ignored
    );
    let outbound = MEDIA.replace("inbound", "outbound");
    assert_eq!(stream.read(&outbound).unwrap(), TwilioEvent::Ignored);
}

#[test]
fn every_kind_of_bad_message_has_its_error() {
    let mut stream = started();
    for junk in [
        "",
        "hello",
        "[]",
        "{}",
        "null",
        r#"{"event":7}"#,
        r#"{"event":"media","media":{"payload":3}}"#,
    ] {
        assert!(matches!(stream.read(junk), Err(TwilioError::NotJson(_))), "{junk}");
    }
    assert!(matches!(
        stream.read(r#"{"event":"media"}"#),
        Err(TwilioError::Missing {
            event: "media",
            part: "media"
        })
    ));
    assert!(matches!(
        stream.read(r#"{"event":"media","media":{"payload":"*"}}"#),
        Err(TwilioError::NotBase64(_))
    ));
    assert!(matches!(
        stream.read(r#"{"event":"dtmf","dtmf":{"digit":"77"}}"#),
        Err(TwilioError::NotAKey)
    ));
    let huge = format!("{{\"event\":\"{}\"}}", "x".repeat(MAX_MESSAGE_BYTES));
    assert!(matches!(stream.read(&huge), Err(TwilioError::Oversized { bytes }) if bytes > MAX_MESSAGE_BYTES));
}

#[test]
fn a_start_needs_its_ids_and_mu_law() {
    let read = |text: &str| TwilioStream::new().read(text);
    assert!(matches!(
        read(r#"{"event":"start"}"#),
        Err(TwilioError::Missing { part: "start", .. })
    ));
    let no_stream = r#"{"event":"start","start":{"callSid":"CA1"}}"#;
    assert!(matches!(
        read(no_stream),
        Err(TwilioError::Missing { part: "streamSid", .. })
    ));
    let no_call = r#"{"event":"start","start":{"streamSid":"MZ1"}}"#;
    assert!(matches!(
        read(no_call),
        Err(TwilioError::Missing { part: "callSid", .. })
    ));
    let wrong = START.replace("8000", "16000");
    assert!(matches!(
        read(&wrong),
        Err(TwilioError::WrongFormat {
            sample_rate: 16_000,
            ..
        })
    ));
}

#[test]
fn what_is_sent_is_the_documented_json() {
    assert_eq!(
        media_message("MZ1", &[0xFF, 0x7F, 0x00]),
        r#"{"event":"media","streamSid":"MZ1","media":{"payload":"/38A"}}"#
    );
    assert_eq!(
        mark_message("MZ1", "m\"1"),
        r#"{"event":"mark","streamSid":"MZ1","mark":{"name":"m\"1"}}"#
    );
    assert_eq!(clear_message("MZ1"), r#"{"event":"clear","streamSid":"MZ1"}"#);
}

#[test]
fn a_simulated_far_end_is_understood() {
    let start = StreamStart {
        stream_sid: "MZ\"1".into(),
        call_sid: "CA1".into(),
        account_sid: Some("AC1".into()),
        custom_parameters: [("token".into(), "abc".into())].into(),
    };
    let mut far_end = FarEnd::new(start.clone());
    let mut stream = TwilioStream::new();
    let mut read = |text: String| stream.read(&text).unwrap();
    assert_eq!(read(far_end::connected()), TwilioEvent::Connected);
    assert_eq!(read(far_end.start()), TwilioEvent::Start(start));
    let frame = |chunk, timestamp_ms| {
        TwilioEvent::Media(MediaFrame {
            chunk: Some(chunk),
            timestamp_ms: Some(timestamp_ms),
            samples: vec![0, 32124],
        })
    };
    assert_eq!(read(far_end.media(0, &[0xFF, 0x80])), frame(1, 0));
    assert_eq!(read(far_end.media(20, &[0xFF, 0x80])), frame(2, 20));
    assert_eq!(read(far_end.dtmf('#')), TwilioEvent::Dtmf('#'));
    assert_eq!(read(far_end.mark("a\nb")), TwilioEvent::Mark("a\nb".into()));
    assert_eq!(read(far_end.stop()), TwilioEvent::Stop);
}

#[test]
fn a_simulated_far_end_understands_the_server() {
    assert_eq!(
        far_end::read(&media_message("MZ1", &[0xFF]), "MZ1").unwrap(),
        FromServer::Media(vec![0])
    );
    assert_eq!(
        far_end::read(&mark_message("MZ1", "ü\\"), "MZ1").unwrap(),
        FromServer::Mark("ü\\".into())
    );
    assert_eq!(far_end::read(&clear_message("MZ1"), "MZ1").unwrap(), FromServer::Clear);
    assert_eq!(
        far_end::read(r#"{"event":"other","streamSid":"MZ1"}"#, "MZ1").unwrap(),
        FromServer::Ignored
    );
    for other in [clear_message("MZ2"), r#"{"event":"clear"}"#.to_owned()] {
        assert!(matches!(far_end::read(&other, "MZ1"), Err(TwilioError::WrongStream)));
    }
    assert!(matches!(far_end::read("x", "MZ1"), Err(TwilioError::NotJson(_))));
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,300}") {
        let _ = started().read(&text);
        let _ = far_end::read(&text, "MZ1");
    }

    #[test]
    fn no_damaged_message_makes_a_parser_panic(
        which in 0..6_usize, at in 0..400_usize, with in any::<char>(), cut in any::<bool>(),
    ) {
        let mut text: Vec<char> = [CONNECTED, START, MEDIA, DTMF, MARK, STOP][which].chars().collect();
        let at = at % text.len();
        text[at] = with;
        if cut {
            text.truncate(at);
        }
        let text: String = text.into_iter().collect();
        let _ = started().read(&text);
        let _ = TwilioStream::new().read(&text);
        let _ = far_end::read(&text, "MZ1");
    }

    #[test]
    fn audio_and_names_survive_both_ways(ulaw: Vec<u8>, name: String, sid: String) {
        let samples = g711::decode_ulaw(&ulaw);
        prop_assert_eq!(far_end::read(&media_message(&sid, &ulaw), &sid).unwrap(), FromServer::Media(samples.clone()));
        prop_assert_eq!(far_end::read(&mark_message(&sid, &name), &sid).unwrap(), FromServer::Mark(name));
        let start = StreamStart { stream_sid: sid, ..StreamStart::default() };
        let media = started().read(&FarEnd::new(start).media(0, &ulaw)).unwrap();
        let frame = MediaFrame { chunk: Some(1), timestamp_ms: Some(0), samples };
        prop_assert_eq!(media, TwilioEvent::Media(frame));
    }
}
