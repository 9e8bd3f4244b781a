//! One side of the held part of a recording: which samples stand where, and which of them are to be silent.

use std::collections::VecDeque;
use std::ops::Range;

use crate::recorder::Stretch;

/// Jumps by fewer samples than this (1 ms at 8 kHz) are not remembered: slewing makes one by one.
const JUMP: u64 = 8;

/// The side.
#[derive(Debug, Default)]
pub(super) struct Lane {
    stretches: VecDeque<Stretch>,
    /// By number of the sample.
    silent: Vec<Range<u64>>,
}

impl Lane {
    /// What stands in the frames that were recorded next.
    pub(super) fn push(&mut self, stretches: &[Stretch]) {
        for new in stretches {
            match self.stretches.back_mut() {
                Some(last)
                    if last.frame + last.frames == new.frame
                        && (last.sample + last.frames).abs_diff(new.sample) < JUMP =>
                {
                    last.frames += new.frames;
                }
                Some(_) | None => self.stretches.push_back(*new),
            }
        }
    }

    /// These samples are to be silent; their frames may still come.
    pub(super) fn silence(&mut self, samples: Range<u64>) {
        if !samples.is_empty() {
            self.silent.push(samples);
        }
    }

    /// The first frame in which a sample of this number or a later one stands; `None`: not recorded yet.
    pub(super) fn frame_of(&self, sample: u64) -> Option<u64> {
        let stretch = self.stretches.iter().find(|s| s.sample + s.frames > sample)?;
        Some(stretch.frame + sample.saturating_sub(stretch.sample))
    }

    /// Silences what must be in these frames, which are the next ones, and forgets them.
    pub(super) fn apply(&mut self, first_frame: u64, samples: &mut [i16]) {
        let end = first_frame + samples.len() as u64;
        for stretch in self.stretches.iter().take_while(|stretch| stretch.frame < end) {
            for range in &self.silent {
                let from = range.start.max(stretch.sample);
                let to = range.end.min(stretch.sample + stretch.frames);
                if from >= to {
                    continue;
                }
                let place = |sample: u64| {
                    let frame = (stretch.frame + (sample - stretch.sample)).clamp(first_frame, end);
                    usize::try_from(frame - first_frame).unwrap_or(usize::MAX)
                };
                if let Some(silent) = samples.get_mut(place(from)..place(to)) {
                    silent.fill(0);
                }
            }
        }
        self.forget(end);
    }

    /// Forgets everything before this frame.
    pub(super) fn forget(&mut self, end: u64) {
        while let Some(stretch) = self.stretches.front_mut().filter(|stretch| stretch.frame < end) {
            let gone = stretch.frames.min(end - stretch.frame);
            stretch.frame += gone;
            stretch.sample += gone;
            stretch.frames -= gone;
            let next = stretch.sample;
            if stretch.frames == 0 {
                self.stretches.pop_front();
            }
            self.silent.retain(|range| range.end > next);
        }
    }
}
