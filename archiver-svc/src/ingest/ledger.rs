//! How far one session is durable: rows become so one way, audio another, and a node is told of both at once. No I/O.

use std::collections::VecDeque;

use service_kit::trace::Span;

use crate::metrics::KindCounts;

/// What of one session is stored.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every event up to and including this one was applied.
    applied: u64,
    /// Events with something that is not committed to SQL, in order; one that has two such things comes twice.
    unwritten: VecDeque<u64>,
    /// Every event up to and including this one has its audio stored; `None`: there is no audio to wait for.
    audio: Option<u64>,
    /// What the node was told last.
    acknowledged: u64,
    /// Events that become durable with the next acknowledgement.
    counts: KindCounts,
    ended: bool,
    /// From the first event until all of it is stored.
    trace: Span,
}

impl Ledger {
    /// A session of which this much is durable already, and so much audio stored; `None`: none to wait for.
    pub fn resumed(durable: u64, audio: Option<u64>) -> Self {
        Self {
            applied: durable,
            audio,
            acknowledged: durable,
            ..Self::default()
        }
    }

    /// With its place in the trace of its call.
    pub fn traced(self, trace: Span) -> Self {
        Self { trace, ..self }
    }

    /// The trace of its call, for log lines.
    pub fn trace_id(&self) -> Option<String> {
        self.trace.parent().trace_id()
    }

    /// Events up to this one were applied, among them turns whose rows are to be written.
    pub fn applied(&mut self, sequence: u64, turns: impl IntoIterator<Item = u64>) {
        self.applied = self.applied.max(sequence);
        self.unwritten.extend(turns);
    }

    /// The row of an event is committed, or one of them.
    pub fn row_written(&mut self, sequence: u64) {
        if let Some(at) = self.unwritten.iter().position(|unwritten| *unwritten == sequence) {
            self.unwritten.remove(at);
        }
    }

    /// The audio of all events up to this one is stored.
    pub fn audio_stored(&mut self, sequence: u64) {
        self.audio = self.audio.map(|audio| audio.max(sequence));
    }

    /// Audio from this event on is passed by, and durable with the end of the session alone.
    pub fn audio_waits_from(&mut self, sequence: u64) {
        self.audio = Some(sequence.saturating_sub(1));
    }

    /// There is nothing more to come, and all of its audio is stored.
    pub fn ended(&mut self) {
        self.audio = None;
        self.ended = true;
    }

    /// These become durable with the next acknowledgement.
    pub fn count(&mut self, counts: KindCounts) {
        self.counts.merge(counts);
    }

    /// What the node is to be told now, if anything is new, and what became durable by it.
    pub fn settle(&mut self) -> Option<(u64, KindCounts)> {
        let durable = self.durable();
        if durable <= self.acknowledged {
            return None;
        }
        self.acknowledged = durable;
        Some((durable, std::mem::take(&mut self.counts)))
    }

    /// The last sequence, when all of the session is durable and nothing will follow.
    pub fn finished(&self) -> Option<u64> {
        (self.ended && self.unwritten.is_empty()).then_some(self.applied)
    }

    fn durable(&self) -> u64 {
        let rows = self
            .unwritten
            .front()
            .map_or(self.applied, |first| first.saturating_sub(1));
        let durable = self.audio.map_or(rows, |audio| audio.min(rows));
        // A start alone is not stored anywhere: it waits for the first thing that is.
        if durable == 1 && (self.applied > 1 || !self.ended) {
            0
        } else {
            durable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ledger: &mut Ledger) -> Option<u64> {
        ledger.settle().map(|(durable, _)| durable)
    }

    #[test]
    fn rows_hold_back_what_comes_after_them_and_nothing_before() {
        let mut ledger = Ledger::default();
        ledger.applied(5, [3, 5]);
        assert_eq!(told(&mut ledger), Some(2));
        ledger.row_written(5);
        assert_eq!(told(&mut ledger), None);
        ledger.row_written(3);
        assert_eq!(told(&mut ledger), Some(5));
    }

    #[test]
    fn a_recorded_session_is_durable_as_far_as_both_rows_and_audio_are() {
        let mut ledger = Ledger::resumed(0, Some(0));
        ledger.applied(9, [4]);
        ledger.audio_stored(7);
        assert_eq!(told(&mut ledger), Some(3));
        ledger.row_written(4);
        assert_eq!(told(&mut ledger), Some(7));
        ledger.ended();
        assert_eq!((told(&mut ledger), ledger.finished()), (Some(9), Some(9)));
    }

    #[test]
    fn an_ended_session_is_not_finished_before_its_last_row() {
        let mut ledger = Ledger::default();
        ledger.applied(3, [2]);
        ledger.ended();
        assert_eq!((told(&mut ledger), ledger.finished()), (None, None));
        ledger.row_written(2);
        assert_eq!((told(&mut ledger), ledger.finished()), (Some(3), Some(3)));
    }

    #[test]
    fn an_event_with_two_rows_is_durable_with_the_second() {
        let mut ledger = Ledger::resumed(3, None);
        ledger.applied(4, [4, 4]);
        ledger.row_written(4);
        assert_eq!(told(&mut ledger), None);
        ledger.row_written(4);
        assert_eq!(told(&mut ledger), Some(4));
    }

    #[test]
    fn a_start_alone_is_not_durable() {
        let mut ledger = Ledger::default();
        ledger.applied(1, []);
        assert_eq!(told(&mut ledger), None);
        ledger.applied(2, [2]);
        ledger.row_written(2);
        assert_eq!(told(&mut ledger), Some(2));
    }
}
