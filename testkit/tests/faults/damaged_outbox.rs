//! An outbox that was cut or changed on disk while its node was down.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use media_svc::archive::Outbox;
use prost::Message;
use voxray_proto::archive::Event;
use voxray_proto::archive::event::Body;
use voxray_testkit::wait::eventually;

use crate::load::{self, Load};
use crate::{scale, truth};

/// Callers of this test: enough that every file holds several calls.
const CALLERS: usize = 8;
/// Bytes before the records of a file, and before the payload of a record.
const MAGIC: u64 = 8;
const PREFIX: u64 = 8;

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|file| file.extension().is_some_and(|x| x == "seg"))
        .collect();
    files.sort();
    files
}

/// The events of a file as it was, and where each ends.
async fn events_of(file: &Path) -> Vec<(Event, u64)> {
    let alone = tempfile::tempdir().unwrap();
    std::fs::copy(file, alone.path().join(file.file_name().unwrap())).unwrap();
    let settings = service_kit::config::Outbox {
        dir: alone.path().to_owned(),
        max_bytes: 1 << 40,
    };
    let size = std::fs::metadata(file).unwrap().len();
    let outbox = Outbox::open(&settings).unwrap();
    let mut reader = outbox.reader();
    let mut events = Vec::new();
    let mut end = MAGIC;
    while end < size {
        for event in reader.read() {
            end += PREFIX + event.encoded_len() as u64;
            events.push((event, end));
        }
    }
    events.retain(|(_, end)| *end <= size);
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_before_the_damage_is_delivered_and_the_damage_is_named() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut stack = load::start(load::builder(&agent)).await;
    stack.archiver[0].kill9();
    let calls = Load::of(&stack, CALLERS).await;
    load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    stack.media[0].kill9();
    let folder = stack.folder().join("media-1/data/outbox");
    let files = segments(&folder);
    let (first, last) = (files.first().unwrap(), files.last().unwrap());

    // A bit flips in the middle of the first file, and the last one (perhaps the same) ends within its last record.
    let events = events_of(first).await;
    let (_, flip_at) = events[events.len() / 2];
    let mut bytes = std::fs::read(first).unwrap();
    bytes[usize::try_from(flip_at).unwrap() + 20] ^= 0x08;
    std::fs::write(first, bytes).unwrap();
    let length = std::fs::metadata(last).unwrap().len();
    File::options()
        .write(true)
        .open(last)
        .unwrap()
        .set_len(length - 3)
        .unwrap();

    stack.media[0].start().await.unwrap();
    stack.archiver[0].start().await.unwrap();

    let damaged = truth::logged(&stack.media[0], "an outbox file is damaged");
    let named = |line: &serde_json::Value| line["file"] == first.display().to_string() && line["offset"] == flip_at;
    assert!(
        damaged.iter().any(named),
        "{damaged:?} names no {} at {flip_at}",
        first.display()
    );
    let mut before: BTreeMap<String, u32> = BTreeMap::new();
    for (event, _) in events.iter().filter(|(_, end)| *end <= flip_at) {
        if matches!(event.body, Some(Body::Turn(_))) {
            *before.entry(event.session_id.clone()).or_default() += 1;
        }
    }
    let delivered = eventually("the turns before the damage", scale::catch_up(), || async {
        let turns = truth::turns(&stack).await?;
        let all = before
            .iter()
            .all(|(session, count)| turns.get(session).map_or(0, Vec::len) >= *count as usize);
        Ok(all.then_some(turns))
    });
    let turns = delivered.await.unwrap();
    for (session, count) in &before {
        truth::assert_turns(session, &turns[session][..*count as usize], *count);
    }
    println!(
        "{} turns of {} calls stood before the damage, and were delivered",
        before.values().sum::<u32>(),
        before.len()
    );
    for service in stack.services() {
        assert!(truth::logged(service, "panic").is_empty());
        assert!(
            service.process().unwrap().exited().unwrap().is_none(),
            "{} ended",
            service.name()
        );
    }
}
