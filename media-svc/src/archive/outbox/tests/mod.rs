//! What the outbox promises. A crash is a copy of the folder, opened again: what the copy holds is what the operating
//! system was given.

mod damage;
mod flush;
mod full_disk;
mod space;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use service_kit::config;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{AudioChunk, Event, RecordingFormat, SessionEnded, SessionStarted, Turn};

use super::Outbox;
use crate::archive::{ArchiveError, ArchiveSession, ArchiveSink};

const LIMIT: u64 = 1 << 30;

fn settings(dir: &Path, max_bytes: u64) -> config::Outbox {
    config::Outbox {
        dir: dir.to_owned(),
        max_bytes,
    }
}

fn open(dir: &Path) -> Outbox {
    Outbox::open(&settings(dir, LIMIT)).unwrap()
}

fn started() -> Body {
    Body::Started(SessionStarted {
        traceparent: String::new(),
        started_at_unix_ms: 1,
        node_id: "node".to_owned(),
        transport: "telephony".to_owned(),
        provider: "twilio".to_owned(),
        recording: Some(RecordingFormat {
            sample_rate_hz: 8_000,
            channels: 2,
        }),
    })
}

fn turn(seq: u32) -> Body {
    Body::Turn(Turn {
        seq,
        role: "user".to_owned(),
        text: format!("turn {seq}"),
        created_at_unix_ms: 2,
        ..Turn::default()
    })
}

/// Audio of this many stereo frames.
fn audio(first_frame: u64, frames: usize) -> Body {
    Body::Audio(AudioChunk {
        first_frame,
        pcm: Bytes::from(vec![u8::try_from(first_frame % 251).unwrap(); frames * 4]),
    })
}

fn ended() -> Body {
    Body::Ended(SessionEnded {
        reason: "caller_hung_up".to_owned(),
        ..SessionEnded::default()
    })
}

fn session(outbox: &Outbox, id: &str) -> Arc<dyn ArchiveSession> {
    ArchiveSink::open(outbox, id).unwrap()
}

/// Waits until what was appended can be read.
async fn flushed(outbox: &Outbox) {
    let mut progress = outbox.progress();
    progress.mark_unchanged();
    let mut reader = outbox.reader();
    let total = outbox.shared.lock().index.bytes();
    loop {
        outbox.flush_now();
        while !reader.read().is_empty() {}
        let done = {
            let state = outbox.shared.lock();
            state.unflushed.is_empty()
                && state
                    .active
                    .as_ref()
                    .is_none_or(|a| state.index.readable(a.segment).unwrap().1 >= a.bytes)
        };
        if done || total == 0 {
            return;
        }
        progress.changed().await.unwrap();
    }
}

async fn read_all(outbox: &Outbox) -> Vec<Event> {
    flushed(outbox).await;
    let mut reader = outbox.reader();
    let mut all = Vec::new();
    loop {
        let events = reader.read();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

fn names(events: &[Event]) -> Vec<(&str, u64)> {
    events.iter().map(|e| (e.session_id.as_str(), e.sequence)).collect()
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn reason_of(event: &Event) -> Option<&str> {
    match event.body.as_ref()? {
        Body::Ended(ended) => Some(&ended.reason),
        Body::Started(_) | Body::Turn(_) | Body::Audio(_) => None,
    }
}

#[tokio::test]
async fn events_come_back_in_the_order_written_with_sequences_without_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let (a, b) = (session(&outbox, "a"), session(&outbox, "b"));
    assert_eq!(a.append(started()).unwrap(), 1);
    assert_eq!(b.append(started()).unwrap(), 1);
    assert_eq!(a.append(turn(0)).unwrap(), 2);
    assert_eq!(b.append(ended()).unwrap(), 2);
    let events = read_all(&outbox).await;
    assert_eq!(names(&events), [("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
    assert_eq!(events[2].body, Some(turn(0)));
}

#[tokio::test]
async fn what_was_appended_survives_a_kill_without_any_flush() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    a.append(turn(0)).unwrap();
    let crashed = copy_of(dir.path());
    let events = read_all(&open(crashed.path())).await;
    assert_eq!(names(&events), [("a", 1), ("a", 2), ("a", 3)]);
    assert_eq!(reason_of(&events[2]), Some("node_restarted"));
}

#[tokio::test]
async fn a_session_cut_off_by_a_restart_ends_with_its_frames_turns_and_hash() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    for body in [started(), audio(0, 160), turn(0), audio(160, 80)] {
        a.append(body).unwrap();
    }
    let crashed = copy_of(dir.path());
    let events = read_all(&open(crashed.path())).await;
    let Some(Body::Ended(ended)) = &events.last().unwrap().body else {
        panic!("{events:?}")
    };
    let mut pcm = vec![0; 640];
    pcm.extend([160; 320]);
    assert_eq!((ended.total_frames, ended.turns), (240, 1));
    assert_eq!(ended.pcm_sha256, Sha256::digest(&pcm).to_vec());
}

#[tokio::test]
async fn a_session_whose_first_audio_is_gone_ends_without_a_hash() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    // 40 chunks of 256 KB: more than one segment.
    for chunk in 0..40 {
        a.append(audio(chunk * 65_536, 65_536)).unwrap();
    }
    outbox.acknowledge("a", 40);
    flushed(&outbox).await;
    let crashed = copy_of(dir.path());
    let events = read_all(&open(crashed.path())).await;
    let Some(Body::Ended(ended)) = &events.last().unwrap().body else {
        panic!("{:?}", names(&events))
    };
    assert_eq!(ended.total_frames, 40 * 65_536);
    assert!(ended.pcm_sha256.is_empty());
    assert_eq!(events.last().unwrap().sequence, 42);
}

#[tokio::test]
async fn a_session_that_ended_is_not_ended_again_by_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    a.append(ended()).unwrap();
    drop((a, outbox));
    let events = read_all(&open(dir.path())).await;
    assert_eq!(names(&events), [("a", 1), ("a", 2)]);
}

#[tokio::test]
async fn a_handle_dropped_without_an_end_ends_its_session() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(started()).unwrap();
    drop(a);
    let events = read_all(&outbox).await;
    assert_eq!(reason_of(&events[1]), Some("call_failed"));
}

#[tokio::test]
async fn nothing_follows_the_end_of_a_session_and_ids_are_not_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    a.append(ended()).unwrap();
    assert!(matches!(a.append(turn(0)), Err(ArchiveError::NoEvent(_))));
    assert!(matches!(ArchiveSink::open(&outbox, "a"), Err(ArchiveError::NoEvent(_))));
}

#[tokio::test]
async fn a_second_opener_of_the_folder_is_told_who_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let _outbox = open(dir.path());
    let refused = Outbox::open(&settings(dir.path(), LIMIT)).err().unwrap();
    assert_eq!(refused.status, service_kit::exit::CANNOT_CREATE);
    assert!(refused.what.contains("in use by another process"), "{refused}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_a_clear_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = Outbox::open(&settings(&file.join("outbox"), LIMIT)).err().unwrap();
    assert!(refused.what.contains("cannot be used"), "{refused}");
}

#[tokio::test]
async fn an_event_too_large_for_a_message_is_refused_and_takes_no_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    let a = session(&outbox, "a");
    assert!(matches!(a.append(audio(0, 1 << 20)), Err(ArchiveError::NoEvent(_))));
    assert_eq!(a.append(turn(0)).unwrap(), 1);
}

#[tokio::test]
async fn many_writers_at_once_lose_nothing_and_keep_each_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = open(dir.path());
    std::thread::scope(|threads| {
        for writer in 0..8 {
            let handle = session(&outbox, &format!("s{writer}"));
            threads.spawn(move || {
                for chunk in 0..200 {
                    handle.append(audio(chunk * 1_600, 1_600)).unwrap();
                }
                handle.append(ended()).unwrap();
            });
        }
    });
    let events = read_all(&outbox).await;
    for writer in 0..8 {
        let id = format!("s{writer}");
        let own: Vec<u64> = events
            .iter()
            .filter(|e| e.session_id == id)
            .map(|e| e.sequence)
            .collect();
        assert_eq!(own, (1..=201).collect::<Vec<_>>());
    }
}
