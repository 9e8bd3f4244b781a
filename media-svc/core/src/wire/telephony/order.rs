//! Puts numbered pieces of audio into order and drops what came twice.
//!
//! Only Telnyx says that its media messages may overtake each other ("Media frame order is not guaranteed", Media
//! Streaming reference, 2026-11); there, a gap is waited for. Elsewhere a gap is nobody's to wait for.

use std::collections::BTreeMap;

/// A number this far ahead is a new count and no gap.
const FURTHEST_GAP: u64 = 100;
/// So many late pieces in a row mean that the count began anew, or means nothing at all.
const MOST_LATE: u32 = 5;

/// What became of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ordered {
    /// Audio that is next, of this and of pieces that waited for it.
    Ready(Vec<i16>),
    /// It waits for the one before it.
    Held,
    /// It came twice or too late.
    Late,
}

/// The order of one stream. Holds at most `most_held` pieces.
#[derive(Debug)]
pub(super) struct Order {
    next: Option<u64>,
    held: BTreeMap<u64, Vec<i16>>,
    most_held: usize,
    late_in_a_row: u32,
    restarts: u32,
}

impl Order {
    /// Waits for a missing piece until this many later ones have come.
    pub(super) fn new(most_held: usize) -> Self {
        Self {
            next: None,
            held: BTreeMap::new(),
            most_held,
            late_in_a_row: 0,
            restarts: 0,
        }
    }

    /// Takes a piece with its number; pieces without one are taken as they come.
    pub(super) fn push(&mut self, number: Option<u64>, samples: Vec<i16>) -> Ordered {
        // An emulator whose numbers keep starting again (or never change) has none worth reading.
        let Some(number) = number.filter(|_| self.restarts < MOST_LATE) else {
            return Ordered::Ready(samples);
        };
        let next = self.next.unwrap_or(number);
        if number < next {
            self.late_in_a_row += 1;
            if self.late_in_a_row < MOST_LATE {
                return Ordered::Late;
            }
            self.restarts += 1;
            return self.begin_at(number, samples);
        }
        self.late_in_a_row = 0;
        if number - next > FURTHEST_GAP {
            return self.begin_at(number, samples);
        }
        if number > next && self.held.contains_key(&number) {
            return Ordered::Late;
        }
        if number > next && self.held.len() < self.most_held {
            self.held.insert(number, samples);
            return Ordered::Held;
        }
        if number > next {
            // Waited long enough for what is missing.
            self.held.insert(number, samples);
            let mut ready = Vec::new();
            while let Some((number, samples)) = self.held.pop_first() {
                ready.extend(samples);
                self.next = Some(number.saturating_add(1));
            }
            return Ordered::Ready(ready);
        }
        self.next = Some(number.saturating_add(1));
        let mut ready = samples;
        while let Some(next) = self.next
            && let Some(samples) = self.held.remove(&next)
        {
            ready.extend(samples);
            self.next = Some(next.saturating_add(1));
        }
        Ordered::Ready(ready)
    }

    fn begin_at(&mut self, number: u64, samples: Vec<i16>) -> Ordered {
        self.late_in_a_row = 0;
        self.next = Some(number.saturating_add(1));
        let mut ready: Vec<i16> = std::mem::take(&mut self.held).into_values().flatten().collect();
        ready.extend(samples);
        Ordered::Ready(ready)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pushed(order: &mut Order, numbers: &[u64]) -> Vec<i16> {
        let mut heard = Vec::new();
        for &number in numbers {
            if let Ordered::Ready(samples) = order.push(Some(number), vec![number as i16]) {
                heard.extend(samples);
            }
        }
        heard
    }

    #[test]
    fn pieces_that_overtook_each_other_are_put_in_order() {
        assert_eq!(
            pushed(&mut Order::new(4), &[1, 3, 4, 2, 5, 7, 6]),
            [1, 2, 3, 4, 5, 6, 7]
        );
    }

    #[test]
    fn a_piece_that_never_comes_is_waited_for_only_so_long() {
        assert_eq!(pushed(&mut Order::new(2), &[1, 3, 4, 5, 6]), [1, 3, 4, 5, 6]);
    }

    #[test]
    fn where_order_is_kept_a_gap_holds_nothing_up() {
        assert_eq!(pushed(&mut Order::new(0), &[1, 3, 2, 4]), [1, 3, 4]);
    }

    #[test]
    fn what_comes_twice_is_heard_once() {
        let mut order = Order::new(4);
        assert_eq!(pushed(&mut order, &[1, 1, 2, 2, 4, 4, 3, 3]), [1, 2, 3, 4]);
        assert_eq!(order.push(Some(2), vec![9]), Ordered::Late);
    }

    #[test]
    fn a_count_that_begins_anew_is_followed_after_a_few() {
        let mut order = Order::new(4);
        pushed(&mut order, &[5_000, 5_001]);
        assert_eq!(pushed(&mut order, &[1, 2, 3, 4, 5, 6, 7]), [5, 6, 7]);
    }

    #[test]
    fn a_count_that_never_moves_is_soon_not_believed() {
        let mut order = Order::new(4);
        let heard = pushed(&mut order, &[1; 100]);
        assert!(heard.len() > 70, "{}", heard.len());
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_hold_more_than_it_may(numbers in proptest::collection::vec(prop_oneof![0..300_u64, any::<u64>()], 0..400), most in 0..6_usize) {
            let mut order = Order::new(most);
            for number in numbers {
                order.push(Some(number), vec![1; 160]);
                prop_assert!(order.held.len() <= most);
            }
        }
    }
}
