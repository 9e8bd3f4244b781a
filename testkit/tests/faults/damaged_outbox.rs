//! An outbox that was cut or changed on disk while its node was down.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use prost::Message;
use voxray_proto::archive::Event;
use voxray_proto::archive::event::Body;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::load::{self, Load};
use crate::{on_disk, scale, truth};

/// Bytes before the records of a file, and before the payload of a record.
const MAGIC: u64 = 8;
const PREFIX: u64 = 8;

/// The events of a file as it was, and where each ends.
fn events_of(file: &Path) -> Vec<(Event, u64)> {
    let mut end = MAGIC;
    let events = on_disk::events(&[file.to_owned()]).into_iter();
    let events: Vec<_> = events
        .map(|event| {
            let kept_as = Event { durable: 0, ..event };
            end += PREFIX + kept_as.encoded_len() as u64;
            (kept_as, end)
        })
        .collect();
    assert_eq!(end, std::fs::metadata(file).unwrap().len(), "not all of the file");
    events
}

fn files(stack: &Stack) -> Vec<PathBuf> {
    on_disk::segments(&stack.folder().join("media-1/data/outbox"))
}

/// A service's line of the log with this message names this place.
fn assert_named(stack: &Stack, message: &str, file: &Path, offset: u64) {
    let lines = truth::logged(&stack.media[0], message);
    let named = |line: &serde_json::Value| line["file"] == file.display().to_string() && line["offset"] == offset;
    assert!(
        lines.iter().any(named),
        "{lines:?} names no {} at {offset}",
        file.display()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_before_the_damage_is_delivered_and_the_damage_is_named() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut stack = load::start(load::builder(&agent)).await;
    stack.archiver[0].kill9();
    let calls = Load::start(&stack).await;
    load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    stack.media[0].kill9();

    // The last file ends within its last record, as a crash may leave it.
    let file = files(&stack).pop().unwrap();
    let events = events_of(&file);
    let (_, whole) = events[events.len() - 2];
    let length = std::fs::metadata(&file).unwrap().len();
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(length - 3)
        .unwrap();
    stack.media[0].start().await.unwrap();
    let torn = "the last record of an outbox file was not written to its end";
    assert_named(&stack, torn, &file, whole);
    stack.media[0].kill9();

    // A bit flips in the middle of the first one.
    let file = files(&stack).remove(0);
    let events = events_of(&file);
    let (_, flip_at) = events[events.len() / 2];
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[usize::try_from(flip_at).unwrap() + 20] ^= 0x08;
    std::fs::write(&file, bytes).unwrap();
    stack.media[0].start().await.unwrap();
    stack.archiver[0].start().await.unwrap();

    assert_named(&stack, "an outbox file is damaged", &file, flip_at);
    let before: Vec<Event> = events
        .into_iter()
        .filter(|(_, end)| *end <= flip_at)
        .map(|(event, _)| event)
        .collect();
    let mut heard = on_disk::calls(&before);
    heard.retain(|_, call| !call.pcm.is_empty());
    let mut before_damage: BTreeMap<&String, u32> = BTreeMap::new();
    for event in before.iter().filter(|event| matches!(event.body, Some(Body::Turn(_)))) {
        *before_damage.entry(&event.session_id).or_default() += 1;
    }
    let before = before_damage;
    let delivered = eventually("what stood before the damage", scale::catch_up(), || async {
        let (turns, keys) = (truth::turns(&stack).await?, truth::keys(&stack).await?);
        let turns_there = before
            .iter()
            .all(|(session, count)| turns.get(*session).map_or(0, Vec::len) >= *count as usize);
        let all = turns_there && heard.keys().all(|session| keys.contains_key(session));
        Ok(all.then_some((turns, keys)))
    });
    let (turns, keys) = delivered.await.unwrap();
    for (session, count) in &before {
        truth::assert_turns(session, &turns[*session][..*count as usize], *count);
    }
    for (session, call) in &heard {
        let recording = truth::stored(&stack, &keys[session]).await.unwrap();
        assert!(
            recording.pcm().starts_with(&call.pcm),
            "{session}: not what stood before the damage"
        );
    }
    println!(
        "{} turns and {} bytes of sound of {} calls stood before the damage, and were delivered",
        before.values().sum::<u32>(),
        heard.values().map(|call| call.pcm.len()).sum::<usize>(),
        heard.len()
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
