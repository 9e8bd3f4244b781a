//! What a node that is down has in its outbox.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use media_svc::archive::Outbox;
use voxray_proto::archive::Event;
use voxray_proto::archive::event::Body;

/// Everything that can be read of a copy of these files, in order. Sessions without an end have got none by that.
pub fn events(files: &[PathBuf]) -> Vec<Event> {
    let alone = tempfile::tempdir().unwrap();
    for file in files {
        std::fs::copy(file, alone.path().join(file.file_name().unwrap())).unwrap();
    }
    let settings = service_kit::config::Outbox {
        dir: alone.path().to_owned(),
        max_bytes: 1 << 40,
    };
    let outbox = Outbox::open(&settings).unwrap();
    let mut reader = outbox.reader();
    let mut events = Vec::new();
    loop {
        let more = reader.read();
        if more.is_empty() {
            break;
        }
        events.extend(more);
    }
    events.retain(|event| !is_of_the_copy(event));
    events
}

/// Reading the copy has ended the sessions that are cut off, as a restart of the node will.
fn is_of_the_copy(event: &Event) -> bool {
    matches!(&event.body, Some(Body::Ended(ended)) if ended.reason == "node_restarted")
}

/// The files of an outbox with events in them, oldest first.
pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|file| file.extension().is_some_and(|x| x == "seg"))
        .collect();
    files.sort();
    files
}

/// One call as far as it is in an outbox.
#[derive(Debug, Default)]
pub struct Left {
    /// When it began, by the node's clock.
    pub started_at_unix_ms: u64,
    /// Samples of the recording from its beginning, as the node's recorder gave them out.
    pub pcm: Vec<u8>,
    /// For each turn, how many bytes of samples were there before it.
    pub turns: Vec<usize>,
}

/// Every call by session.
pub fn calls(events: &[Event]) -> BTreeMap<String, Left> {
    let mut calls: BTreeMap<String, Left> = BTreeMap::new();
    for event in events {
        let call = calls.entry(event.session_id.clone()).or_default();
        match &event.body {
            Some(Body::Audio(chunk)) => call.pcm.extend_from_slice(&chunk.pcm),
            Some(Body::Turn(_)) => call.turns.push(call.pcm.len()),
            Some(Body::Started(started)) => call.started_at_unix_ms = started.started_at_unix_ms,
            Some(Body::Ended(_)) | None => {}
        }
    }
    calls
}
