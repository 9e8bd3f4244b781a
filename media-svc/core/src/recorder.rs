//! Puts caller and agent on one timeline and cuts it into chunks for the archive.
//!
//! The timeline is the call clock: frame `n` of the recording is what was heard at `n / sample_rate` seconds of the
//! call. Caller audio arrives with network jitter and from another clock; it stays in one piece as long as it arrives
//! about when it should, is slewed back slowly when the clocks drift apart, and real gaps are silence.

mod playing;
mod track;

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use self::playing::Playing;
use self::track::Track;
pub use self::track::{Side, Stretch};
use crate::Time;

/// How long audio may still move before it is given out: longer than a jitter burst and the playout lead.
pub const HORIZON: Duration = Duration::from_millis(400);
/// Shortest chunk given out while the call goes on.
pub const MIN_CHUNK: Duration = Duration::from_millis(200);
/// Longest chunk, so that a chunk fits a message even after a stall.
pub const MAX_CHUNK: Duration = Duration::from_secs(5);

/// Caller audio that comes no later than this belongs directly to what came before, as far as anybody can tell at once.
const LATE_TOLERANCE: Duration = Duration::from_millis(100);
/// Caller audio that comes earlier than this is a stall that ends; there is no room for what is too much.
const EARLY_TOLERANCE: Duration = Duration::from_millis(60);
/// The same for agent audio, whose times are our own.
const AGENT_TOLERANCE: Duration = Duration::from_millis(20);
/// Mean deviation from which caller audio is slewed, one sample a frame (0.6 % at 8 kHz: inaudible).
const SLEW_FROM: Duration = Duration::from_millis(5);
/// Half of a lost packet of 20 ms: caller audio that keeps coming later than this does so because something was lost
/// without a trace, audio that comes less late has met with jitter.
const HALF_A_LOSS: Duration = Duration::from_millis(10);
/// By how much arrivals must together exceed [`HALF_A_LOSS`] before that is believed, on a network without jitter.
const LEAST_EVIDENCE: Duration = Duration::from_millis(30);
/// What jitter adds to that, for its square over [`HALF_A_LOSS`]: what it brings by chance stays below, also
/// where one late arrival makes the next ones late. Where jitter is nearly as large as a loss, [`HORIZON`] is too short to
/// tell one from the other, and nothing is moved: only who knows the caller's times can put silence there.
const EVIDENCE_FOR_JITTER: f64 = 18.0;
/// Of how many arrivals it is remembered where their audio stands: 360 ms, just within [`HORIZON`].
const REMEMBERED_ARRIVALS: usize = 18;
/// Weight of one arrival in the mean deviation: about 5 s of 20 ms frames.
const DEVIATION_WEIGHT: f64 = 1.0 / 256.0;
/// Arrivals that decide where audio after a pause stands, until it has to be given out.
const FIRST_ARRIVALS: usize = 64;
const BYTES_PER_SAMPLE: usize = 2;

/// Consecutive audio of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedChunk {
    /// Position of the first frame since the call began, in frames (one sample of every channel).
    pub first_frame: u64,
    /// Interleaved signed 16-bit little-endian samples.
    pub pcm: Vec<u8>,
}

/// Consecutive audio of both sides, before they become channels.
#[derive(Debug, PartialEq, Eq)]
pub struct Sides {
    /// Position of the first frame since the call began.
    pub first_frame: u64,
    /// The caller.
    pub caller: Side,
    /// The agent, of the same length.
    pub agent: Side,
}

/// How many channels a recording has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// Caller and agent mixed at full level, saturating.
    Mono,
    /// Caller left, agent right.
    Stereo,
}

impl Channels {
    /// As written to a WAV header.
    pub fn count(self) -> u32 {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// Aligns both sides of a call. Keeps only what is younger than [`HORIZON`], as long as chunks are taken.
#[derive(Debug)]
pub struct Recorder {
    sample_rate_hz: u32,
    channels: Channels,
    caller: Track,
    agent: Track,
    /// Arrivals of the audio after the last pause, less what of it came before, in frames, until its place is settled.
    origins: Option<Vec<u64>>,
    /// How late audio comes on average, in frames.
    deviation: f64,
    /// By how much that differs from one arrival to the next, on average: what is lost does not show in it.
    jitter: f64,
    /// Where the audio of the last arrivals stands, and how late each came, in frames.
    arrivals: VecDeque<(u64, f64)>,
    /// Samples given for each side so far.
    heard: u64,
    spoken: u64,
    /// Frames given out so far.
    given: u64,
    hash: Sha256,
}

impl Recorder {
    /// Starts a recording at call time 0.
    pub fn new(sample_rate_hz: u32, channels: Channels) -> Self {
        Self {
            sample_rate_hz,
            channels,
            caller: Track::default(),
            agent: Track::default(),
            origins: None,
            deviation: 0.0,
            jitter: 0.0,
            arrivals: VecDeque::with_capacity(REMEMBERED_ARRIVALS),
            heard: 0,
            spoken: 0,
            given: 0,
            hash: Sha256::new(),
        }
    }

    /// Caller audio that has arrived completely at `now`, at the recorder's rate.
    pub fn caller(&mut self, now: Time, samples: &[i16]) {
        if samples.is_empty() {
            return;
        }
        let number = self.heard;
        self.heard += samples.len() as u64;
        let arrived = self.frame_at(now).saturating_sub(samples.len() as u64).max(self.given);
        let expected = self.caller.end().max(self.given);
        let tolerance = self.frame_at(LATE_TOLERANCE);
        if self.caller.end() < self.given || self.caller.is_empty() || arrived > expected + tolerance {
            self.forget_lateness();
            self.origins = Some(vec![arrived]);
            self.caller.begin_run(arrived);
            self.caller.append(samples, number);
            return;
        }
        if let Some(origins) = &mut self.origins
            && origins.len() < FIRST_ARRIVALS
        {
            origins.push(arrived.saturating_sub(self.caller.last_len()));
        }
        // Early audio means that the gap before it, if there was one, was the network's and not the caller's.
        let early = expected.saturating_sub(arrived);
        let closed = self.caller.close_gap(early, self.given);
        for (position, late) in &mut self.arrivals {
            *position = position.saturating_sub(closed);
            *late += closed as f64;
        }
        let overlap = early - closed;
        if overlap > self.frame_at(EARLY_TOLERANCE) {
            self.forget_lateness();
            let skip = usize::try_from(overlap).unwrap_or(usize::MAX);
            self.caller
                .append(samples.get(skip..).unwrap_or_default(), number + overlap);
        } else {
            let deviation = arrived.saturating_sub(expected) as f64 - overlap as f64;
            self.deviation += (deviation - self.deviation) * DEVIATION_WEIGHT;
            if let Some((_, last)) = self.arrivals.back() {
                self.jitter += ((deviation - last).abs() - self.jitter) * DEVIATION_WEIGHT;
            }
            if self.arrivals.len() == REMEMBERED_ARRIVALS {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back((self.caller.end(), deviation));
            self.append_slewed(samples, number);
            self.open_gap();
        }
    }

    /// Agent audio that the caller begins to hear at `due`, at the recorder's rate. Audio sent ahead of time may be
    /// given with the time it was sent: it then follows directly on what came before.
    pub fn agent(&mut self, due: Time, samples: &[i16]) {
        let due = self.frame_at(due).max(self.given);
        let expected = self.agent.end().max(self.given);
        if self.agent.end() < self.given || self.agent.is_empty() || due > expected + self.frame_at(AGENT_TOLERANCE) {
            self.agent.begin_run(due.max(expected));
        }
        self.agent.append(samples, self.spoken);
        self.spoken += samples.len() as u64;
    }

    /// The agent was cut off: the last `unheard` of the samples given were not heard. What of them was given out already
    /// stays: they would have had to be heard more than [`HORIZON`] ago.
    pub fn agent_cut(&mut self, unheard: u64) {
        self.agent.drop_last(unheard);
    }

    /// The next chunk of what cannot change any more; call again until `None`.
    pub fn take_chunk(&mut self, now: Time) -> Option<RecordedChunk> {
        let sides = self.take_sides(now)?;
        Some(self.mix(sides.first_frame, &sides.caller.samples, &sides.agent.samples))
    }

    /// When the agent has been heard to the end, by what was given so far.
    pub fn agent_end(&self) -> Time {
        let nanos = u128::from(self.agent.end()) * 1_000_000_000;
        let nanos = nanos.div_ceil(u128::from(self.sample_rate_hz.max(1)));
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Everything left, up to the end of the call at `now`; call again until `None`. Nothing may be added afterwards.
    pub fn finish(&mut self, now: Time) -> Option<RecordedChunk> {
        let sides = self.finish_sides(now)?;
        Some(self.mix(sides.first_frame, &sides.caller.samples, &sides.agent.samples))
    }

    /// The same as [`Self::take_chunk`] for who changes something before [`Self::mix`].
    pub fn take_sides(&mut self, now: Time) -> Option<Sides> {
        let settled = self.frame_at(now.saturating_sub(HORIZON));
        if settled.saturating_sub(self.given) < self.frame_at(MIN_CHUNK).max(1) {
            return None;
        }
        let end = settled.min(self.given + self.frame_at(MAX_CHUNK));
        self.settle_origin(end);
        self.give(end)
    }

    /// The same as [`Self::finish`] for who changes something before [`Self::mix`].
    pub fn finish_sides(&mut self, now: Time) -> Option<Sides> {
        let end = self.frame_at(now).min(self.given + self.frame_at(MAX_CHUNK));
        self.give(end)
    }

    /// Makes a chunk of both sides, and counts it into the hash. Chunks come in order.
    pub fn mix(&mut self, first_frame: u64, caller: &[i16], agent: &[i16]) -> RecordedChunk {
        let mut pcm = Vec::with_capacity(caller.len() * BYTES_PER_SAMPLE * self.channels.count() as usize);
        for (left, right) in caller.iter().zip(agent) {
            match self.channels {
                Channels::Mono => pcm.extend_from_slice(&left.saturating_add(*right).to_le_bytes()),
                Channels::Stereo => {
                    pcm.extend_from_slice(&left.to_le_bytes());
                    pcm.extend_from_slice(&right.to_le_bytes());
                }
            }
        }
        self.hash.update(&pcm);
        RecordedChunk { first_frame, pcm }
    }

    /// Samples given for the caller so far: the number of the next one.
    pub fn caller_samples(&self) -> u64 {
        self.heard
    }

    /// Samples given for the agent so far: the number of the next one.
    pub fn agent_samples(&self) -> u64 {
        self.spoken
    }

    /// Frames given out so far; after [`Self::finish`] the length of the recording.
    pub fn total_frames(&self) -> u64 {
        self.given
    }

    /// SHA-256 of all chunks so far.
    pub fn sha256(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Audio held for later chunks, in samples of both sides.
    pub fn held_samples(&self) -> usize {
        self.caller.len() + self.agent.len()
    }

    fn frame_at(&self, time: Time) -> u64 {
        let frames = time.as_nanos() * u128::from(self.sample_rate_hz) / 1_000_000_000;
        u64::try_from(frames).unwrap_or(u64::MAX)
    }

    fn forget_lateness(&mut self) {
        self.deviation = 0.0;
        self.arrivals.clear();
    }

    /// Says where audio after a pause stands, before any of it is given out. Until now that was where the earliest of it
    /// came: in jitter that is sooner than most, and what a stall has made late is less than three quarters.
    fn settle_origin(&mut self, end: u64) {
        let Some(first) = self.caller.last_start().filter(|first| *first < end) else {
            return;
        };
        let Some(mut origins) = self.origins.take() else { return };
        let steps = origins.windows(2).map(|pair| match pair {
            [one, next] => one.abs_diff(*next) as f64,
            _ => 0.0,
        });
        let count = origins.len() as f64;
        let jitter = steps.sum::<f64>() / count;
        origins.sort_unstable();
        let Some(quarter) = origins.get(origins.len() / 4) else {
            return;
        };
        let shift = quarter.saturating_sub(first);
        self.caller.delay_last(shift);
        let mean = origins.iter().map(|origin| *origin as f64).sum::<f64>() / count;
        self.forget_lateness();
        self.jitter = self.jitter.max(jitter);
        self.deviation = mean - (first + shift) as f64;
    }

    /// Moves the last arrivals back when they are late together: what was lost before them was as long as that.
    fn open_gap(&mut self) {
        if self.origins.is_some() {
            return;
        }
        let half = self.frame_at(HALF_A_LOSS) as f64;
        let (first, evidence) = self.first_late(half);
        let jitter = EVIDENCE_FOR_JITTER * self.jitter * self.jitter / half;
        if evidence < self.frame_at(LEAST_EVIDENCE) as f64 + jitter {
            return;
        }
        let Some((from, _)) = self.arrivals.get(first).copied() else {
            return;
        };
        let late = self.arrivals.iter().skip(first).map(|(_, late)| *late);
        let shift = (late.sum::<f64>() / (self.arrivals.len() - first) as f64) as u64;
        self.caller.shift_from(from.max(self.given), shift);
        for (position, late) in self.arrivals.iter_mut().skip(first) {
            *position += shift;
            *late -= shift as f64;
        }
        self.deviation = 0.0;
    }

    /// The arrival from which on the lateness is best told from that before it, by a cumulative sum, and that sum: jitter
    /// hides single ones.
    fn first_late(&self, half: f64) -> (usize, f64) {
        let (mut sum, mut most, mut first) = (0.0, f64::MIN, 0);
        for (index, (_, late)) in self.arrivals.iter().enumerate().rev() {
            sum += late - half;
            if sum >= most {
                (most, first) = (sum, index);
            }
        }
        (first, most)
    }

    fn append_slewed(&mut self, samples: &[i16], number: u64) {
        let limit = self.frame_at(SLEW_FROM) as f64;
        let (late, early) = (self.deviation > limit, self.deviation < -limit);
        if late {
            self.caller.append(samples.get(..1).unwrap_or_default(), number);
            self.deviation -= 1.0;
        } else if early {
            self.deviation += 1.0;
        }
        if early {
            self.caller.append(samples.get(1..).unwrap_or_default(), number + 1);
        } else {
            self.caller.append(samples, number);
        }
    }

    fn give(&mut self, end: u64) -> Option<Sides> {
        let first_frame = self.given;
        let frames = usize::try_from(end.checked_sub(first_frame)?)
            .ok()
            .filter(|frames| *frames > 0)?;
        self.given = end;
        Some(Sides {
            first_frame,
            caller: self.caller.take(first_frame, frames),
            agent: self.agent.take(first_frame, frames),
        })
    }
}
