//! The seed corpus of the client sockets' fuzz targets, through the same entry points and damaged in every way.

use std::path::Path;

use media_core::wire::client::{Dialect, Heard, Inbound, Session};
use media_core::wire::telephony::Frame;
use proptest::prelude::*;

/// One input of a fuzz target: messages divided by the byte FF; binary ones begin with a zero, and in them FE stands for
/// FF. Answers what was heard.
fn replay(dialect: Dialect, input: &[u8]) -> Vec<Heard> {
    let session = Session {
        id: "session".to_owned(),
        version: "0".to_owned(),
        input_rate_hz: 16_000,
        output_rate_hz: 24_000,
    };
    let mut inbound = Inbound::new(dialect, session);
    let messages = input.split(|byte| *byte == 0xFF);
    let heard = messages.filter_map(|message| match (message.split_first(), std::str::from_utf8(message)) {
        (Some((0, bytes)), _) => {
            let bytes: Vec<u8> = bytes
                .iter()
                .map(|&byte| if byte == 0xFE { 0xFF } else { byte })
                .collect();
            inbound.read(Frame::Binary(&bytes)).ok()
        }
        (_, Ok(text)) => inbound.read(Frame::Text(text)).ok(),
        (_, Err(_)) => inbound.read(Frame::Binary(message)).ok(),
    });
    heard.collect()
}

fn corpus(dialect: Dialect) -> Vec<(String, Vec<u8>)> {
    let name = match dialect {
        Dialect::Protobuf => "client_protobuf",
        Dialect::Rtvi => "client_rtvi",
        Dialect::Json => "client_json",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let read = |path: std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

#[test]
fn the_corpus_of_every_dialect_harms_no_reader() {
    for dialect in Dialect::ALL {
        let corpus = corpus(dialect);
        assert!(corpus.len() >= 15, "{dialect:?}: {}", corpus.len());
        for (_, input) in corpus {
            for end in 0..=input.len() {
                replay(dialect, &input[..end]);
            }
            for other in Dialect::ALL {
                replay(other, &input);
            }
        }
    }
}

#[test]
fn every_seed_that_is_a_proper_message_is_understood() {
    for dialect in Dialect::ALL {
        for (name, input) in corpus(dialect) {
            let heard = replay(dialect, &input);
            let understood = heard.iter().all(|heard| heard.breach.is_none());
            if name.starts_with("in-") || name == "stream" {
                let messages = input.split(|byte| *byte == 0xFF).count();
                assert!(understood && heard.len() == messages, "{dialect:?} {name}: {heard:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_damaged_seed_makes_a_reader_panic(
        which in 0..3_usize,
        seed in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        insert in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let dialect = Dialect::ALL[which];
        let (_, mut input) = seed.get(&corpus(dialect)).clone();
        for (at, with) in changes {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = with;
            }
        }
        let at = cut.index(input.len() + 1);
        input.splice(at..at, insert);
        replay(dialect, &input);
        replay(dialect, &input[..at]);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(which in 0..3_usize, input in proptest::collection::vec(any::<u8>(), 0..600)) {
        replay(Dialect::ALL[which], &input);
    }
}
