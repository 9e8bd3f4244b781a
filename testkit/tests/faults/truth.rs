//! What the node says it recorded, and what is in the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, MySqlConnection, PgConnection, Row as _};
use voxray::caller::rms;
use voxray_testkit::service::Service;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::load::{GREETING, KEPT, answer_to};
use crate::{gauges, scale};

/// Bytes before the samples of a recording.
const WAV_HEADER: usize = 44;
const FRAME_BYTES: u64 = 4;
/// Calls that are listened to where it matters whether anybody is heard.
const LISTENED_TO: usize = 30;
/// Root mean square above which a packet is speech.
const LOUD_RMS: f64 = 300.0;

/// One call as its node saw it.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Recorded {
    pub session_id: String,
    pub turns: u32,
    pub frames: u64,
    /// Of all samples; empty when the node does not know it.
    #[serde(default)]
    pub sha256: String,
}

/// A stored recording.
#[derive(Debug)]
pub struct Stored {
    pub wav: bytes::Bytes,
    pub incomplete: bool,
}

impl Stored {
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.pcm()))
    }

    /// All samples.
    pub fn pcm(&self) -> &[u8] {
        &self.wav[WAV_HEADER..]
    }

    /// Length in frames, as a player sees it.
    pub fn frames(&self) -> u64 {
        let reader = hound::WavReader::new(std::io::Cursor::new(&self.wav)).unwrap();
        let spec = reader.spec();
        // A phone's rate, or a client's.
        assert!([8_000, 16_000].contains(&spec.sample_rate), "{spec:?}");
        assert_eq!((spec.channels, spec.bits_per_sample), (2, 16));
        assert_eq!(
            u64::from(reader.duration()) * FRAME_BYTES,
            (self.wav.len() - WAV_HEADER) as u64
        );
        u64::from(reader.duration())
    }

    /// Packets of 20 ms of a phone call in which the caller and the agent can be heard.
    pub fn loud_packets(&self) -> (usize, usize) {
        let samples = hound::WavReader::new(std::io::Cursor::new(&self.wav)).unwrap();
        let samples: Vec<i16> = samples.into_samples().map(Result::unwrap).collect();
        let loud = |side: usize| {
            let side: Vec<i16> = samples.iter().skip(side).step_by(2).copied().collect();
            side.chunks(160).filter(|packet| rms(packet) > LOUD_RMS).count()
        };
        (loud(0), loud(1))
    }

    pub fn seconds(&self) -> f64 {
        self.frames() as f64 / 8_000.0
    }
}

/// Lines of a service's log with this message.
pub fn logged(service: &Service, message: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(service.log()).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["msg"].as_str().is_some_and(|said| said.starts_with(message)))
        .collect()
}

/// All calls that ended on their nodes so far.
pub fn recorded(stack: &Stack) -> Vec<Recorded> {
    let lines = stack.media.iter().flat_map(|media| logged(media, "call recorded"));
    lines.map(|line| serde_json::from_value(line).unwrap()).collect()
}

/// Session and key of every recording that is stored.
pub async fn keys(stack: &Stack) -> anyhow::Result<BTreeMap<String, String>> {
    let list = stack
        .s3
        .client()
        .list_objects_v2()
        .bucket(&stack.bucket)
        .prefix("recordings/");
    let mut pages = list.into_paginator().send();
    let mut keys = BTreeMap::new();
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            let key = object.key().unwrap_or_default();
            if let Some(session) = key.rsplit('/').next().and_then(|name| name.strip_suffix(".wav")) {
                let before = keys.insert(session.to_owned(), key.to_owned());
                anyhow::ensure!(before.is_none(), "{session} is stored twice: {before:?} and {key}");
            }
        }
    }
    Ok(keys)
}

pub async fn stored(stack: &Stack, key: &str) -> anyhow::Result<Stored> {
    let head = stack
        .s3
        .client()
        .head_object()
        .bucket(&stack.bucket)
        .key(key)
        .send()
        .await?;
    let metadata = head.metadata.unwrap_or_default();
    Ok(Stored {
        wav: stack.s3.object(&stack.bucket, key).await?,
        incomplete: metadata.contains_key("voxray-incomplete"),
    })
}

/// Keys of recordings, and turns, both by session.
type Found = (BTreeMap<String, String>, BTreeMap<String, Vec<Turn>>);

/// A turn that is stored.
#[derive(Debug, Clone)]
pub struct Turn {
    number: i32,
    role: String,
    text: String,
    interrupted: Option<bool>,
}

/// Rows of a query whose columns have the same types in both databases.
macro_rules! rows {
    ($stack:expr, $query:expr, $read:expr) => {{
        let dsn = &$stack.transcripts_dsn;
        if dsn.starts_with("mysql") {
            let mut mariadb = MySqlConnection::connect(dsn).await?;
            let rows = sqlx::query($query).fetch_all(&mut mariadb).await?;
            mariadb.close().await?;
            rows.iter().map($read).collect::<Result<Vec<_>, sqlx::Error>>()
        } else {
            let mut postgres = PgConnection::connect(dsn).await?;
            let rows = sqlx::query($query).fetch_all(&mut postgres).await?;
            postgres.close().await?;
            rows.iter().map($read).collect::<Result<Vec<_>, sqlx::Error>>()
        }
    }};
}

/// Every turn that is stored, by session.
pub async fn turns(stack: &Stack) -> anyhow::Result<BTreeMap<String, Vec<Turn>>> {
    let query = "SELECT session_id, seq, role, text, interrupted FROM call_transcripts ORDER BY session_id, seq";
    let rows = rows!(stack, query, |row| {
        let session: String = row.try_get(0)?;
        let turn = Turn {
            number: row.try_get(1)?,
            role: row.try_get(2)?,
            text: row.try_get(3)?,
            interrupted: row.try_get(4)?,
        };
        Ok((session, turn))
    });
    let mut turns: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (session, turn) in rows? {
        turns.entry(session).or_default().push(turn);
    }
    Ok(turns)
}

/// Sessions whose recordings are known to be stored, with their sizes: what `GET /sessions/{id}/recording` goes by.
pub async fn recording_bytes(stack: &Stack) -> anyhow::Result<BTreeMap<String, u64>> {
    let query = "SELECT session_id, recording_bytes FROM call_transcripts_sessions WHERE recording_bytes IS NOT NULL";
    let rows = rows!(stack, query, |row| {
        let (session, bytes): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((session, bytes.unsigned_abs()))
    });
    Ok(rows?.into_iter().collect())
}

/// Keys and turns of these calls, when each of them is in the archive with all its turns and its recording, and known to be.
pub async fn archived(stack: &Stack, calls: &[Recorded]) -> anyhow::Result<Option<Found>> {
    let (keys, turns, sizes) = (keys(stack).await?, turns(stack).await?, recording_bytes(stack).await?);
    let all = calls.iter().all(|call| {
        let there = turns.get(&call.session_id).map_or(0, Vec::len);
        keys.contains_key(&call.session_id) && sizes.contains_key(&call.session_id) && there >= call.turns as usize
    });
    Ok(all.then_some((keys, turns)))
}

/// Packets of some calls in which the caller and the agent can be heard.
pub async fn loud_packets(stack: &Stack) -> (usize, usize) {
    let keys = keys(stack).await.unwrap();
    let mut heard = (0, 0);
    for call in recorded(stack).into_iter().take(LISTENED_TO) {
        let (caller, agent) = stored(stack, &keys[&call.session_id]).await.unwrap().loud_packets();
        heard = (heard.0 + caller, heard.1 + agent);
    }
    heard
}

/// Every turn is there once, in order, with what was said: the greeting, then for each thing that was heard of the caller,
/// without what is to be redacted, the answer to it. What was cut off is cut in the transcript, and marked.
pub fn assert_turns(session_id: &str, turns: &[Turn], expected: u32) {
    let numbers: Vec<i32> = turns.iter().map(|turn| turn.number).collect();
    assert_eq!(
        numbers,
        (0..i32::try_from(expected).unwrap()).collect::<Vec<_>>(),
        "{session_id}: {turns:?}"
    );
    let mut heard = 0;
    for (at, turn) in turns.iter().enumerate() {
        if turn.role == "user" {
            heard += 1;
            // Somebody who goes on before the answer is heard has said it twice in one turn.
            let rest = turn.text.replace(KEPT, "");
            assert!(
                turn.text.contains(KEPT) && rest.trim().is_empty(),
                "{session_id}: {turns:?}"
            );
            continue;
        }
        let said = match heard {
            0 => GREETING.to_owned(),
            heard => answer_to(heard),
        };
        let cut = turn.interrupted == Some(true) && !turn.text.is_empty() && said.starts_with(turn.text.trim_end());
        assert!(
            turn.role == "assistant" && (turn.text == said || cut),
            "{session_id}: {said:?} in {turns:?}"
        );
        let twice = at > 0 && turns[at - 1].role == "assistant";
        assert!(!twice, "{session_id}: {turns:?}");
    }
}

/// In each of these calls the agent has greeted, was asked, and has answered.
#[allow(dead_code, reason = "the tests of fleets use it")]
pub async fn assert_answered(stack: &Stack, calls: &[Recorded]) {
    let turns = turns(stack).await.unwrap();
    for Recorded { session_id, .. } in calls {
        let said = turns.get(session_id).map_or(&[][..], Vec::as_slice);
        let roles: Vec<&str> = said.iter().map(|turn| turn.role.as_str()).collect();
        assert!(
            roles.starts_with(&["assistant", "user", "assistant"]),
            "{session_id}: {said:?}"
        );
    }
}

/// What an archive is like after a fault.
pub struct Archived {
    pub calls: usize,
    pub turns: u32,
    /// Sessions whose recordings are marked incomplete.
    pub incomplete: BTreeSet<String>,
}

/// Waits until every call that has ended is in the archive, and checks that each is there once: its recording to the
/// byte (or marked incomplete), and all its turns.
pub async fn assert_archived(stack: &Stack, limit: Duration) -> Archived {
    // A caller who has hung up may still be listened to: their last words are being recognised.
    let over = eventually("the last call to end on its node", scale::patience(), || async {
        Ok((gauges::open_calls(stack).await? == 0.0).then_some(()))
    });
    over.await.unwrap();
    let truth = recorded(stack);
    assert!(!truth.is_empty(), "no call was recorded");
    let began = Instant::now();
    let wanted: u32 = truth.iter().map(|call| call.turns).sum();
    let complete = eventually("all recordings and turns to be archived", limit, || async {
        archived(stack, &truth).await
    });
    let (keys, turns) = complete.await.unwrap();
    println!(
        "{} recordings and {wanted} turns archived {:.1} s after the last call",
        truth.len(),
        began.elapsed().as_secs_f64()
    );
    let mut incomplete = BTreeSet::new();
    for call in &truth {
        let stored = stored(stack, &keys[&call.session_id]).await.unwrap();
        assert_eq!(stored.frames(), call.frames, "{}", call.session_id);
        if stored.incomplete {
            incomplete.insert(call.session_id.clone());
        } else {
            assert_eq!(
                stored.sha256(),
                call.sha256,
                "{}: not what the node recorded",
                call.session_id
            );
        }
        let none = Vec::new();
        assert_turns(
            &call.session_id,
            turns.get(&call.session_id).unwrap_or(&none),
            call.turns,
        );
    }
    Archived {
        calls: truth.len(),
        turns: wanted,
        incomplete,
    }
}

/// The same where nothing may be missing of at least this many calls.
pub async fn assert_whole(stack: &Stack, calls: usize, limit: Duration) {
    let archived = assert_archived(stack, limit).await;
    assert!(
        archived.calls >= calls,
        "{} of {calls} calls were recorded",
        archived.calls
    );
    assert!(archived.incomplete.is_empty(), "{:?}", archived.incomplete);
    println!(
        "{} calls and {} turns, all as the node produced them",
        archived.calls, archived.turns
    );
}
