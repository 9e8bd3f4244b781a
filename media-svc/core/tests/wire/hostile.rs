//! Whatever comes, it is answered with a value or a typed error, and changes nothing.

use media_core::wire::telephony::{Event, Frame, Inbound, MAX_MESSAGE_BYTES, Message, WireError};

use crate::fixtures::inbound;

/// A stream of this folder that has begun.
fn begun(folder: &str) -> Inbound {
    let mut stream = Inbound::new(None);
    for message in inbound(folder) {
        if let Event::Start(_) = stream.read(message.as_frame()).unwrap().event {
            break;
        }
    }
    assert!(stream.is_streaming());
    stream
}

const PROVIDERS: [&str; 6] = ["twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"];

#[test]
fn nothing_of_a_stream_may_come_before_its_start() {
    for folder in PROVIDERS {
        for message in inbound(folder) {
            let mut stream = Inbound::new(None);
            match stream.read(message.as_frame()) {
                Ok(read) => assert!(
                    matches!(
                        read.event,
                        Event::Connected | Event::Start(_) | Event::Stop | Event::Ignored
                    ),
                    "{folder}: {read:?}"
                ),
                Err(error) => assert!(matches!(error, WireError::BeforeStart { .. }), "{folder}: {error}"),
            }
        }
    }
    assert!(matches!(
        Inbound::new(None).read(Frame::Binary(&[0; 640])),
        Err(WireError::BeforeStart { .. })
    ));
}

#[test]
fn a_stream_starts_once() {
    for folder in PROVIDERS {
        let mut stream = begun(folder);
        for message in inbound(folder) {
            if let Err(error) = stream.read(message.as_frame()) {
                // Genesys' numbers are used up as well.
                assert!(
                    matches!(error, WireError::SecondStart | WireError::OutOfSequence { .. }),
                    "{folder}: {error}"
                );
            }
        }
    }
}

#[test]
fn an_error_changes_nothing() {
    for folder in PROVIDERS {
        let mut stream = begun(folder);
        for junk in ["", "hello", "[]", "null", "7", r#"{"event":7}"#, r#"{"type":[]}"#] {
            assert!(
                matches!(stream.read(Frame::Text(junk)), Err(WireError::NotJson(_))),
                "{folder}: {junk}"
            );
        }
        let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
        assert!(matches!(
            stream.read(Frame::Text(&huge)),
            Err(WireError::Oversized { .. })
        ));
        assert!(stream.is_streaming(), "{folder}");
        let rest = inbound(folder).into_iter().filter(|message| {
            let first = message.as_frame();
            !matches!(first, Frame::Text(text) if text.contains("\"start\"") || text.contains("\"open\"") || text.contains("websocket:connected"))
        });
        for message in rest {
            stream.read(message.as_frame()).unwrap();
        }
    }
}

#[test]
fn bad_audio_has_its_error() {
    for folder in ["twilio", "telnyx", "plivo", "exotel"] {
        let mut stream = begun(folder);
        let not_base64 = r#"{"event":"media","media":{"payload":"!!"}}"#;
        assert!(
            matches!(stream.read(Frame::Text(not_base64)), Err(WireError::NotBase64(_))),
            "{folder}"
        );
        assert!(matches!(
            stream.read(Frame::Text(r#"{"event":"media"}"#)),
            Err(WireError::Missing { event: "media", .. })
        ));
        assert!(
            matches!(stream.read(Frame::Binary(&[0; 160])), Err(WireError::Binary)),
            "{folder}"
        );
    }
    let odd = r#"{"event":"media","media":{"payload":"AAAA"}}"#;
    assert!(matches!(
        begun("exotel").read(Frame::Text(odd)),
        Err(WireError::OddLength { bytes: 3 })
    ));
    assert!(matches!(
        begun("vonage").read(Frame::Binary(&[0; 639])),
        Err(WireError::OddLength { bytes: 639 })
    ));
    assert!(matches!(
        begun("genesys-stereo").read(Frame::Binary(&[0; 3])),
        Err(WireError::OddLength { bytes: 3 })
    ));
}

#[test]
fn keys_that_no_telephone_has_are_refused() {
    for (folder, message) in [
        ("twilio", r#"{"event":"dtmf","dtmf":{"digit":"77"}}"#),
        ("telnyx", r#"{"event":"dtmf","dtmf":{"digit":"x"}}"#),
        ("plivo", r#"{"event":"dtmf","dtmf":{"digit":""}}"#),
        ("exotel", r#"{"event":"dtmf","dtmf":{"digit":"é"}}"#),
        ("vonage", r#"{"event":"websocket:dtmf","digit":"E"}"#),
        ("genesys", r#"{"type":"dtmf","seq":2,"parameters":{"digit":"!"}}"#),
    ] {
        let mut stream = begun(folder);
        assert!(
            matches!(stream.read(Frame::Text(message)), Err(WireError::NotAKey)),
            "{folder}"
        );
    }
}

#[test]
fn audio_that_cannot_be_carried_is_refused_by_name() {
    for (folder, from, to) in [
        ("twilio", "8000", "16000"),
        ("telnyx", "PCMU", "G722"),
        ("plivo", "audio/x-mulaw", "audio/x-opus"),
        ("exotel", "\"8000\"", "\"44100\""),
        ("vonage", "rate=16000", "rate=44100"),
        ("genesys", "PCMU", "L24"),
    ] {
        let starting = inbound(folder).into_iter().find_map(|message| match message {
            Message::Text(text) if text.contains(from) => Some(text),
            Message::Text(_) | Message::Binary(_) => None,
        });
        let changed = starting.unwrap().replace(from, to);
        let refused = Inbound::new(None).read(Frame::Text(&changed)).unwrap_err();
        assert!(matches!(refused, WireError::WrongFormat { .. }), "{folder}: {refused}");
        assert!(refused.to_string().contains("expected"), "{folder}");
    }
}

#[test]
fn numbers_that_were_used_before_are_refused_or_unheard() {
    let mut stream = begun("genesys");
    let ping = r#"{"type":"ping","seq":5,"parameters":{}}"#;
    stream.read(Frame::Text(ping)).unwrap();
    assert!(matches!(
        stream.read(Frame::Text(ping)),
        Err(WireError::OutOfSequence { seq: 5, last: 5 })
    ));
    let media = |chunk: u64| format!(r#"{{"event":"media","media":{{"chunk":"{chunk}","payload":"/w=="}}}}"#);
    for folder in ["twilio", "plivo"] {
        let mut stream = begun(folder);
        let mut read = |chunk| stream.read(Frame::Text(&media(chunk))).unwrap().event;
        let heard = [read(1), read(3), read(3), read(2), read(4)];
        let one = || Event::Media(vec![0]);
        assert_eq!(heard, [one(), one(), Event::Late, Event::Late, one()], "{folder}");
    }
    let mut telnyx = begun("telnyx");
    let mut read = |chunk| telnyx.read(Frame::Text(&media(chunk))).unwrap().event;
    let heard = [read(1), read(3), read(3), read(2), read(4)];
    let expected = [
        Event::Media(vec![0]),
        Event::Held,
        Event::Late,
        Event::Media(vec![0, 0]),
        Event::Media(vec![0]),
    ];
    assert_eq!(heard, expected, "Telnyx' messages may overtake each other");
}
