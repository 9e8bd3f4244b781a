//! The clock of outgoing audio, and how far it has been heard.

use std::collections::VecDeque;
use std::time::Duration;

use super::{FRAME, MarkId};
use crate::Time;

/// Lateness from which the schedule starts again instead of catching up with a burst.
const MAX_CATCH_UP: Duration = Duration::from_millis(100);
/// How long after the clock says so a mark may come before the clock is believed.
const MARK_GRACE: Duration = Duration::from_secs(1);

/// Decides when frames may be sent: every 20 ms of audio in its time, at most the lead ahead.
#[derive(Debug)]
pub(super) struct Pacer {
    frame_samples: usize,
    lead: Duration,
    /// When the next frame begins to be heard.
    next_at: Time,
    /// There was nothing to send: the far end may have run out of audio.
    dry: bool,
}

impl Pacer {
    pub(super) fn new(rate_hz: u32, lead: Duration) -> Self {
        let frame_samples = (rate_hz * crate::audio::FRAME_MS / 1_000).max(1) as usize;
        Self {
            frame_samples,
            lead: lead.max(FRAME),
            next_at: Time::ZERO,
            dry: true,
        }
    }

    pub(super) fn frame_samples(&self) -> usize {
        self.frame_samples
    }

    /// When the next frame may be sent.
    pub(super) fn due(&self) -> Time {
        (self.next_at + FRAME).saturating_sub(self.lead)
    }

    /// Schedules one frame, if it may be sent now; returns when it begins to be heard.
    pub(super) fn admit(&mut self, now: Time) -> Option<Time> {
        let late = now.saturating_sub(self.next_at);
        if (self.dry && !late.is_zero()) || late > MAX_CATCH_UP {
            self.next_at = now;
        }
        if self.due() > now {
            return None;
        }
        self.dry = false;
        let start = self.next_at;
        self.next_at += FRAME;
        Some(start)
    }

    /// When everything sent has been heard.
    pub(super) fn end(&self) -> Time {
        self.next_at
    }

    pub(super) fn ran_dry(&mut self) {
        self.dry = true;
    }

    /// The far end has dropped what it had not played.
    pub(super) fn cleared(&mut self, now: Time) {
        self.next_at = now;
        self.dry = true;
    }
}

/// When the frames of one turn are heard if the far end plays them in time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    runs: Vec<Run>,
    frames: u64,
}

/// Frames that follow each other without a gap.
#[derive(Debug)]
struct Run {
    start: Time,
    first: u64,
    frames: u64,
}

impl Run {
    fn end(&self) -> Time {
        self.start + FRAME * u32::try_from(self.frames).unwrap_or(u32::MAX)
    }
}

impl Schedule {
    /// Frames sent so far.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn sent(&mut self, start: Time) {
        match self.runs.last_mut() {
            Some(run) if run.end() == start => run.frames += 1,
            Some(_) | None => self.runs.push(Run {
                start,
                first: self.frames,
                frames: 1,
            }),
        }
        self.frames += 1;
    }

    /// Frames heard completely by `time`.
    fn heard_by(&self, time: Time) -> u64 {
        let Some(run) = self.runs.iter().rev().find(|run| run.start <= time) else {
            return 0;
        };
        let whole = (time - run.start).as_nanos() / FRAME.as_nanos();
        run.first + run.frames.min(u64::try_from(whole).unwrap_or(u64::MAX))
    }
}

/// Marks on their way, and what the far end's answers have taught about its delay.
#[derive(Debug)]
pub(super) struct Marks {
    mode: Mode,
    waiting: VecDeque<Waiting>,
    /// Frames of this turn known to be heard.
    confirmed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// The far end has no marks, or has never answered one: only the clock counts.
    Clock,
    /// Marks are sent; none has come back yet.
    Untried,
    /// Marks come back this long after the audio should have been heard.
    Answered { delay: Duration },
}

#[derive(Debug)]
struct Waiting {
    mark: MarkId,
    /// Frames of the turn in front of the mark.
    position: u64,
    /// When it is heard by the clock.
    at: Time,
}

impl Marks {
    pub(super) fn new(far_end_marks: bool) -> Self {
        let mode = if far_end_marks { Mode::Untried } else { Mode::Clock };
        Self {
            mode,
            waiting: VecDeque::new(),
            confirmed: 0,
        }
    }

    /// A mark was sent behind `position` frames of the turn, which are heard by `at`.
    pub(super) fn sent(&mut self, mark: MarkId, position: u64, at: Time) {
        self.waiting.push_back(Waiting { mark, position, at });
    }

    pub(super) fn played(&mut self, mark: MarkId, now: Time) {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.mark == mark) else {
            return;
        };
        for waiting in self.waiting.drain(..=index) {
            self.confirmed = waiting.position;
            self.mode = Mode::Answered {
                delay: now.saturating_sub(waiting.at).min(MARK_GRACE),
            };
        }
    }

    /// Believes the clock for marks that are overdue; for all of them if none was ever answered.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(due) = self.deadline().filter(|due| *due <= now) {
            let Some(waiting) = self.waiting.pop_front() else {
                return;
            };
            debug_assert!(
                waiting.at <= due,
                "a mark is due when the clock says it was heard, or later"
            );
            self.confirmed = waiting.position;
            if matches!(self.mode, Mode::Untried) {
                self.mode = Mode::Clock;
            }
        }
    }

    /// When the next mark is no longer waited for.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.front().map(|waiting| match self.mode {
            Mode::Clock => waiting.at,
            Mode::Untried => waiting.at + MARK_GRACE,
            Mode::Answered { delay } => waiting.at + delay + MARK_GRACE,
        })
    }

    /// Frames of the turn that were heard by `now`.
    pub(super) fn heard(&self, schedule: &Schedule, now: Time) -> u64 {
        let (delay, believed) = match self.mode {
            Mode::Clock => (Duration::ZERO, true),
            Mode::Untried => (Duration::ZERO, false),
            Mode::Answered { delay } => (delay, false),
        };
        let clock = schedule.heard_by(now.saturating_sub(delay)).max(self.confirmed);
        // What lies behind a mark that has not come back cannot have been heard.
        self.waiting
            .front()
            .filter(|_| !believed)
            .map_or(clock, |waiting| clock.min(waiting.position))
    }

    /// How long after the clock says so audio is heard, as far as marks have taught it.
    pub(super) fn delay(&self) -> Duration {
        match self.mode {
            Mode::Clock | Mode::Untried => Duration::ZERO,
            Mode::Answered { delay } => delay,
        }
    }

    /// When everything sent was heard by the clock and the far end's delay; marks may say so earlier.
    pub(super) fn heard_at(&self, end: Time) -> Time {
        end + self.delay()
    }

    /// Forgets the turn; answers to its marks mean nothing any more.
    pub(super) fn forget_turn(&mut self) {
        self.waiting.clear();
        self.confirmed = 0;
    }
}
