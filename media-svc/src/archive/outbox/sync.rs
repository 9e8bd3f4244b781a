//! The one thread that waits for the disk: it flushes what was written, deletes what is not needed, and keeps the
//! watermarks and the gauges.

use std::fs::File;
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Active, Shared, State, aside, segment_path, watermarks};
use crate::metrics::{OUTBOX_DEPTH_BYTES, OUTBOX_FLUSH_SECONDS, OUTBOX_OLDEST_UNACKED_SECONDS};

/// How long written events wait to be flushed together.
pub(super) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// How often watermarks are written while acknowledgements arrive, and gauges set while some are missing.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// What one round has to do, taken out under the lock and done without it.
pub(super) struct Work {
    pub written: Vec<Active>,
    spent: Vec<u64>,
    watermarks: Option<Vec<(String, u64)>>,
    stop: bool,
}

/// What has been said already: a full disk says the same ten times a second.
#[derive(Default)]
pub(super) struct Complaints {
    flush: bool,
    watermarks: bool,
}

/// Whether this is the first failure in a row.
fn first_failure<T>(result: &io::Result<T>, said: &mut bool) -> bool {
    !std::mem::replace(said, result.is_err()) && result.is_err()
}

/// Runs until the outbox is dropped.
pub(super) fn run(shared: &Shared) {
    let mut last_round = Instant::now();
    let mut last_relief = last_round;
    // It was looked at when the folder was opened.
    let mut last_look = last_round;
    let mut complaints = Complaints::default();
    loop {
        let work = wait_for_work(shared, last_round);
        last_round = Instant::now();
        let flushed = flush(shared, &work.written, &mut complaints);
        delete(shared, &work, &mut complaints);
        finish_round(shared, &flushed);
        if shared.lock().pressure.is_on() && last_relief.elapsed() >= HOUSEKEEPING_INTERVAL {
            last_relief = Instant::now();
            shared.relieve();
        }
        if last_look.elapsed() >= aside::LOOK_EVERY {
            last_look = Instant::now();
            if let Err(error) = aside::forget_old(&shared.dir) {
                tracing::warn!(folder = %shared.dir.display(), %error, "cannot look for what was set aside of damaged outbox files");
            }
        }
        if work.stop {
            return;
        }
    }
}

fn wait_for_work(shared: &Shared, last_round: Instant) -> Work {
    let mut state = shared.lock();
    loop {
        let due = due(&state, last_round);
        let now = Instant::now();
        if due <= now {
            return take_work(&mut state);
        }
        let waited = shared.wake_sync.wait_timeout(state, due - now);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// When the next round is. An idle outbox still forgets what was set aside long ago.
pub(super) fn due(state: &State, last_round: Instant) -> Instant {
    if state.stop || state.flush_now {
        return last_round;
    }
    let busy = state.watermarks_changed || state.index.undurable() > 0 || state.pressure.is_on();
    let housekeeping = last_round + if busy { HOUSEKEEPING_INTERVAL } else { aside::LOOK_EVERY };
    let work = state.work_since.map(|since| since + FLUSH_INTERVAL);
    work.map_or(housekeeping, |work| work.min(housekeeping))
}

pub(super) fn take_work(state: &mut State) -> Work {
    state.work_since = None;
    state.flush_now = false;
    let mut written = std::mem::take(&mut state.unflushed);
    if let Some(active) = &mut state.active
        && active.bytes > active.flushed
    {
        written.push(active.clone());
        active.flushed = active.bytes;
    }
    let changed = std::mem::take(&mut state.watermarks_changed);
    let watermarks = changed.then(|| {
        let known = state.index.sessions().filter(|(_, session)| session.durable > 0);
        known
            .map(|(session_id, session)| (session_id.to_string(), session.durable))
            .collect()
    });
    Work {
        written,
        spent: std::mem::take(&mut state.spent),
        watermarks,
        stop: state.stop,
    }
}

/// Flushes files, oldest first. A flush that fails is reported and not waited for: the events are with the operating
/// system, and holding the archive up would only make the loss larger if power fails too.
pub(super) fn flush(shared: &Shared, written: &[Active], complaints: &mut Complaints) -> Vec<(u64, u64)> {
    let mut flushed = Vec::new();
    for active in written {
        let began = Instant::now();
        let result = active.file.sync_data().and_then(|()| {
            if active.flushed == 0 {
                flush_folder(shared)
            } else {
                Ok(())
            }
        });
        OUTBOX_FLUSH_SECONDS.observe(began.elapsed().as_secs_f64());
        let first = first_failure(&result, &mut complaints.flush);
        if let (Err(error), true) = (result, first) {
            let path = segment_path(&shared.dir, active.segment);
            tracing::error!(file = %path.display(), %error, "the outbox cannot be flushed to disk: a power loss now may lose events");
        }
        flushed.push((active.segment, active.bytes));
    }
    flushed
}

/// Makes a new file's name survive a power loss.
fn flush_folder(shared: &Shared) -> io::Result<()> {
    File::open(&shared.dir)?.sync_all()
}

fn delete(shared: &Shared, work: &Work, complaints: &mut Complaints) {
    if let Some(watermarks) = &work.watermarks {
        let written = watermarks::write(&shared.dir, watermarks, !work.spent.is_empty());
        let first = first_failure(&written, &mut complaints.watermarks);
        if let Err(error) = written {
            // A full disk gets no fuller by deleting; then they are tried again.
            shared.lock().watermarks_changed = true;
            if first {
                tracing::warn!(%error, "cannot write the outbox's watermarks; a restart would send more again than it must");
            }
        }
    }
    for segment in &work.spent {
        let path = segment_path(&shared.dir, *segment);
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "cannot delete a finished outbox file; delete it by hand");
        }
    }
}

pub(super) fn finish_round(shared: &Shared, flushed: &[(u64, u64)]) {
    let mut state = shared.lock();
    for (segment, bytes) in flushed {
        state.index.set_readable(*segment, *bytes);
    }
    let oldest = state.index.oldest_undurable_ms();
    let age_ms = oldest.map_or(0, |oldest| shared.ages.now_ms().saturating_sub(oldest));
    set_gauge(&OUTBOX_DEPTH_BYTES, state.used());
    set_gauge(&OUTBOX_OLDEST_UNACKED_SECONDS, age_ms / 1000);
    let undurable = state.index.undurable();
    // Under the lock, so that two reports cannot overtake each other.
    shared.progress.send_if_modified(|progress| {
        progress.undurable_events = undurable;
        progress.flushes += 1;
        !flushed.is_empty()
    });
}

fn set_gauge(gauge: &prometheus::IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
