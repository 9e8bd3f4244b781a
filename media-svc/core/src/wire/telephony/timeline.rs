//! Silence in the place of audio that never came.
//!
//! A provider that loses a piece of the caller's audio sends the next one with a later time. Without the silence all
//! that follows would stand too early in the recording, and a pause of the caller would be shorter than it was.

/// Less than this is how times are rounded and how clocks drift.
const SHORTEST_GAP_MS: u64 = 10;
/// A time further away than this, in either direction, is another count and no gap: what was between is a pause, which
/// shows in when audio arrives.
const LONGEST_GAP_MS: u64 = 1_000;
/// So many gaps in a row mean that the times are not those of the audio, and not worth reading.
const MOST_GAPS: u32 = 5;

/// Where the audio of one stream stands in its provider's time.
#[derive(Debug)]
pub(super) struct Timeline {
    rate_hz: u32,
    /// Provider's time of the first sample that counts, in milliseconds.
    began_ms: Option<u64>,
    /// Samples since then, silence among them.
    samples: u64,
    gaps_in_a_row: u32,
}

impl Timeline {
    /// Of a stream at this rate, from which nothing has come.
    pub(super) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            began_ms: None,
            samples: 0,
            gaps_in_a_row: 0,
        }
    }

    /// Appends the piece that is next to what is ready, after as much silence as is missing before it.
    pub(super) fn append(&mut self, timestamp_ms: Option<u64>, piece: Vec<i16>, ready: &mut Vec<i16>) {
        let missing = timestamp_ms.map_or(0, |timestamp_ms| self.missing(timestamp_ms));
        self.samples += (missing + piece.len()) as u64;
        if missing == 0 && ready.is_empty() {
            *ready = piece;
            return;
        }
        ready.resize(ready.len() + missing, 0);
        ready.extend(piece);
    }

    fn missing(&mut self, timestamp_ms: u64) -> usize {
        if self.gaps_in_a_row >= MOST_GAPS {
            return 0;
        }
        let heard_ms = self.samples * 1_000 / u64::from(self.rate_hz.max(1));
        let expected_ms = self.began_ms.unwrap_or(timestamp_ms).saturating_add(heard_ms);
        if self.began_ms.is_none() || timestamp_ms.abs_diff(expected_ms) > LONGEST_GAP_MS {
            self.began_ms = Some(timestamp_ms);
            self.samples = 0;
            return 0;
        }
        let gap_ms = timestamp_ms.saturating_sub(expected_ms);
        if gap_ms < SHORTEST_GAP_MS {
            self.gaps_in_a_row = 0;
            return 0;
        }
        self.gaps_in_a_row += 1;
        usize::try_from(gap_ms * u64::from(self.rate_hz) / 1_000).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECE: usize = 160;

    /// Lengths of what is heard of pieces of 20 ms with these times.
    fn heard(times_ms: impl IntoIterator<Item = Option<u64>>) -> Vec<usize> {
        let mut timeline = Timeline::new(8_000);
        let lengths = times_ms.into_iter().map(|time_ms| {
            let mut ready = Vec::new();
            timeline.append(time_ms, vec![1; PIECE], &mut ready);
            ready.len()
        });
        lengths.collect()
    }

    #[test]
    fn what_is_missing_is_silence_of_its_length() {
        let mut timeline = Timeline::new(8_000);
        let mut ready = Vec::new();
        timeline.append(Some(5), vec![1; PIECE], &mut ready);
        timeline.append(Some(65), vec![2; PIECE], &mut ready);
        let expected = [[1; PIECE], [0; PIECE], [0; PIECE], [2; PIECE]].concat();
        assert_eq!(ready, expected);
    }

    #[test]
    fn times_that_are_a_little_off_open_no_gap() {
        assert_eq!(heard([0, 23, 39, 66, 80].map(Some)), [PIECE; 5]);
    }

    #[test]
    fn a_clock_that_runs_away_is_caught_up_with_once_in_a_while() {
        // 1 % fast: 20 ms in 2 s.
        let lengths = heard((0..1_000).map(|piece| Some(piece * 20 + piece / 5)));
        let all: usize = lengths.iter().sum();
        assert!((161_000..=161_600).contains(&all), "{all}");
    }

    #[test]
    fn a_pause_is_no_gap() {
        assert_eq!(heard([0, 20, 5_000, 5_020].map(Some)), [PIECE; 4]);
    }

    #[test]
    fn pieces_without_a_time_and_a_time_that_never_moves_are_taken_as_they_come() {
        assert_eq!(heard([None; 3]), [PIECE; 3]);
        assert_eq!(heard([Some(0); 200]), [PIECE; 200]);
    }

    #[test]
    fn times_in_another_unit_are_soon_not_believed() {
        let lengths = heard((0..100).map(|piece| Some(piece * PIECE as u64)));
        assert!(lengths.iter().skip(6).all(|length| *length == PIECE), "{lengths:?}");
    }

    proptest! {
        #[test]
        fn no_times_make_a_piece_longer_than_the_longest_gap(times in proptest::collection::vec(any::<Option<u64>>(), 0..200)) {
            for length in heard(times) {
                prop_assert!((PIECE..=PIECE + 8_000).contains(&length));
            }
        }
    }
}
