//! What the agent says, sentence by sentence, until its turn is over.

use std::ops::Range;
use std::time::Duration;

use super::samples;
use crate::redact::Redactor;
use crate::text::join;

/// What of a sentence may be heard in the one before or behind it: the resampler's memory.
const SENTENCE_MARGIN: Duration = Duration::from_millis(20);

/// Numbers of the agent's samples that are to be silent.
type Silent = Vec<Range<u64>>;

/// The agent's side.
#[derive(Debug)]
pub(super) struct Agent {
    margin: u64,
    turn: Option<Turn>,
}

#[derive(Debug)]
struct Turn {
    /// First sample that is not decided about.
    undecided: u64,
    sentences: Vec<Sentence>,
    /// What the transcript says was heard.
    heard: Option<String>,
}

#[derive(Debug)]
struct Sentence {
    from: u64,
    text: String,
}

impl Agent {
    pub(super) fn new(sample_rate_hz: u32) -> Self {
        Self {
            margin: samples(SENTENCE_MARGIN, sample_rate_hz),
            turn: None,
        }
    }

    /// The first sample that is not decided about.
    pub(super) fn holds_from(&self) -> Option<u64> {
        let turn = self.turn.as_ref()?;
        Some(turn.undecided.saturating_sub(self.margin))
    }

    /// A turn begins behind this many samples.
    pub(super) fn start(&mut self, spoken: u64) {
        self.turn.get_or_insert(Turn {
            undecided: spoken,
            sentences: Vec::new(),
            heard: None,
        });
    }

    /// A sentence begins.
    pub(super) fn speak(&mut self, spoken: u64, text: &str) {
        self.start(spoken);
        if let Some(turn) = &mut self.turn {
            turn.sentences.push(Sentence {
                from: spoken,
                text: text.trim().to_owned(),
            });
        }
    }

    /// What of the turn was heard, as the transcript has it.
    pub(super) fn heard(&mut self, text: &str) {
        if let Some(turn) = &mut self.turn {
            turn.heard = Some(text.trim().to_owned());
        }
    }

    /// The turn is over.
    pub(super) fn stop(&mut self, spoken: u64, redactor: &Redactor) -> Silent {
        let turn = self.turn.take();
        turn.map_or_else(Silent::new, |turn| turn.silent(spoken, self.margin, redactor))
    }

    /// Decides about all sentences but the one being said, which may go on with what comes.
    pub(super) fn give_up(&mut self, redactor: &Redactor) -> Silent {
        let Some(turn) = &mut self.turn else {
            return Silent::new();
        };
        let Some(last) = turn.sentences.last().map(|last| last.from) else {
            return Silent::new();
        };
        let silent = turn.silent(last, self.margin, redactor);
        turn.undecided = last;
        silent
    }
}

impl Turn {
    /// What must go, when this many samples of the agent were given.
    fn silent(&self, spoken: u64, margin: u64, redactor: &Redactor) -> Silent {
        let ends = self.sentences.iter().skip(1).map(|next| next.from).chain([spoken]);
        let sentences = self.sentences.iter().zip(ends).zip(self.sensitive(redactor));
        let silent = sentences.filter(|(_, sensitive)| *sensitive);
        silent
            .map(|((sentence, to), _)| sentence.from.saturating_sub(margin)..to + margin)
            .collect()
    }

    /// Which sentences have something in them that must go.
    fn sensitive(&self, redactor: &Redactor) -> Vec<bool> {
        let mut whole = String::new();
        let mut places = Vec::with_capacity(self.sentences.len());
        for sentence in &self.sentences {
            whole = join(&whole, &sentence.text);
            places.push(whole.len().saturating_sub(sentence.text.len())..whole.len());
        }
        let mut spans = redactor.find(&whole).ranges();
        if let Some(heard) = &self.heard {
            // What is cut off may look like something else than the whole.
            let of_heard = redactor.find(heard).ranges();
            if whole.starts_with(heard.as_str()) {
                spans.extend(of_heard);
            } else if !of_heard.is_empty() {
                return vec![true; self.sentences.len()];
            }
        }
        let within = |place: &Range<usize>, span: &Range<usize>| span.start < place.end && place.start < span.end;
        places
            .iter()
            .map(|place| spans.iter().any(|span| within(place, span)))
            .collect()
    }
}
