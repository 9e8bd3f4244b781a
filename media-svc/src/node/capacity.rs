//! What a node can carry, as it measures it.
//!
//! A node sends a frame of audio every 20 ms for each of its calls. When it has more calls than it can carry, frames leave
//! late before anything else is noticed, and callers hear gaps. So every [`NODE_HEARTBEAT`] the node looks at how many
//! frames left late and how much processor time it used, and adjusts the number of sessions it says it can carry:
//! multiplicative decrease when it is strained, additive increase when it is not (the rule of TCP's congestion window, RFC
//! 5681, which converges for the same reason: it backs off faster than it creeps up).
//!
//! - **Strained** is a window in which more than [`LATE_SHARE`] of the frames left more than [`LATE_SECS`] late, or more
//!   than [`BUSY_CPU`] of the processors' time was used. One such window may be bad luck; the capacity is cut at the second
//!   in a row and at every further one, to [`CUT`] of what runs (not of what was allowed: a strained node that is half full
//!   can carry less than half; and no faster than calls end: each may take minutes).
//! - **At ease** is a window with few late frames and less than [`EASY_CPU`]. The capacity then grows by one part in
//!   [`STEP_PARTS`] of its limit, but only while it is needed: while at least [`USED_PARTS`] of it are used, or after a cut.
//! - In between, nothing changes.
//!
//! No call is ended for it: with more calls than its capacity a node takes no new ones and reports what runs, which is no free
//! slot. The capacity is never more than `media.max_sessions`. Where that is not set it begins with
//! [`SESSIONS_PER_CORE`](crate::call::registry::SESSIONS_PER_CORE) for each core, or with
//! [`LOCAL_SESSIONS_PER_CORE`](crate::call::registry::LOCAL_SESSIONS_PER_CORE), and has no upper limit: a node whose providers
//! are elsewhere carries far more than one with local speech.
//!
//! [`NODE_HEARTBEAT`]: session_store::NODE_HEARTBEAT

use std::num::NonZeroUsize;
use std::time::Duration;

/// Later than this a frame is late: the far end plays the one before it for 20 ms, and a jitter buffer hides as much again.
pub const LATE_SECS: f64 = 0.03;
/// More than this part of a window's frames late is strain.
pub const LATE_SHARE: f64 = 0.02;
/// Fewer frames than this say nothing: one call sends 100 in a window.
const ENOUGH_FRAMES: u64 = 50;
/// More than this part of all processors' time is strain: what is left is gone when several turns end together.
pub const BUSY_CPU: f64 = 0.9;
/// Less than this part of all processors' time leaves room for more.
pub const EASY_CPU: f64 = 0.7;
/// Strained windows in a row before the first cut.
const PATIENCE: u32 = 2;
/// What is left of the carried sessions after a cut.
pub const CUT: f64 = 0.9;
/// The capacity grows by one part in this many of where it began, and by one at least.
pub const STEP_PARTS: usize = 20;
/// The capacity is needed when at least 4 of 5 parts of it are used.
pub const USED_PARTS: (usize, usize) = (4, 5);

/// What was measured since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Window {
    /// Calls and reservations.
    pub sessions: usize,
    /// Frames that left.
    pub frames: u64,
    /// Those of them that left late.
    pub late: u64,
    /// Part of all processors' time that this process used, 0 to 1.
    pub cpu: f64,
}

impl Window {
    fn is_late(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "frames of two seconds")]
        let late = self.late as f64 > LATE_SHARE * self.frames as f64;
        self.frames >= ENOUGH_FRAMES && late
    }

    fn is_strained(&self) -> bool {
        self.is_late() || self.cpu > BUSY_CPU
    }

    fn is_easy(&self) -> bool {
        !self.is_late() && self.cpu < EASY_CPU
    }
}

/// The number of sessions that a node says it can carry.
#[derive(Debug)]
pub struct Capacity {
    now: usize,
    began: usize,
    most: Option<NonZeroUsize>,
    strained: u32,
}

impl Capacity {
    /// Begins with `began` sessions, and never allows more than `most`.
    pub fn new(began: usize, most: Option<NonZeroUsize>) -> Self {
        Self {
            now: began,
            began,
            most,
            strained: 0,
        }
    }

    /// Takes a window into account and answers what the node can carry; that may be less than what runs.
    pub fn observe(&mut self, window: &Window) -> usize {
        if window.is_strained() {
            self.strained = self.strained.saturating_add(1);
            if self.strained >= PATIENCE {
                self.now = self.now.min(cut(window.sessions));
            }
        } else {
            self.strained = 0;
            let (used, parts) = USED_PARTS;
            let needed = window.sessions * parts >= self.now * used || self.now < self.began;
            if window.is_easy() && needed {
                self.now += (self.began / STEP_PARTS).max(1);
            }
        }
        let most = self.most.map_or(usize::MAX, NonZeroUsize::get);
        self.now = self.now.min(most).max(1);
        self.now
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of sessions"
)]
fn cut(sessions: usize) -> usize {
    (sessions as f64 * CUT) as usize
}

/// Reads what the process has measured: each reading is what came since the one before.
#[derive(Debug)]
pub struct Gauge {
    frames: u64,
    late: u64,
    cpu: Duration,
    at: tokio::time::Instant,
}

impl Gauge {
    /// Begins now.
    pub fn new() -> Self {
        let (frames, late) = frames();
        Self {
            frames,
            late,
            cpu: cpu_time(),
            at: tokio::time::Instant::now(),
        }
    }

    /// What happened since the last reading, with this many sessions now.
    pub fn read(&mut self, sessions: usize) -> Window {
        let before = std::mem::take(self);
        let processors = std::thread::available_parallelism()
            .map_or(1.0, |count| u32::try_from(count.get()).map_or(f64::MAX, f64::from));
        let elapsed = self.at.duration_since(before.at).as_secs_f64();
        let used = self.cpu.saturating_sub(before.cpu).as_secs_f64();
        Window {
            sessions,
            frames: self.frames.saturating_sub(before.frames),
            late: self.late.saturating_sub(before.late),
            cpu: if elapsed > 0.0 {
                used / (elapsed * processors)
            } else {
                0.0
            },
        }
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self::new()
    }
}

/// Frames that this process has sent and how many of them were late, by `voxray_frame_lateness_seconds`.
fn frames() -> (u64, u64) {
    use prometheus::core::Collector;
    let mut all = (0, 0);
    for family in crate::metrics::FRAME_LATENESS.collect() {
        for metric in family.get_metric() {
            let histogram = metric.get_histogram();
            let in_time = histogram
                .get_bucket()
                .iter()
                .filter(|bucket| bucket.upper_bound() <= LATE_SECS)
                .map(prometheus::proto::Bucket::cumulative_count)
                .max()
                .unwrap_or(0);
            all.0 += histogram.get_sample_count();
            all.1 += histogram.get_sample_count().saturating_sub(in_time);
        }
    }
    all
}

/// Processor time that this process has used so far.
fn cpu_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(used.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests;
