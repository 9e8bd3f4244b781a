//! What the caller says and presses, until its turn tells what of it must go.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::{KEY_MARGIN, WORD_MARGIN, samples, words};
use crate::Time;
use crate::conversation::{Origin, TurnRecord, UtteranceId, Word};
use crate::redact::Redactor;

/// Numbers of the caller's samples that are to be silent.
type Silent = Vec<Range<u64>>;

/// The caller's side.
#[derive(Debug)]
pub(super) struct Caller {
    sample_rate_hz: u32,
    utterances: VecDeque<Utterance>,
    presses: VecDeque<Press>,
    /// The caller speaks and recognition has given up: since this sample.
    unheard: Option<u64>,
}

#[derive(Debug)]
struct Utterance {
    id: UtteranceId,
    /// First sample that recognition got: times of words count from here.
    from: u64,
    /// First one that is not decided about.
    undecided: u64,
    /// One behind the last.
    to: Option<u64>,
    words: Option<Vec<Word>>,
    text: Option<String>,
}

impl Utterance {
    fn to(&self, heard: u64) -> u64 {
        self.to.unwrap_or(heard)
    }
}

/// A key, when it was pressed and how much of the caller was heard by then.
#[derive(Debug)]
struct Press {
    at: Time,
    heard: u64,
}

impl Caller {
    pub(super) fn new(sample_rate_hz: u32) -> Self {
        Self {
            sample_rate_hz,
            utterances: VecDeque::new(),
            presses: VecDeque::new(),
            unheard: None,
        }
    }

    /// The first sample that is not decided about.
    pub(super) fn holds_from(&self) -> Option<u64> {
        let margin = samples(KEY_MARGIN, self.sample_rate_hz);
        let utterance = self.utterances.iter().map(|utterance| utterance.undecided).min();
        let press = self.presses.front().map(|press| press.heard.saturating_sub(margin));
        [utterance, press, self.unheard].into_iter().flatten().min()
    }

    pub(super) fn begin(&mut self, id: UtteranceId, from: u64) -> Option<Range<u64>> {
        self.utterances.push_back(Utterance {
            id,
            from,
            undecided: from,
            to: None,
            words: None,
            text: None,
        });
        let unheard = self.unheard.take()?;
        Some(unheard..from.max(unheard))
    }

    pub(super) fn end(&mut self, id: UtteranceId, heard: u64) {
        if let Some(utterance) = self.find(id) {
            utterance.to = Some(heard);
        }
    }

    pub(super) fn words(&mut self, id: UtteranceId, words: &[Word]) {
        if let Some(utterance) = self.find(id) {
            utterance.words = Some(words.to_vec());
        }
    }

    pub(super) fn text(&mut self, id: UtteranceId, text: &str) {
        let text = text.trim();
        let Some(utterance) = self.find(id) else { return };
        if utterance.to.is_none() {
            // Not the whole utterance, and so are its words.
            utterance.words = None;
        } else if text.is_empty() {
            self.utterances.retain(|utterance| utterance.id != id);
        } else {
            utterance.text = Some(text.to_owned());
        }
    }

    pub(super) fn lose(&mut self, id: UtteranceId, heard: u64) -> Option<Range<u64>> {
        let at = self.utterances.iter().position(|utterance| utterance.id == id)?;
        let lost = self.utterances.remove(at)?;
        if lost.to.is_none() {
            self.unheard.get_or_insert(heard);
        }
        Some(lost.undecided..lost.to(heard))
    }

    /// The caller has stopped: what nobody listened to ends.
    pub(super) fn stopped(&mut self, heard: u64) -> Option<Range<u64>> {
        self.unheard.take().map(|from| from..heard)
    }

    pub(super) fn key(&mut self, at: Time, heard: u64) {
        self.presses.push_back(Press { at, heard });
    }

    /// The text of a turn is complete: decides about everything it is made of.
    pub(super) fn turn(&mut self, turn: &TurnRecord, redacted: &[Range<usize>]) -> Silent {
        let mut silent = Silent::new();
        for part in &turn.parts {
            let within = |span: &Range<usize>| span.start < part.text.end && part.text.start < span.end;
            let spans = redacted.iter().filter(|span| within(span));
            match part.origin {
                Origin::Utterance(id) => {
                    let from = part.text.start;
                    let of_part = spans
                        .map(|span| span.start.saturating_sub(from)..span.end.min(part.text.end).saturating_sub(from));
                    let of_part: Vec<_> = of_part.collect();
                    self.decide(id, &of_part, &mut silent);
                }
                Origin::Keys { from, to } => silent.extend(self.pressed(from, to, spans.count() > 0)),
            }
        }
        silent
    }

    /// Decides about an utterance of whose text these bytes must go.
    fn decide(&mut self, id: UtteranceId, spans: &[Range<usize>], silent: &mut Silent) {
        // One without a text was silenced when it was lost.
        let known = |utterance: &Utterance| utterance.id == id && utterance.text.is_some();
        let Some(utterance) = self.utterances.iter().position(known) else {
            return;
        };
        let Some(utterance) = self.utterances.remove(utterance) else {
            return;
        };
        silent.extend(spans.iter().map(|span| self.sound(&utterance, span)));
    }

    /// The samples in which a part of an utterance's text was said.
    fn sound(&self, utterance: &Utterance, span: &Range<usize>) -> Range<u64> {
        let whole = utterance.undecided..utterance.to(utterance.undecided);
        let seconds = whole.end.saturating_sub(utterance.from) as f64 / f64::from(self.sample_rate_hz);
        let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let (Some(text), Some(words)) = (&utterance.text, &utterance.words) else {
            return whole;
        };
        let Some(said) = words::said(text, words, span, length) else {
            return whole;
        };
        let place = |time| utterance.from + samples(time, self.sample_rate_hz);
        place(said.start.saturating_sub(WORD_MARGIN))..place(said.end + WORD_MARGIN)
    }

    /// Decides about keys; where their text must go, so must their tones.
    fn pressed(&mut self, from: Time, to: Time, redacted: bool) -> Option<Range<u64>> {
        let margin = samples(KEY_MARGIN, self.sample_rate_hz);
        let is_it = |press: &Press| (from..=to).contains(&press.at);
        let heard = self
            .presses
            .iter()
            .filter(|press| is_it(press))
            .map(|press| press.heard);
        let heard: Vec<u64> = heard.collect();
        self.presses.retain(|press| !is_it(press));
        let (first, last) = (heard.iter().min()?, heard.iter().max()?);
        redacted.then(|| first.saturating_sub(margin)..last + margin)
    }

    /// Decides about keys pressed before this that no turn has come of.
    pub(super) fn forget_keys(&mut self, before: Time) -> Option<Range<u64>> {
        let last = self
            .presses
            .iter()
            .filter(|press| press.at < before)
            .map(|press| press.at)
            .max()?;
        self.pressed(Time::ZERO, last, true)
    }

    /// Decides about everything: what has a text by that alone, the rest is to be silent.
    pub(super) fn close(&mut self, heard: u64, redactor: &Redactor) -> Silent {
        let margin = samples(KEY_MARGIN, self.sample_rate_hz);
        let mut silent: Silent = self.unheard.take().map(|from| from..heard).into_iter().collect();
        for utterance in std::mem::take(&mut self.utterances) {
            match &utterance.text {
                Some(text) => {
                    let spans = redactor.find(text).ranges();
                    silent.extend(spans.iter().map(|span| self.sound(&utterance, span)));
                }
                None => silent.push(utterance.undecided..utterance.to(heard)),
            }
        }
        let presses = self.presses.drain(..);
        silent.extend(presses.map(|press| press.heard.saturating_sub(margin)..press.heard + margin));
        silent
    }

    /// The same for what began before this sample. Who speaks all the time goes on doing so.
    pub(super) fn give_up(&mut self, before: u64, heard: u64, redactor: &Redactor) -> Silent {
        let utterances = std::mem::take(&mut self.utterances).into_iter();
        let (old, mut recent): (VecDeque<_>, VecDeque<_>) =
            utterances.partition(|utterance| utterance.undecided < before);
        let (mut open, old): (VecDeque<_>, VecDeque<_>) = old
            .into_iter()
            .partition(|utterance: &Utterance| utterance.to.is_none());
        let presses = std::mem::take(&mut self.presses).into_iter();
        let (pressed, kept) = presses.partition(|press| press.heard < before);
        let unheard = self.unheard.map(|_| heard);
        (self.utterances, self.presses) = (old, pressed);
        let mut silent = self.close(heard, redactor);
        for utterance in &mut open {
            silent.push(utterance.undecided..heard);
            utterance.undecided = heard;
        }
        open.append(&mut recent);
        (self.utterances, self.presses, self.unheard) = (open, kept, unheard);
        silent
    }

    fn find(&mut self, id: UtteranceId) -> Option<&mut Utterance> {
        self.utterances.iter_mut().find(|utterance| utterance.id == id)
    }
}
