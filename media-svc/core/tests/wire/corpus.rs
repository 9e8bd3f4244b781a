//! The seed corpus of the fuzz targets (`fuzz/corpus`) through the same entry points, and damaged in every way.

use std::path::Path;

use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Frame, Inbound, Outbound, Provider};
use proptest::prelude::*;

use crate::fixtures::{root, start};

/// One input of a fuzz target: messages divided by a byte that no UTF-8 text has; binary ones begin with a zero.
fn replay(provider: Provider, input: &[u8]) {
    let mut stream = Inbound::new(Some(provider));
    let mut far_end = FarEnd::new(start(provider.name()));
    for message in input.split(|byte| *byte == 0xFF) {
        let frame = match message.split_first() {
            Some((0, bytes)) => Frame::Binary(bytes),
            Some(_) | None => match std::str::from_utf8(message) {
                Ok(text) => Frame::Text(text),
                Err(_) => Frame::Binary(message),
            },
        };
        if let Ok(read) = stream.read(frame)
            && let Some(answer) = read.answer
        {
            Outbound::new(&start(provider.name())).answer(answer, &mut Vec::new());
        }
        let _ = far_end.read(frame);
    }
}

fn corpus(provider: Provider) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(provider.name());
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpus_of_every_provider_harms_nothing() {
    for provider in Provider::ALL {
        let corpus = corpus(provider);
        assert!(corpus.len() >= 5, "{provider:?}: {}", corpus.len());
        for input in corpus {
            // Every beginning of it, and every provider's reader.
            for end in 0..=input.len() {
                replay(provider, &input[..end]);
            }
            for other in Provider::ALL {
                replay(other, &input);
            }
        }
    }
}

#[test]
fn the_corpus_has_every_documented_message() {
    for provider in Provider::ALL {
        let corpus = corpus(provider).join(&0xFF);
        let files = std::fs::read_dir(root().join(provider.name())).unwrap();
        for file in files.map(|file| file.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.starts_with("in-") || name.ends_with(".bin") {
                continue;
            }
            let message: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let sorted = corpus
                .split(|byte| *byte == 0xFF)
                .any(|seed| serde_json::from_slice::<serde_json::Value>(seed).is_ok_and(|seed| seed == message));
            assert!(sorted, "{name} of {provider:?} is no seed");
        }
    }
}

proptest! {
    #[test]
    fn no_damaged_seed_makes_a_reader_panic(
        which in 0..6_usize,
        seed in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        insert in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let provider = Provider::ALL[which];
        let corpus = corpus(provider);
        let mut input = seed.get(&corpus).clone();
        for (at, with) in changes {
            if !input.is_empty() {
                let at = at.index(input.len());
                input[at] = with;
            }
        }
        let at = cut.index(input.len() + 1);
        input.splice(at..at, insert);
        replay(provider, &input);
        replay(provider, &input[..at]);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(which in 0..6_usize, input in proptest::collection::vec(any::<u8>(), 0..600)) {
        replay(Provider::ALL[which], &input);
    }
}
