//! The documented messages mean what the documentation says.

use media_core::wire::telephony::{Answer, Channels, Codec, Event, Inbound, MediaFormat, Provider, Start, WireError};

use crate::fixtures::{inbound, read, start};

fn events(folder: &str) -> Vec<Event> {
    read(folder).into_iter().map(|read| read.event).collect()
}

fn begun(provider: Provider, codec: Codec, rate_hz: u32, ids: [&str; 2], parameters: &[(&str, &str)]) -> Start {
    Start {
        provider,
        stream_id: ids[0].to_owned(),
        call_id: ids[1].to_owned(),
        account_id: None,
        parameters: parameters
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        format: MediaFormat { codec, rate_hz },
        channels: Channels::Caller,
    }
}

fn account(start: Start, id: &str) -> Event {
    Event::Start(Start {
        account_id: Some(id.to_owned()),
        ..start
    })
}

/// µ-law FF 7F 00.
fn three_samples() -> Event {
    Event::Media(vec![0, 0, -32_124])
}

#[test]
fn twilio_is_understood() {
    let ids = [
        "MZXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
        "CAXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    ];
    let parameters = [("FirstName", "Jane"), ("LastName", "Doe"), ("RemoteParty", "Bob")];
    let start = begun(Provider::Twilio, Codec::Ulaw, 8_000, ids, &parameters);
    assert_eq!(
        events("twilio"),
        [
            Event::Connected,
            account(start, "ACXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"),
            three_samples(),
            Event::Ignored,
            Event::Dtmf('1'),
            Event::Mark("m1".to_owned()),
            Event::Stop,
        ]
    );
}

#[test]
fn telnyx_is_understood_in_both_laws() {
    let ids = [
        "32DE0DEA-53CB-4B21-89A4-9E1819C043BC",
        "v2:T02llQxIyaRkhfRKxgAP8nY511EhFLizdvdUKJiSw8d6A9BborherQ",
    ];
    let user = "3E6F995F-85F7-4705-9741-53B116D28237";
    let start = |codec, parameters| begun(Provider::Telnyx, codec, 8_000, ids, parameters);
    let heard = events("telnyx");
    assert_eq!(
        heard[..5],
        [
            Event::Connected,
            account(start(Codec::Ulaw, &[("customer_id", "customer_123")]), user),
            three_samples(),
            Event::Dtmf('1'),
            Event::Mark("m1".to_owned()),
        ]
    );
    assert!(matches!(&heard[5], Event::Trouble(said) if said.contains("malformed_frame")));
    assert_eq!(heard[6], Event::Stop);
    // A-law D5 55 2A: the smallest positive and negative values, and the largest negative one.
    assert_eq!(
        events("telnyx-pcma"),
        [
            account(start(Codec::Alaw, &[]), user),
            Event::Media(vec![8, -8, -32_256])
        ]
    );
}

#[test]
fn plivo_is_understood_in_both_codings() {
    let ids = [
        "87654321-4321-4321-4321-cba987654321",
        "12345678-1234-1234-1234-123456789abc",
    ];
    let start = |codec, rate_hz, parameters| {
        account(
            begun(Provider::Plivo, codec, rate_hz, ids, parameters),
            "MAXXXXXXXXXXXXXXXXXX",
        )
    };
    assert_eq!(
        events("plivo"),
        [
            start(Codec::Ulaw, 8_000, &[("userId", "12345"), ("sessionId", "abc-xyz")]),
            three_samples(),
            Event::Dtmf('5'),
            Event::Mark("m1".to_owned()),
            Event::Ignored,
        ]
    );
    assert_eq!(
        events("plivo-l16"),
        [start(Codec::L16, 16_000, &[]), Event::Media(vec![1, -2])]
    );
}

#[test]
fn exotel_is_understood() {
    let ids = ["MZxxxxxxxxxxxxxxxxxxxxxxxx", "CAxxxxxxxxxxxxxxxxxxxxxxxx"];
    let start = begun(Provider::Exotel, Codec::L16, 8_000, ids, &[("key1", "value1")]);
    assert_eq!(
        events("exotel"),
        [
            Event::Connected,
            account(start, "ACxxxxxxxxxxxxxxxxxxxxxxxx"),
            Event::Media(vec![1, -2, i16::MIN]),
            Event::Dtmf('5'),
            Event::Mark("m1".to_owned()),
            Event::Stop,
        ]
    );
}

#[test]
fn vonage_is_understood() {
    let parameters = [("prop1", "value1"), ("prop2", "value2")];
    let start = begun(Provider::Vonage, Codec::L16, 16_000, ["", ""], &parameters);
    let samples = (0..320_i32).map(|i| i16::try_from((i * 97) % 2_000 - 1_000).unwrap());
    assert_eq!(
        events("vonage"),
        [
            Event::Start(start),
            Event::Media(samples.collect()),
            Event::Dtmf('5'),
            Event::Mark("m1".to_owned()),
            Event::Ignored,
        ]
    );
}

#[test]
fn genesys_is_understood_and_what_asks_is_answered() {
    let ids = [
        "e160e428-53e2-487c-977d-96989bf5c99d",
        "090eaa2f-72fa-480a-83e0-8667ff89c0ec",
    ];
    let parameters = [
        ("from", "+1-555-555-1234"),
        ("to", "+1-800-555-6789"),
        ("language", "en-US"),
        ("plan", "gold"),
    ];
    let start = begun(Provider::Genesys, Codec::Ulaw, 8_000, ids, &parameters);
    let read = read("genesys");
    let events: Vec<Event> = read.iter().map(|read| read.event.clone()).collect();
    assert_eq!(
        events,
        [
            account(start, "d7934305-0972-4844-938e-9060eef73d05"),
            three_samples(),
            Event::Ignored,
            Event::Dtmf('2'),
            Event::Ignored,
            Event::Ignored,
            Event::Stop,
        ]
    );
    let answers: Vec<Answer> = read.into_iter().filter_map(|read| read.answer).collect();
    let channels = Channels::Caller;
    assert_eq!(
        answers,
        [
            Answer::Opened {
                client_seq: 1,
                channels
            },
            Answer::Pong { client_seq: 2 },
            Answer::Updated { client_seq: 5 },
            Answer::Closed { client_seq: 6 },
        ]
    );
}

#[test]
fn of_two_channels_of_genesys_the_caller_is_taken() {
    let heard = events("genesys-stereo");
    assert_eq!(start("genesys-stereo").channels, Channels::Both);
    assert_eq!(heard[1], three_samples());
}

#[test]
fn a_connection_test_of_genesys_is_no_call() {
    let heard = events("genesys-probe");
    assert!(matches!(&heard[..], [Event::Probe(_), Event::Stop]), "{heard:?}");
}

#[test]
fn emulators_that_leave_out_everything_optional_are_understood() {
    for (provider, rate_hz) in [
        (Provider::Twilio, 8_000),
        (Provider::Telnyx, 8_000),
        (Provider::Plivo, 8_000),
        (Provider::Exotel, 8_000),
        (Provider::Vonage, 16_000),
    ] {
        let folder = format!("emulator-{}", provider.name());
        let heard = events(&folder);
        let Event::Start(start) = &heard[0] else {
            panic!("{heard:?}")
        };
        assert_eq!((start.provider, start.format.rate_hz), (provider, rate_hz));
        assert!(
            matches!(&heard[1], Event::Media(samples) if samples.len() == 1),
            "{heard:?}"
        );
    }
}

#[test]
fn a_stream_of_another_provider_than_announced_is_refused() {
    for folder in ["twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"] {
        let provider = Provider::from_name(folder).unwrap();
        for announced in Provider::ALL {
            let mut stream = Inbound::new(Some(announced));
            let first = inbound(folder)
                .iter()
                .find_map(|message| match stream.read(message.as_frame()) {
                    Ok(read) if matches!(read.event, Event::Start(_)) => Some(Ok(())),
                    Ok(_) => None,
                    Err(error) => Some(Err(error)),
                });
            match first.unwrap() {
                Ok(()) => assert_eq!(announced, provider),
                Err(WireError::OtherProvider { found, .. }) => assert!(found == provider && announced != provider),
                Err(other) => panic!("{folder} announced as {announced:?}: {other}"),
            }
        }
    }
}
