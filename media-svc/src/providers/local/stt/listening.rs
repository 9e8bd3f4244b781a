//! One utterance on its way to text.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use media_core::conversation::UtteranceId;

use super::Interim;
use crate::speech::utterance::{Piece, Utterance, join};
use crate::speech::{Priority, Recognised, SpeechEngine, SpeechError, Ticket};

/// New audio before the growing utterance is transcribed again. Every pass transcribes the piece from its start, so
/// twice as often is twice the work; at 400 ms a caller who speaks uses about a fifth of a core.
const INTERIM_EVERY: Duration = Duration::from_millis(400);
/// Interim jobs of one call use at most one in this many seconds of a thread, however long the piece has grown.
const INTERIM_SHARE: u32 = 3;
/// Voice before the first interim text: on less the model guesses.
const FIRST_INTERIM_AFTER: Duration = Duration::from_millis(350);

/// An utterance that audio is still coming for.
pub struct Listening {
    id: UtteranceId,
    began: Instant,
    utterance: Utterance,
    /// Texts of settled pieces by their samples. The same samples always give the same text.
    texts: HashMap<Range<usize>, String>,
    /// The interim job in progress, with the time of its newest audio; one a call.
    pending: Option<(Piece, Ticket, Instant)>,
    /// Length of the utterance when the last interim job was made.
    asked_at: Duration,
    /// Work of the last interim job.
    last_took: Duration,
    /// Text of the last piece while it was growing, and where that piece begins.
    draft: Option<(usize, String)>,
    reported: String,
}

impl Listening {
    /// An utterance without audio.
    pub fn new(id: UtteranceId) -> Self {
        Self {
            id,
            began: Instant::now(),
            utterance: Utterance::new(),
            texts: HashMap::new(),
            pending: None,
            asked_at: Duration::ZERO,
            last_took: Duration::ZERO,
            draft: None,
            reported: String::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> UtteranceId {
        self.id
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Whether any text was reported.
    pub fn has_text(&self) -> bool {
        !self.reported.is_empty()
    }

    /// More audio; asks for interim text when there is enough that is new, and a thread is free.
    pub fn hear(&mut self, samples: &[i16], engine: &SpeechEngine) {
        self.utterance.push(samples);
        let pieces = self.utterance.pieces(false);
        let Some(piece) = pieces
            .into_iter()
            .find(|piece| !self.texts.contains_key(&piece.samples))
        else {
            return;
        };
        match &self.pending {
            // The caller fell silent while older audio is transcribed: what is settled now is what will be asked for.
            Some((asked, _, _)) if piece.settled && asked.samples != piece.samples => self.pending = None,
            Some(_) => return,
            None => {}
        }
        let length = self.utterance.duration();
        let pause = INTERIM_EVERY.max(self.last_took * INTERIM_SHARE);
        let due = piece.voiced >= FIRST_INTERIM_AFTER && length >= self.asked_at + pause;
        if !(piece.settled || due) {
            return;
        }
        // No free thread: the next audio asks again.
        if let Ok(ticket) = engine.recognise(self.utterance.audio(&piece).to_vec(), Priority::Interim) {
            self.pending = Some((piece, ticket, Instant::now()));
            self.asked_at = length;
        }
    }

    /// Waits for the interim job, for ever if there is none. Cancel-safe.
    pub async fn interim(&mut self) -> Interim {
        let Some((_, ticket, _)) = &mut self.pending else {
            return std::future::pending().await;
        };
        let outcome = ticket.wait().await;
        let mut interim = Interim {
            id: self.id,
            text: None,
            first_after: None,
            lag: None,
        };
        let Some((piece, _, newest)) = self.pending.take() else {
            return interim;
        };
        match outcome {
            Ok(recognised) => {
                self.last_took = recognised.took;
                self.keep(&piece, &recognised);
                let text = self.text_so_far();
                if !text.is_empty() && text != self.reported {
                    interim.first_after = self.reported.is_empty().then(|| self.began.elapsed());
                    interim.lag = Some(newest.elapsed());
                    self.reported.clone_from(&text);
                    interim.text = Some(text);
                }
            }
            // What matters is said by the final job, which fails in the same way.
            Err(error) => tracing::debug!(%error, "no interim text"),
        }
        interim
    }

    fn keep(&mut self, piece: &Piece, recognised: &Recognised) {
        let text = piece.credible(recognised);
        if piece.settled {
            self.texts.insert(piece.samples.clone(), text.clone());
        }
        self.draft = Some((piece.samples.start, text));
    }

    fn text_so_far(&self) -> String {
        let texts: Vec<String> = self
            .utterance
            .pieces(false)
            .iter()
            .filter_map(|piece| {
                let draft = self.draft.as_ref().filter(|(start, _)| *start == piece.samples.start);
                self.texts.get(&piece.samples).or(draft.map(|(_, text)| text)).cloned()
            })
            .collect();
        join(&texts)
    }
}

/// An utterance that has ended; its missing pieces are being transcribed.
pub struct Finishing {
    parts: Vec<Part>,
}

struct Part {
    piece: Piece,
    audio: Vec<i16>,
    state: State,
}

enum State {
    /// Its text was made while the caller was still silent.
    Known(String),
    Asked(Ticket),
}

impl Finishing {
    /// Asks for whatever text is missing, all at once. An interim job in progress is kept if it is for exactly the
    /// same samples and cancelled otherwise.
    ///
    /// # Errors
    /// When the engine takes no more jobs.
    pub fn new(mut listening: Listening, engine: &SpeechEngine) -> Result<Self, SpeechError> {
        let pieces = listening.utterance.pieces(true);
        let mut parts = Vec::with_capacity(pieces.len());
        let mut pending = listening.pending.take();
        for piece in pieces {
            let audio = listening.utterance.audio(&piece).to_vec();
            let known = listening.texts.remove(&piece.samples);
            let state = match (known, pending.take_if(|(asked, _, _)| asked.samples == piece.samples)) {
                (Some(text), _) => State::Known(text),
                (None, Some((_, ticket, _))) => State::Asked(ticket),
                (None, None) => State::Asked(engine.recognise(audio.clone(), Priority::Final)?),
            };
            parts.push(Part { piece, audio, state });
        }
        Ok(Self { parts })
    }

    /// The whole text.
    ///
    /// # Errors
    /// When a piece cannot be transcribed: part of what was said is worse than an error the agent can speak about.
    pub async fn text(self, engine: &SpeechEngine) -> Result<String, SpeechError> {
        let mut texts = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let text = match part.state {
                State::Known(text) => text,
                State::Asked(mut ticket) => {
                    let recognised = match ticket.wait().await {
                        // An interim job made way for somebody's final one: now it is final itself.
                        Err(SpeechError::Cancelled) => engine.recognise(part.audio, Priority::Final)?.wait().await?,
                        outcome => outcome?,
                    };
                    part.piece.credible(&recognised)
                }
            };
            texts.push(text);
        }
        Ok(join(&texts))
    }
}
