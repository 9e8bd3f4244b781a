//! When the far end plays what it is sent.

use std::time::Duration;

use crate::Time;

/// A player at the far end: it plays each frame behind the one before, as late as its answers to marks have shown it to be.
///
/// What is learned of that while somebody speaks counts from the next pause on: a sentence stays in one piece.
#[derive(Debug, Default)]
pub struct Playing {
    /// When everything sent so far has been played, but for the delay.
    until: Time,
    delay: Duration,
}

impl Playing {
    /// When audio of this `length` that is sent now begins to be heard by a far end that is late by `delay`.
    pub fn sent(&mut self, now: Time, length: Duration, delay: Duration) -> Time {
        if self.until < now {
            self.until = now;
            self.delay = delay;
        }
        let start = self.until;
        self.until += length;
        start + self.delay
    }

    /// The far end has dropped what it had not played.
    pub fn cleared(&mut self, now: Time) {
        self.until = now;
    }
}
