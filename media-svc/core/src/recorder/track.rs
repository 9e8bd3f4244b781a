//! One side of a recording: where its audio stands, and which samples of what was given are there.

use std::collections::VecDeque;

/// A stretch of one side that is made of consecutive samples of what was given for that side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// First frame of the recording.
    pub frame: u64,
    /// Length in frames.
    pub frames: u64,
    /// Number of its first sample, counted from the first one ever given for this side.
    pub sample: u64,
}

/// Consecutive audio of one side.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// One sample a frame; zeros where nothing was given.
    pub samples: Vec<i16>,
    /// What of it was given, in order.
    pub stretches: Vec<Stretch>,
}

/// The numbers of consecutive samples: length and first number of each piece without a jump.
#[derive(Debug, Default)]
struct Numbers(VecDeque<(u64, u64)>);

impl Numbers {
    fn push(&mut self, length: u64, first: u64) {
        match self.0.back_mut() {
            Some((before, from)) if *from + *before == first => *before += length,
            Some(_) | None if length > 0 => self.0.push_back((length, first)),
            Some(_) | None => {}
        }
    }

    /// Removes this many from the front, and hands them on piece by piece.
    fn take(&mut self, mut count: u64, mut piece: impl FnMut(u64, u64)) {
        while count > 0 {
            let Some((length, first)) = self.0.front_mut() else {
                return;
            };
            let taken = count.min(*length);
            piece(taken, *first);
            *length -= taken;
            *first += taken;
            count -= taken;
            if *length == 0 {
                self.0.pop_front();
            }
        }
    }

    /// Keeps this many and returns the rest.
    fn split_off(&mut self, keep: u64) -> Self {
        let mut kept = Self::default();
        self.take(keep, |length, first| kept.push(length, first));
        std::mem::replace(self, kept)
    }
}

/// One side: stretches of audio in order, silence in between.
#[derive(Debug, Default)]
pub(super) struct Track {
    runs: VecDeque<Run>,
}

/// Audio without a gap.
#[derive(Debug)]
struct Run {
    start: u64,
    samples: VecDeque<i16>,
    numbers: Numbers,
}

impl Run {
    fn end(&self) -> u64 {
        self.start + self.samples.len() as u64
    }
}

impl Track {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Where the last run stands.
    pub(super) fn last_start(&self) -> Option<u64> {
        self.runs.back().map(|run| run.start)
    }

    pub(super) fn last_len(&self) -> u64 {
        self.runs.back().map_or(0, |run| run.samples.len() as u64)
    }

    /// Moves the last run away from what is before it.
    pub(super) fn delay_last(&mut self, by: u64) {
        if let Some(run) = self.runs.back_mut() {
            run.start += by;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(|run| run.samples.len()).sum()
    }

    /// Where the next sample follows without a gap.
    pub(super) fn end(&self) -> u64 {
        self.runs.back().map_or(0, Run::end)
    }

    pub(super) fn begin_run(&mut self, start: u64) {
        self.runs.push_back(Run {
            start,
            samples: VecDeque::new(),
            numbers: Numbers::default(),
        });
    }

    /// Adds samples of which the first has this number.
    pub(super) fn append(&mut self, samples: &[i16], number: u64) {
        if let Some(run) = self.runs.back_mut() {
            run.samples.extend(samples);
            run.numbers.push(samples.len() as u64, number);
        }
    }

    /// Moves the last run towards the one before it, by at most `excess` and not before `floor`; returns by how much.
    pub(super) fn close_gap(&mut self, excess: u64, floor: u64) -> u64 {
        let before = self.runs.iter().rev().nth(1).map_or(0, Run::end).max(floor);
        let Some(run) = self.runs.back_mut() else { return 0 };
        let shift = excess.min(run.start.saturating_sub(before));
        run.start -= shift;
        shift
    }

    /// Puts a gap of `by` before what stands at `position` in the last run.
    pub(super) fn shift_from(&mut self, position: u64, by: u64) {
        let Some(run) = self.runs.back_mut() else { return };
        let before = usize::try_from(position.saturating_sub(run.start)).unwrap_or(usize::MAX);
        let samples = run.samples.split_off(before.min(run.samples.len()));
        let numbers = run.numbers.split_off(run.samples.len() as u64);
        let start = run.end() + by;
        self.runs.push_back(Run {
            start,
            samples,
            numbers,
        });
    }

    /// Forgets the last `count` samples, as far as they are still here.
    pub(super) fn drop_last(&mut self, mut count: u64) {
        while count > 0
            && let Some(run) = self.runs.back_mut()
        {
            let length = run.samples.len() as u64;
            if count < length {
                run.samples
                    .truncate(usize::try_from(length - count).unwrap_or(usize::MAX));
                run.numbers.split_off(length - count);
                return;
            }
            count -= length;
            self.runs.pop_back();
        }
    }

    /// Removes and returns `frames` samples from `first` on; gaps are zeros. What was before `first` is forgotten.
    pub(super) fn take(&mut self, first: u64, frames: usize) -> Side {
        let end = first + frames as u64;
        let mut out = Vec::with_capacity(frames);
        let mut stretches = Vec::new();
        while let Some(run) = self.runs.front_mut() {
            if run.start >= end {
                break;
            }
            let position = first + out.len() as u64;
            if run.start > position {
                out.resize(out.len() + usize::try_from(run.start - position).unwrap_or(0), 0);
            } else if run.start < position {
                let stale = usize::try_from(position - run.start)
                    .unwrap_or(usize::MAX)
                    .min(run.samples.len());
                run.samples.drain(..stale);
                run.numbers.take(stale as u64, |_, _| {});
                run.start = position;
            }
            let wanted = run.samples.len().min(frames - out.len());
            let mut frame = first + out.len() as u64;
            run.numbers.take(wanted as u64, |frames, sample| {
                stretches.push(Stretch { frame, frames, sample });
                frame += frames;
            });
            out.extend(run.samples.drain(..wanted));
            run.start += wanted as u64;
            // The last run stays although it is empty: the next frame is measured against its end.
            if !run.samples.is_empty() || self.runs.len() == 1 {
                break;
            }
            self.runs.pop_front();
        }
        out.resize(frames, 0);
        Side {
            samples: out,
            stretches,
        }
    }
}
