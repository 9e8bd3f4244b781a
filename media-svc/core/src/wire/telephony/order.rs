//! Puts numbered pieces of audio into order, drops what came twice, and leaves silence where a piece is missing.
//!
//! Only Telnyx says that its media messages may overtake each other ("Media frame order is not guaranteed", Media
//! Streaming reference, 2026-11); there, a gap is waited for. Elsewhere a gap is nobody's to wait for.

use std::collections::BTreeMap;

use super::timeline::Timeline;

/// A number this far ahead is a new count and no gap.
const FURTHEST_GAP: u64 = 100;
/// So many late pieces in a row mean that the count began anew, or means nothing at all.
const MOST_LATE: u32 = 5;

/// What became of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ordered {
    /// Audio that is next, of this and of pieces that waited for it, and the silence between them.
    Ready(Vec<i16>),
    /// It waits for the one before it.
    Held,
    /// It came twice or too late.
    Late,
}

/// Audio that came in one message.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its number in the stream.
    pub(super) number: Option<u64>,
    /// When it begins, by the provider's clock, in milliseconds.
    pub(super) timestamp_ms: Option<u64>,
    /// At the stream's rate.
    pub(super) samples: Vec<i16>,
}

/// The order of one stream. Holds at most `most_held` pieces.
#[derive(Debug)]
pub(super) struct Order {
    next: Option<u64>,
    held: BTreeMap<u64, Piece>,
    timeline: Timeline,
    most_held: usize,
    late_in_a_row: u32,
    restarts: u32,
}

impl Order {
    /// Waits for a missing piece until this many later ones have come; pieces are at this rate.
    pub(super) fn new(most_held: usize, rate_hz: u32) -> Self {
        Self {
            next: None,
            held: BTreeMap::new(),
            timeline: Timeline::new(rate_hz),
            most_held,
            late_in_a_row: 0,
            restarts: 0,
        }
    }

    /// Takes a piece; pieces without a number are taken as they come.
    pub(super) fn push(&mut self, piece: Piece) -> Ordered {
        let mut ready = Vec::new();
        // An emulator whose numbers keep starting again (or never change) has none worth reading.
        let Some(number) = piece.number.filter(|_| self.restarts < MOST_LATE) else {
            self.append(piece, &mut ready);
            return Ordered::Ready(ready);
        };
        let next = self.next.unwrap_or(number);
        if number < next {
            self.late_in_a_row += 1;
            if self.late_in_a_row < MOST_LATE {
                return Ordered::Late;
            }
            self.restarts += 1;
            return self.begin_at(number, piece);
        }
        self.late_in_a_row = 0;
        if number - next > FURTHEST_GAP {
            return self.begin_at(number, piece);
        }
        if number > next && self.held.contains_key(&number) {
            return Ordered::Late;
        }
        if number > next && self.held.len() < self.most_held {
            self.held.insert(number, piece);
            return Ordered::Held;
        }
        if number > next {
            // Waited long enough for what is missing.
            self.held.insert(number, piece);
            while let Some((number, piece)) = self.held.pop_first() {
                self.append(piece, &mut ready);
                self.next = Some(number.saturating_add(1));
            }
            return Ordered::Ready(ready);
        }
        self.next = Some(number.saturating_add(1));
        self.append(piece, &mut ready);
        while let Some(next) = self.next
            && let Some(piece) = self.held.remove(&next)
        {
            self.append(piece, &mut ready);
            self.next = Some(next.saturating_add(1));
        }
        Ordered::Ready(ready)
    }

    fn begin_at(&mut self, number: u64, piece: Piece) -> Ordered {
        self.late_in_a_row = 0;
        self.next = Some(number.saturating_add(1));
        let mut ready = Vec::new();
        for held in std::mem::take(&mut self.held).into_values() {
            self.append(held, &mut ready);
        }
        self.append(piece, &mut ready);
        Ordered::Ready(ready)
    }

    fn append(&mut self, piece: Piece, ready: &mut Vec<i16>) {
        self.timeline.append(piece.timestamp_ms, piece.samples, ready);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(number: u64, samples: Vec<i16>) -> Piece {
        Piece {
            number: Some(number),
            timestamp_ms: None,
            samples,
        }
    }

    fn pushed(order: &mut Order, numbers: &[u64]) -> Vec<i16> {
        let mut heard = Vec::new();
        for &number in numbers {
            if let Ordered::Ready(samples) = order.push(piece(number, vec![number as i16])) {
                heard.extend(samples);
            }
        }
        heard
    }

    #[test]
    fn pieces_that_overtook_each_other_are_put_in_order() {
        assert_eq!(
            pushed(&mut Order::new(4, 8_000), &[1, 3, 4, 2, 5, 7, 6]),
            [1, 2, 3, 4, 5, 6, 7]
        );
    }

    #[test]
    fn a_piece_that_never_comes_is_waited_for_only_so_long() {
        assert_eq!(pushed(&mut Order::new(2, 8_000), &[1, 3, 4, 5, 6]), [1, 3, 4, 5, 6]);
    }

    #[test]
    fn where_order_is_kept_a_gap_holds_nothing_up() {
        assert_eq!(pushed(&mut Order::new(0, 8_000), &[1, 3, 2, 4]), [1, 3, 4]);
    }

    #[test]
    fn a_piece_that_never_came_is_silence_where_it_belongs() {
        let mut order = Order::new(2, 8_000);
        let timed = |number: u64| Piece {
            timestamp_ms: Some(number * 20),
            ..piece(number, vec![number as i16; 160])
        };
        let mut heard = Vec::new();
        for number in [1, 3, 4, 5] {
            if let Ordered::Ready(samples) = order.push(timed(number)) {
                heard.extend(samples);
            }
        }
        assert_eq!(heard, [[1; 160], [0; 160], [3; 160], [4; 160], [5; 160]].concat());
    }

    #[test]
    fn what_comes_twice_is_heard_once() {
        let mut order = Order::new(4, 8_000);
        assert_eq!(pushed(&mut order, &[1, 1, 2, 2, 4, 4, 3, 3]), [1, 2, 3, 4]);
        assert_eq!(order.push(piece(2, vec![9])), Ordered::Late);
    }

    #[test]
    fn a_count_that_begins_anew_is_followed_after_a_few() {
        let mut order = Order::new(4, 8_000);
        pushed(&mut order, &[5_000, 5_001]);
        assert_eq!(pushed(&mut order, &[1, 2, 3, 4, 5, 6, 7]), [5, 6, 7]);
    }

    #[test]
    fn a_count_that_never_moves_is_soon_not_believed() {
        let mut order = Order::new(4, 8_000);
        let heard = pushed(&mut order, &[1; 100]);
        assert!(heard.len() > 70, "{}", heard.len());
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_hold_more_than_it_may(numbers in proptest::collection::vec(prop_oneof![0..300_u64, any::<u64>()], 0..400), most in 0..6_usize) {
            let mut order = Order::new(most, 8_000);
            for number in numbers {
                order.push(piece(number, vec![1; 160]));
                prop_assert!(order.held.len() <= most);
            }
        }
    }
}
