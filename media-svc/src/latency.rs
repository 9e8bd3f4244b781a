//! How quick this node was in the last minutes, for its report to the fleet. The histograms at `/metrics` count since the
//! start and need a Prometheus to look back on minutes; a console page has none.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use session_store::NodeLatency;

/// Slices of the window; one is forgotten at a time.
const SLICES: usize = 5;
/// Length of a slice. The window is between four and five of them long.
const SLICE: Duration = Duration::from_secs(60);
/// Upper end of the first bucket, seconds: what is below is as good as nothing.
const FIRST_SECS: f64 = 0.000_1;
/// Each bucket ends this much above the one before: quantiles are right to within 8 %.
const GROWTH: f64 = 1.08;
/// Buckets: the last one ends above four minutes, and takes everything that is longer.
const BUCKETS: usize = 192;

static TURNS: LazyLock<Window> = LazyLock::new(Window::default);
static FRAMES: LazyLock<Window> = LazyLock::new(Window::default);

/// A turn was answered: from the end of speech to the first audio.
pub fn turn_answered(took: Duration) {
    TURNS.add(took, Instant::now());
}

/// An outgoing frame left this late.
pub fn frame_left(late: Duration) {
    FRAMES.add(late, Instant::now());
}

/// The last minutes of this process.
pub fn report() -> NodeLatency {
    let now = Instant::now();
    let turns = TURNS.over(now);
    let millis = |share| count(turns.quantile(share).as_millis());
    NodeLatency {
        window_secs: count(SLICE.as_secs().into()) * count(SLICES as u128),
        turns: turns.total,
        turn_p50_ms: millis(0.5),
        turn_p95_ms: millis(0.95),
        turn_p99_ms: millis(0.99),
        frame_late_p99_us: count(FRAMES.over(now).quantile(0.99).as_micros()),
    }
}

fn count(value: u128) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Durations of the last minutes, in buckets.
struct Window {
    began: Instant,
    slices: Mutex<[Slice; SLICES]>,
}

#[derive(Clone, Copy)]
struct Slice {
    /// Which one since the beginning.
    number: u64,
    counts: [u32; BUCKETS],
}

impl Default for Window {
    fn default() -> Self {
        let empty = Slice {
            number: 0,
            counts: [0; BUCKETS],
        };
        Self {
            began: Instant::now(),
            slices: Mutex::new([empty; SLICES]),
        }
    }
}

impl Window {
    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLICE.as_secs()
    }

    fn add(&self, took: Duration, now: Instant) {
        let number = self.number(now);
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let place = usize::try_from(number % SLICES as u64).unwrap_or(0);
        let Some(slice) = slices.get_mut(place) else { return };
        if slice.number != number {
            *slice = Slice {
                number,
                counts: [0; BUCKETS],
            };
        }
        if let Some(count) = slice.counts.get_mut(bucket(took)) {
            *count = count.saturating_add(1);
        }
    }

    fn over(&self, now: Instant) -> Summary {
        let oldest = (self.number(now) + 1).saturating_sub(SLICES as u64);
        let slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = [0_u32; BUCKETS];
        for slice in slices.iter().filter(|slice| slice.number >= oldest) {
            for (sum, count) in counts.iter_mut().zip(slice.counts) {
                *sum = sum.saturating_add(count);
            }
        }
        Summary {
            total: counts.iter().fold(0, |sum: u32, count| sum.saturating_add(*count)),
            counts,
        }
    }
}

fn bucket(took: Duration) -> usize {
    let above = took.as_secs_f64() / FIRST_SECS;
    if above <= 1.0 {
        return 0;
    }
    // Far below the range of usize, and never negative.
    (above.log(GROWTH).ceil() as usize).min(BUCKETS - 1)
}

struct Summary {
    total: u32,
    counts: [u32; BUCKETS],
}

impl Summary {
    /// Middle of the bucket that this share of all lies below; zero when there is nothing.
    fn quantile(&self, share: f64) -> Duration {
        let wanted = f64::from(self.total) * share;
        let mut below = 0.0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += f64::from(*count);
            if *count > 0 && below >= wanted {
                let middle = if bucket == 0 { 0.0 } else { bucket as f64 - 0.5 };
                return Duration::from_secs_f64(FIRST_SECS * GROWTH.powf(middle));
            }
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_within_a_bucket_and_only_of_the_last_minutes() {
        let window = Window::default();
        let start = window.began;
        for millis in 1..=1000 {
            window.add(Duration::from_millis(millis), start);
        }
        let close = |got: Duration, millis: f64| (got.as_secs_f64() * 1000.0 / millis - 1.0).abs() < 0.08;

        let now = window.over(start + Duration::from_secs(239));
        assert_eq!(now.total, 1000);
        for (share, millis) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            assert!(close(now.quantile(share), millis), "{share}: {:?}", now.quantile(share));
        }

        window.add(Duration::from_millis(20), start + Duration::from_secs(301));
        let later = window.over(start + Duration::from_secs(301));
        assert_eq!(later.total, 1);
        assert!(close(later.quantile(0.99), 20.0));
        assert_eq!(
            window.over(start + Duration::from_secs(900)).quantile(0.5),
            Duration::ZERO
        );
    }

    #[test]
    fn what_is_longer_than_any_bucket_is_in_the_last_one() {
        let window = Window::default();
        window.add(Duration::from_secs(86_400), window.began);
        assert!(window.over(window.began).quantile(0.5) > Duration::from_secs(200));
        assert_eq!(bucket(Duration::ZERO), 0);
    }
}
