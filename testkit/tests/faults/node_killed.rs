//! `kill -9` of a media node: its calls end, what they said does not.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use voxray::caller::CallError;
use voxray_testkit::service::Role;
use voxray_testkit::wait::eventually;

use crate::load::{self, Load};
use crate::on_disk::Left;
use crate::truth::Recorded;
use crate::{on_disk, scale, truth};

/// After this long without its stream a node counts as dead here, unless there is time for what is usual.
const NODE_TIMEOUT_SECS: &str = "5";
/// How often this program looks whether the machine keeps up with it.
const TICK: Duration = Duration::from_millis(10);
/// Audio that may be missing before the kill.
const LOST_AT_MOST: Duration = Duration::from_secs(1);
/// As long as a short call.
const BEFORE_THE_KILL: Duration = Duration::from_secs(7);

/// How often it looks how long the disk takes, as the node asks it to.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The longest that this disk took to flush something small. What is not flushed is not sent: who has killed the node before
/// finds it on that disk and nowhere else.
fn measure_disk(folder: &Path) -> (std::thread::JoinHandle<Duration>, mpsc::Sender<()>) {
    let mut file = tempfile::tempfile_in(folder).unwrap();
    let (stop, stopped) = mpsc::channel();
    let measuring = std::thread::spawn(move || {
        let mut worst = Duration::ZERO;
        while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(FLUSH_INTERVAL) {
            let began = Instant::now();
            file.write_all(&[0; 64 << 10]).unwrap();
            file.sync_data().unwrap();
            worst = worst.max(began.elapsed());
        }
        worst
    });
    (measuring, stop)
}

/// The longest that this machine kept anybody waiting.
fn measure_lateness() -> (tokio::task::JoinHandle<Duration>, tokio_util::sync::CancellationToken) {
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    let measuring = tokio::spawn(async move {
        let mut worst = Duration::ZERO;
        while !stopped.is_cancelled() {
            let began = Instant::now();
            tokio::time::sleep(TICK).await;
            worst = worst.max(began.elapsed().saturating_sub(TICK));
        }
        worst
    });
    (measuring, stop)
}

/// Turns that the node had finished before it recorded the last of these samples.
fn finished_within(call: &Left, pcm: &[u8]) -> usize {
    call.turns.iter().filter(|before| **before < pcm.len()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_had_heard_is_playable_soon_and_whole_after_its_restart() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let builder = load::builder(&agent);
    let builder = if scale::is_long() {
        builder
    } else {
        builder.env_for(Role::Archiver, "VOXRAY_ARCHIVER_NODE_TIMEOUT_SECS", NODE_TIMEOUT_SECS)
    };
    let mut stack = load::start(builder).await;
    let calls = Load::start(&stack).await;
    let (lateness, measured) = measure_lateness();
    let (flushing, flushed) = measure_disk(stack.folder());
    // Some calls are over by then, and some have only begun.
    tokio::time::sleep(BEFORE_THE_KILL).await;
    let sessions = load::connected(&stack).await;
    assert!(!sessions.is_empty());

    stack.media[0].kill9();
    let (killed, killed_at) = (Instant::now(), SystemTime::now());
    measured.cancel();
    let lateness = lateness.await.unwrap();
    drop(flushed);
    let flushing = flushing.join().unwrap();
    let outbox = stack.folder().join("media-1/data/outbox");
    let left = on_disk::calls(&on_disk::events(&on_disk::segments(&outbox)));
    // A flush waits for the one before it.
    let allowed = LOST_AT_MOST + lateness * 2 + flushing * 2;
    let finished: Vec<String> = truth::recorded(&stack)
        .into_iter()
        .map(|call| call.session_id)
        .collect();
    let mut ended = BTreeMap::new();
    for placed in calls.stop().await {
        match placed.outcome {
            Ok(()) => {}
            Err(CallError::EndedEarly { seconds, .. }) => {
                ended.insert(placed.call_id, seconds);
            }
            // The only node is gone: nobody can be connected, and after a moment nobody is sent to it.
            Err(CallError::Connect { .. } | CallError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    drop(turn);

    // A call that had only begun may have left nothing: what is not a second old may be lost.
    let cut: BTreeMap<&String, f64> = sessions
        .iter()
        .filter(|(session, _)| !finished.contains(session))
        .filter_map(|(session, call)| Some((session, *ended.get(call)?)))
        .filter(|(_, seconds)| *seconds > (LOST_AT_MOST + allowed).as_secs_f64())
        .collect();
    assert!(cut.len() * 2 > scale::calls(), "{} calls were cut off", cut.len());
    let stored = eventually(
        "a recording of every call that was cut off",
        // Counted from the kill.
        scale::catch_up().saturating_sub(killed.elapsed()),
        || async {
            let keys = truth::keys(&stack).await?;
            Ok(cut.keys().all(|session| keys.contains_key(*session)).then_some(keys))
        },
    );
    let keys = stored.await.unwrap();
    println!(
        "{} recordings stored {:.1} s after the kill",
        cut.len(),
        killed.elapsed().as_secs_f64()
    );
    let rows_before = truth::turns(&stack).await.unwrap();
    let killed_at = killed_at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let (mut most_lost, mut most_unsent, mut finished_turns) = (0.0_f64, 0.0_f64, 0);
    for session in cut.keys() {
        let left = &left[*session];
        let recording = truth::stored(&stack, &keys[*session]).await.unwrap();
        assert!(recording.incomplete, "{session}: nobody can know that it is whole");
        // By the node's clock: a caller may have waited to be let in.
        let seconds = killed_at - left.started_at_unix_ms as f64 / 1_000.0;
        let on_disk = recording.seconds() * left.pcm.len() as f64 / recording.pcm().len() as f64;
        most_lost = most_lost.max(seconds - recording.seconds());
        most_unsent = most_unsent.max(on_disk - recording.seconds());
        let same = left.pcm.starts_with(recording.pcm());
        assert!(same, "{session}: not what the node had recorded");
        let turns = rows_before.get(*session).cloned().unwrap_or_default();
        truth::assert_turns(session, &turns, u32::try_from(turns.len()).unwrap());
        // Its audio is there to a second before the kill, as is asserted below: so is every turn that came before that audio.
        let wanted = finished_within(left, recording.pcm());
        assert!(
            turns.len() >= wanted,
            "{session}: {wanted} turns were finished, {turns:?}"
        );
        finished_turns += wanted;
    }
    println!("{finished_turns} turns were over before the last audio that was stored, and are there");
    assert!(finished_turns * 2 > cut.len(), "nobody had been greeted");
    println!(
        "{} calls cut off by the kill: at most {most_lost:.2} s of audio missing before a restart, {most_unsent:.2} s of it on the node's disk (this machine was up to {:.2} s late, its disk {:.2} s)",
        cut.len(),
        lateness.as_secs_f64(),
        flushing.as_secs_f64()
    );
    assert!(most_lost <= allowed.as_secs_f64(), "{most_lost} s of audio are missing");

    stack.media[0].start().await.unwrap();
    let cut_off = truth::logged(&stack.media[0], "a session was cut off");
    let cut_off: Vec<Recorded> = cut_off
        .into_iter()
        .map(|line| serde_json::from_value(line).unwrap())
        .collect();
    assert!(cut_off.len() >= cut.len(), "{} of {}", cut_off.len(), cut.len());
    let began = Instant::now();
    let whole = eventually("the rest of what the node had on disk", scale::catch_up(), || async {
        let (keys, turns) = (truth::keys(&stack).await?, truth::turns(&stack).await?);
        for call in &cut_off {
            let Some(key) = keys.get(&call.session_id) else {
                return Ok(None);
            };
            let recording = truth::stored(&stack, key).await?;
            if recording.frames() < call.frames || turns.get(&call.session_id).map_or(0, Vec::len) < call.turns as usize
            {
                return Ok(None);
            }
        }
        Ok(Some((keys, turns)))
    });
    let (keys, turns) = whole.await.unwrap();
    println!(
        "the rest was archived {:.1} s after the restart",
        began.elapsed().as_secs_f64()
    );
    let mut late_turns = 0;
    for call in &cut_off {
        let recording = truth::stored(&stack, &keys[&call.session_id]).await.unwrap();
        assert_eq!(recording.frames(), call.frames, "{}", call.session_id);
        let hashed = call.sha256.is_empty() || recording.sha256() == call.sha256;
        let same = hashed && recording.pcm() == left[&call.session_id].pcm;
        assert!(same, "{}: not what the node had recorded", call.session_id);
        truth::assert_turns(
            &call.session_id,
            turns.get(&call.session_id).unwrap_or(&Vec::new()),
            call.turns,
        );
        let before = rows_before.get(&call.session_id).map_or(0, Vec::len);
        late_turns += call.turns as usize - before.min(call.turns as usize);
    }
    println!(
        "{} sessions were cut off; {late_turns} of their turns came with the restart",
        cut_off.len()
    );
    truth::assert_whole(&stack, finished.len(), scale::catch_up()).await;
}
