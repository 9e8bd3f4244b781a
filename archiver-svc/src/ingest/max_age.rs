//! How old a stream becomes, after gRPC's `MAX_CONNECTION_AGE`. A node would keep its one stream for as long as it lives: an
//! archiver that was added would have nothing to do, and after a restart the other one would keep all of them.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics;

/// Youngest at which a stream ends; the oldest is twice that.
const LEAST: Duration = Duration::from_secs(30 * 60);
/// With a write that waits longer than this the stores are behind, and what the node would send again is much.
const BEHIND: Duration = Duration::from_secs(10);
/// How long the stores are given before a stream that is old enough is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How old streams become: at random, so that nodes which connected together do not come back together.
#[derive(Debug)]
pub struct MaxAge {
    range: RangeInclusive<Duration>,
    /// For how long the oldest write has been waiting for a store.
    lag: fn() -> Duration,
}

impl MaxAge {
    /// Where nodes are forgotten when they have been away for this long: one that comes back from another archiver must
    /// not find its sessions as they were before.
    pub fn new(forgotten_after: Duration) -> Self {
        let least = LEAST.max(forgotten_after * 2);
        Self {
            range: least..=least * 2,
            lag: metrics::lag,
        }
    }

    /// A stream begins.
    pub fn begin(&self) -> Age {
        Age {
            old_at: Instant::now() + rand::random_range(self.range.clone()),
            lag: self.lag,
        }
    }

    /// Whatever the stores of this process do.
    #[cfg(test)]
    pub fn with_lag(self, lag: fn() -> Duration) -> Self {
        Self { lag, ..self }
    }
}

/// The age of one stream.
#[derive(Debug)]
pub struct Age {
    old_at: Instant,
    lag: fn() -> Duration,
}

impl Age {
    /// Resolves when the stream is to end: it is old, and the stores keep up.
    pub async fn is_old(&self) {
        tokio::time::sleep_until(self.old_at).await;
        while (self.lag)() > BEHIND {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_stream_becomes_half_an_hour_to_an_hour_old_and_older_where_nodes_are_remembered_for_longer() {
        for (remembered, least) in [(1, 30), (15, 30), (60, 120)] {
            let max_age = MaxAge::new(MINUTE * remembered).with_lag(|| BEHIND);
            let mut ages = Vec::new();
            for _ in 0..100 {
                let began = Instant::now();
                max_age.begin().is_old().await;
                ages.push(began.elapsed());
            }
            // The clock of timers counts milliseconds.
            let range = MINUTE * least..=MINUTE * least * 2 + Duration::from_millis(2);
            assert!(ages.iter().all(|age| range.contains(age)), "{ages:?}");
            ages.sort();
            ages.dedup();
            assert!(ages.len() > 50, "{ages:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_stream_ends_while_the_stores_are_behind() {
        static AWAY: AtomicBool = AtomicBool::new(true);
        let lag = || match AWAY.load(Ordering::Relaxed) {
            true => BEHIND + Duration::from_secs(1),
            false => Duration::ZERO,
        };
        let age = MaxAge::new(MINUTE).with_lag(lag).begin();
        let day = MINUTE * 60 * 24;
        tokio::time::timeout(day, age.is_old()).await.unwrap_err();
        AWAY.store(false, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_millis(2), age.is_old())
            .await
            .unwrap();
    }
}
