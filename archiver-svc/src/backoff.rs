//! How long to wait before trying again: doubling, with a limit.

use std::time::Duration;

/// Wait before the first retry.
const FIRST: Duration = Duration::from_millis(50);
/// Longest wait between two tries: an outage is noticed to be over within this time.
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failures of one piece of work and says how long to wait after each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a failure and returns the wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(7)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Failures so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
