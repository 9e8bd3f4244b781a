//! How old events are, by a clock that nobody sets: one that is put right must not look like an archive that has stopped.

use std::time::{Duration, Instant, SystemTime};

/// What a new clock shows: what an earlier process wrote is older than that.
const BEGINS_AT_MS: u64 = 1 << 50;

/// Milliseconds that only go forward, since long before this process began.
#[derive(Debug, Clone, Copy)]
pub(super) struct AgeClock {
    began: Instant,
}

impl AgeClock {
    pub(super) fn start() -> Self {
        Self { began: Instant::now() }
    }

    pub(super) fn now_ms(self) -> u64 {
        BEGINS_AT_MS + millis(self.began.elapsed())
    }
}

/// What such a clock that begins now would have shown at `time`. A time in the future counts as now.
pub(super) fn before_beginning(time: SystemTime) -> u64 {
    BEGINS_AT_MS.saturating_sub(millis(time.elapsed().unwrap_or_default()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_process_wrote_is_as_old_as_its_file_and_never_from_the_future() {
        let minute = Duration::from_secs(60);
        let clock = AgeClock::start();
        let age = |time| clock.now_ms() - before_beginning(time);
        let (old, future) = (age(SystemTime::now() - minute), age(SystemTime::now() + minute));
        assert!((60_000..90_000).contains(&old), "{old}");
        assert!(future < 30_000, "{future}");
    }
}
