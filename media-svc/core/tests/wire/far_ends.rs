//! Simulated far ends and the server understand each other, whoever the provider is.

use media_core::wire::far_end::{FarEnd, FromServer};
use media_core::wire::telephony::{Event, Inbound, Message, Outbound, Start};
use proptest::prelude::*;

use crate::fixtures::start;

const FOLDERS: [&str; 9] = [
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

/// Both ends of a stream that has begun.
fn begun(folder: &str) -> (Start, FarEnd, Inbound) {
    let start = start(folder);
    let mut far_end = FarEnd::new(start.clone());
    let mut inbound = Inbound::new(Some(start.provider));
    let mut last = Event::Ignored;
    for message in far_end.opening() {
        last = inbound.read(message.as_frame()).unwrap().event;
    }
    let Event::Start(read) = last else {
        panic!("{folder}: {last:?}")
    };
    assert_eq!(
        (&read.stream_id, read.format),
        (&start.stream_id, start.format),
        "{folder}"
    );
    (start, far_end, inbound)
}

/// Samples that survive any of the codings.
fn coded(start: &Start, samples: &[i16]) -> Vec<i16> {
    let mut bytes = Vec::new();
    start.format.codec.encode(samples, &mut bytes);
    start.format.codec.decode(&bytes).unwrap()
}

#[test]
fn a_far_end_is_understood() {
    for folder in FOLDERS {
        let (start, mut far_end, mut inbound) = begun(folder);
        let mut read = |message: &Message| inbound.read(message.as_frame()).unwrap().event;
        let samples = coded(&start, &[0, 1_000, -1_000, 32_000]);
        assert_eq!(
            read(&far_end.media(0, &samples)),
            Event::Media(samples.clone()),
            "{folder}"
        );
        // Four samples are half a millisecond: this one follows directly.
        assert_eq!(read(&far_end.media(1, &samples)), Event::Media(samples), "{folder}");
        assert_eq!(read(&far_end.dtmf('#')), Event::Dtmf('#'), "{folder}");
        if let Some(mark) = far_end.played("m7") {
            assert_eq!(read(&mark), Event::Mark("m7".to_owned()), "{folder}");
        }
        if let Some(stop) = far_end.stop() {
            assert_eq!(read(&stop), Event::Stop, "{folder}");
        }
    }
}

#[test]
fn a_far_end_understands_the_server() {
    for folder in FOLDERS {
        let (start, mut far_end, _) = begun(folder);
        let mut outbound = Outbound::new(&start);
        let samples = coded(&start, &vec![1_234; start.format.samples(start.provider.message_ms())]);
        let mut out = Vec::new();
        outbound.audio(&samples, &mut out);
        outbound.mark("m1", &mut out);
        outbound.clear(&mut out);
        let read: Vec<FromServer> = out
            .iter()
            .map(|message| far_end.read(message.as_frame()).unwrap())
            .collect();
        let mut expected = vec![FromServer::Media(samples)];
        expected.extend(start.provider.echoes_marks().then(|| FromServer::Mark("m1".to_owned())));
        expected.push(FromServer::Clear);
        assert_eq!(read, expected, "{folder}");
    }
}

proptest! {
    #[test]
    fn audio_and_names_survive_both_ways(which in 0..FOLDERS.len(), bytes in proptest::collection::vec(any::<i16>(), 1..400), name: String) {
        let (start, mut far_end, mut inbound) = begun(FOLDERS[which]);
        let samples = coded(&start, &bytes);
        let heard = inbound.read(far_end.media(0, &samples).as_frame()).unwrap().event;
        prop_assert_eq!(heard, Event::Media(samples.clone()));
        if let Some(mark) = far_end.played(&name) {
            prop_assert_eq!(inbound.read(mark.as_frame()).unwrap().event, Event::Mark(name.clone()));
        }
        let (mut outbound, mut out) = (Outbound::new(&start), Vec::new());
        outbound.mark(&name, &mut out);
        if let Some(mark) = out.first() {
            prop_assert_eq!(far_end.read(mark.as_frame()).unwrap(), FromServer::Mark(name));
        }
    }
}
