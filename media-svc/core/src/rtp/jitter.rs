//! The jitter buffer: puts packets in order, waits for missing ones, gives them up in time.
//!
//! What comes in order is handed on at once: recognition has no loudspeaker that must never run dry, and every
//! millisecond waited is one that the answer comes later. Only a gap makes it wait, as long as packets of this stream
//! have lately been overtaken by, 20 to 200 ms; then the missing ones are given up, the last of a gap together with the
//! packet whose copy may replace it.
//!
//! Discontinuous transmission leaves gaps in time, but none in the sequence: they come out as silence, while they last
//! where the sender has announced one by a packet of a byte or two.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::Time;

/// Wait for a missing packet while the network keeps order.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// Longest wait for a missing packet.
pub const LONGEST_WAIT: Duration = Duration::from_millis(200);
/// A jump of more packets than this, in either direction, is another stream and no loss (RFC 3550, appendix A.1, allows
/// 3000; here they are 20 ms each).
const LARGEST_GAP: u64 = 100;
/// Packets that wait behind a gap at most; more push the gap out. Four seconds' worth of 20 ms cannot wait 200 ms.
const MOST_WAITING: usize = 64;
/// Packets given up that are still recognised as late when they come.
const GIVEN_UP: usize = 128;
/// Longest silence made of a gap in time.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);
/// A payload of at most so many bytes says that nothing follows for a while (Opus, RFC 6716, section 2.1.9).
const DTX_BYTES: usize = 2;
/// How fast what was seen of overtaking is forgotten: a part of it with every packet, half in 7 s.
const FORGET: u32 = 512;

/// One packet's audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Sequence number.
    pub sequence: u16,
    /// RTP time of its first sample.
    pub timestamp: u32,
    /// How long it is, in clock units; 0 for a packet that carries no audio but counts in the sequence.
    pub duration: u32,
    /// Encoded.
    pub payload: Bytes,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It will be played.
    Kept,
    /// It came twice.
    Duplicate,
    /// It had been given up.
    Late,
}

/// What is to be heard next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Playout {
    /// A packet.
    Frame(Frame),
    /// A packet that did not come.
    Lost {
        /// How long it was, in clock units.
        duration: u32,
        /// The packet after it, if that is there.
        next: Option<Bytes>,
    },
    /// Nothing was said.
    Silence {
        /// For how long, in clock units.
        duration: u32,
    },
}

/// What a stream has been like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterReport {
    /// Packets that came in time.
    pub received: u64,
    /// Packets that did not, or too late.
    pub lost: u64,
    /// Of those, packets that came too late.
    pub late: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter: Duration,
    /// How long a missing packet is waited for at present.
    pub wait: Duration,
}

impl JitterReport {
    /// The packets of an earlier stream of the same call counted with these.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        Self {
            received: self.received + earlier.received,
            lost: self.lost + earlier.lost,
            late: self.late + earlier.late,
            duplicates: self.duplicates + earlier.duplicates,
            ..self
        }
    }

    /// What did not come in time of all that was sent, percent.
    pub fn loss_percent(&self) -> f64 {
        let sent = self.received + self.lost;
        100.0 * self.lost as f64 / sent.max(1) as f64
    }
}

/// Puts one stream in order.
#[derive(Debug)]
pub struct JitterBuffer {
    clock_hz: u32,
    /// What comes next, once something has come.
    next: Option<Position>,
    waiting: BTreeMap<u64, Held>,
    given_up: VecDeque<u64>,
    /// Longest time by which a packet was overtaken, slowly forgotten.
    overtaken: Duration,
    /// When the next piece of an announced silence is due.
    quiet: Option<Time>,
    last_transit: Option<i64>,
    /// Interarrival jitter in sixteenths of a clock unit.
    jitter_16: u64,
    received: u64,
    lost: u64,
    late: u64,
    duplicates: u64,
}

/// A place in the stream; sequence and time do not wrap.
#[derive(Debug, Clone, Copy)]
struct Position {
    sequence: u64,
    timestamp: u64,
    /// Length of the last packet that had one.
    duration: u32,
}

#[derive(Debug)]
struct Held {
    frame: Frame,
    timestamp: u64,
    arrived: Time,
}

impl JitterBuffer {
    /// For a stream whose RTP clock ticks at this rate.
    pub fn new(clock_hz: u32) -> Self {
        Self {
            clock_hz: clock_hz.max(1),
            next: None,
            waiting: BTreeMap::new(),
            given_up: VecDeque::new(),
            overtaken: Duration::ZERO,
            quiet: None,
            last_transit: None,
            jitter_16: 0,
            received: 0,
            lost: 0,
            late: 0,
            duplicates: 0,
        }
    }

    /// Takes a packet.
    pub fn push(&mut self, now: Time, frame: Frame) -> Arrival {
        let Some(next) = self.next else {
            self.start(now, frame);
            return Arrival::Kept;
        };
        let sequence = unwrapped(
            next.sequence,
            i64::from(frame.sequence.wrapping_sub(next.sequence as u16) as i16),
        );
        let ahead = i64::from(frame.timestamp.wrapping_sub(next.timestamp as u32) as i32);
        let timestamp = unwrapped(next.timestamp, ahead);
        if sequence.abs_diff(next.sequence) > LARGEST_GAP {
            if self.is_outage(now, next, sequence, timestamp) {
                let missing = sequence.saturating_sub(next.sequence);
                self.lost += missing.saturating_sub(self.waiting.len() as u64);
            }
            // What waits belongs to a stream that is over.
            self.waiting.clear();
            self.given_up.clear();
            self.last_transit = None;
            self.start(now, frame);
            return Arrival::Kept;
        }
        if sequence < next.sequence {
            return self.too_late(sequence);
        }
        if self.waiting.contains_key(&sequence) {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        self.measure(now, timestamp);
        let gap_since = self.waiting.range(sequence..).map(|(_, held)| held.arrived).min();
        if let Some(since) = gap_since {
            self.overtaken = self.overtaken.max(now.saturating_sub(since));
        } else {
            self.overtaken = self.overtaken.saturating_sub(self.overtaken / FORGET);
        }
        self.hold(now, sequence, timestamp, frame);
        Arrival::Kept
    }

    /// What is to be heard now; `None` when that is still to come.
    pub fn pop(&mut self, now: Time) -> Option<Playout> {
        loop {
            let next = self.next?;
            let Some((&sequence, first)) = self.waiting.first_key_value() else {
                return self.pop_quiet(now, next);
            };
            if sequence > next.sequence {
                let too_many = self.waiting.len() > MOST_WAITING;
                let waited_from = self.gap_since()?;
                return (too_many || now >= waited_from + self.wait()).then(|| self.give_up(next, sequence));
            }
            let gap = first.timestamp.saturating_sub(next.timestamp);
            if gap > 0 && first.frame.duration > 0 {
                let longest = LONGEST_SILENCE.as_secs() * u64::from(self.clock_hz);
                self.advance(|next| next.timestamp += gap);
                return Some(Playout::Silence {
                    duration: u32::try_from(gap.min(longest)).unwrap_or(u32::MAX),
                });
            }
            let (_, held) = self.waiting.pop_first()?;
            self.take(&held, now);
            if held.frame.duration > 0 {
                return Some(Playout::Frame(held.frame));
            }
        }
    }

    /// When [`pop`](Self::pop) has something although nothing more comes.
    pub fn poll_deadline(&self) -> Option<Time> {
        match self.gap_since() {
            Some(since) => Some(since + self.wait()),
            None => self.quiet,
        }
    }

    /// What the stream has been like so far.
    pub fn report(&self) -> JitterReport {
        JitterReport {
            received: self.received,
            lost: self.lost,
            late: self.late,
            duplicates: self.duplicates,
            jitter: self.duration(self.jitter_16 / 16),
            wait: self.wait(),
        }
    }

    /// How long a missing packet is waited for: a quarter longer than packets have been overtaken by.
    fn wait(&self) -> Duration {
        (self.overtaken + self.overtaken / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Whether a packet so far ahead is of the same stream, of which too much was lost to make up for it: its time and
    /// the time that has passed are those of the packets in between.
    fn is_outage(&self, now: Time, next: Position, sequence: u64, timestamp: u64) -> bool {
        let missing = sequence.saturating_sub(next.sequence);
        let span = timestamp.saturating_sub(next.timestamp);
        let late = self
            .last_transit
            .map(|last| self.transit(now, timestamp).abs_diff(last));
        missing > 0
            && span == missing * u64::from(next.duration)
            && late.is_some_and(|late| late < u64::from(self.clock_hz))
    }

    fn start(&mut self, now: Time, frame: Frame) {
        let (sequence, timestamp) = (
            1 << 32 | u64::from(frame.sequence),
            1 << 40 | u64::from(frame.timestamp),
        );
        self.next = Some(Position {
            sequence,
            timestamp,
            duration: frame.duration,
        });
        self.measure(now, timestamp);
        self.hold(now, sequence, timestamp, frame);
    }

    fn hold(&mut self, now: Time, sequence: u64, timestamp: u64, frame: Frame) {
        self.received += 1;
        self.quiet = None;
        let held = Held {
            frame,
            timestamp,
            arrived: now,
        };
        self.waiting.insert(sequence, held);
    }

    fn too_late(&mut self, sequence: u64) -> Arrival {
        if let Some(at) = self.given_up.iter().position(|&given_up| given_up == sequence) {
            self.given_up.remove(at);
            self.late += 1;
            // It was later than the wait; by how much is not known.
            self.overtaken = (self.wait() * 3 / 2).min(LONGEST_WAIT);
            return Arrival::Late;
        }
        self.duplicates += 1;
        Arrival::Duplicate
    }

    /// Since when something waits behind a gap; `None` while nothing does.
    fn gap_since(&self) -> Option<Time> {
        self.waiting.values().map(|held| held.arrived).min()
    }

    fn give_up(&mut self, next: Position, first: u64) -> Playout {
        let missing = first - next.sequence;
        let held = self.waiting.get(&first);
        let gap = held.map_or(0, |held| held.timestamp.saturating_sub(next.timestamp));
        let longest = u64::from(self.clock_hz) * 120 / 1_000;
        let duration = match gap / missing {
            0 => u64::from(next.duration),
            share => share,
        };
        let following = held.filter(|_| missing == 1).map(|held| held.frame.payload.clone());
        self.lost += 1;
        if self.given_up.len() == GIVEN_UP {
            self.given_up.pop_front();
        }
        self.given_up.push_back(next.sequence);
        let duration = duration.min(longest);
        self.advance(|next| {
            next.sequence += 1;
            next.timestamp += duration.min(gap);
        });
        Playout::Lost {
            duration: u32::try_from(duration).unwrap_or(u32::MAX),
            next: following,
        }
    }

    fn take(&mut self, held: &Held, now: Time) {
        self.advance(|next| {
            next.sequence += 1;
            if held.frame.duration > 0 {
                next.timestamp = next.timestamp.max(held.timestamp + u64::from(held.frame.duration));
                next.duration = held.frame.duration;
            }
        });
        if held.frame.duration > 0 && held.frame.payload.len() <= DTX_BYTES {
            self.quiet = Some(now + self.duration(u64::from(held.frame.duration)));
        }
    }

    fn pop_quiet(&mut self, now: Time, next: Position) -> Option<Playout> {
        let due = self.quiet.filter(|&due| now >= due)?;
        self.quiet = Some(due + self.duration(u64::from(next.duration)));
        self.advance(|next| next.timestamp += u64::from(next.duration));
        Some(Playout::Silence {
            duration: next.duration,
        })
    }

    fn advance(&mut self, step: impl FnOnce(&mut Position)) {
        if let Some(next) = &mut self.next {
            step(next);
        }
    }

    fn measure(&mut self, now: Time, timestamp: u64) {
        let transit = self.transit(now, timestamp);
        if let Some(last) = self.last_transit.replace(transit) {
            // No two packets are a second apart by jitter: that is a sender's clock set anew.
            let difference = transit.abs_diff(last).min(u64::from(self.clock_hz));
            self.jitter_16 = self.jitter_16 - (self.jitter_16 + 8) / 16 + difference;
        }
    }

    fn transit(&self, now: Time, timestamp: u64) -> i64 {
        let arrived = now.as_micros() as i64 * i64::from(self.clock_hz) / 1_000_000;
        arrived.wrapping_sub(timestamp as i64)
    }

    fn duration(&self, units: u64) -> Duration {
        Duration::from_micros(units * 1_000_000 / u64::from(self.clock_hz))
    }
}

fn unwrapped(near: u64, difference: i64) -> u64 {
    near.saturating_add_signed(difference)
}

#[cfg(test)]
mod tests;
