//! `tests/fixtures/{provider}/`: messages as the documentation shows them, with made-up identifiers. `in-{n}-…` come from
//! the provider in this order, `out-…` go to it; `.bin` are binary messages.

use std::path::{Path, PathBuf};

use media_core::wire::telephony::{Event, Inbound, Message, Read, Start};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// One file as a message.
pub fn message(path: &Path) -> Message {
    let bytes = std::fs::read(path).unwrap();
    if path.extension().is_some_and(|extension| extension == "bin") {
        Message::Binary(bytes)
    } else {
        Message::Text(String::from_utf8(bytes).unwrap())
    }
}

/// What a provider sends, in order.
pub fn inbound(folder: &str) -> Vec<Message> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("in-"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder}");
    paths.iter().map(|path| message(path)).collect()
}

/// Reads a whole folder.
pub fn read(folder: &str) -> Vec<Read> {
    let mut stream = Inbound::new(None);
    inbound(folder)
        .iter()
        .map(|message| stream.read(message.as_frame()).unwrap())
        .collect()
}

pub fn start(folder: &str) -> Start {
    let found = read(folder).into_iter().find_map(|read| match read.event {
        Event::Start(start) | Event::Probe(start) => Some(start),
        _ => None,
    });
    found.unwrap()
}
