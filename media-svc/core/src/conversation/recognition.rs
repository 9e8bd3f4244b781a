//! Utterances on their way through recognition, in the order spoken.

use std::collections::VecDeque;
use std::time::Duration;

use super::UtteranceId;
use super::timing::SpeechEnd;
use crate::Time;

/// How long recognition may take to finish before the text so far is used.
pub(super) const RECOGNITION_TIMEOUT: Duration = Duration::from_secs(10);

/// One utterance whose text is not final yet, or waits for the one before it.
#[derive(Debug)]
pub(super) struct Utterance {
    pub(super) id: UtteranceId,
    pub(super) started_at: Time,
    /// When recognition was begun and with how much earlier audio: another attempt needs the same audio.
    pub(super) begun_at: Time,
    pub(super) pre_roll: Duration,
    /// Began while the caller had not stopped since the turn before.
    pub(super) continues: bool,
    /// The second attempt after a failure.
    pub(super) retried: bool,
    interim: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    Finishing {
        last_voice_at: Time,
        ended_at: Time,
    },
    Resolved {
        text: String,
        end: Option<SpeechEnd>,
        failed: bool,
    },
}

/// What was understood of an utterance.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) id: UtteranceId,
    pub(super) started_at: Time,
    /// Empty when nothing was understood.
    pub(super) text: String,
    pub(super) end: Option<SpeechEnd>,
    /// Recognition failed.
    pub(super) failed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Recognition {
    utterances: VecDeque<Utterance>,
}

impl Recognition {
    pub(super) fn is_empty(&self) -> bool {
        self.utterances.is_empty()
    }

    /// Whether the text of an utterance that has ended is still to come.
    pub(super) fn is_finishing(&self) -> bool {
        self.utterances
            .iter()
            .any(|utterance| matches!(utterance.state, State::Finishing { .. }))
    }

    /// Whether the caller goes on with a turn that was closed for its length.
    pub(super) fn continues_forced_turn(&self) -> bool {
        self.utterances
            .iter()
            .any(|utterance| utterance.continues && utterance.is_open())
    }

    /// Whether recognition runs for anything.
    pub(super) fn is_waiting(&self) -> bool {
        self.utterances.iter().any(Utterance::is_unresolved)
    }

    pub(super) fn begin(
        &mut self,
        id: UtteranceId,
        started_at: Time,
        begun_at: Time,
        pre_roll: Duration,
        continues: bool,
    ) {
        let (retried, interim, state) = (false, String::new(), State::Open);
        let utterance = Utterance {
            id,
            started_at,
            begun_at,
            pre_roll,
            continues,
            retried,
            interim,
            state,
        };
        self.utterances.push_back(utterance);
    }

    /// Marks the newest utterance as the second attempt of one that failed.
    pub(super) fn mark_retried(&mut self) {
        if let Some(utterance) = self.utterances.back_mut() {
            utterance.retried = true;
        }
    }

    /// The caller has stopped: returns the utterance to finish.
    pub(super) fn end(&mut self, last_voice_at: Time, now: Time) -> Option<UtteranceId> {
        let open = self
            .utterances
            .iter_mut()
            .find(|utterance| matches!(utterance.state, State::Open))?;
        open.state = State::Finishing {
            last_voice_at,
            ended_at: now,
        };
        Some(open.id)
    }

    /// The utterance with this id, unless its text is settled.
    pub(super) fn get(&self, id: UtteranceId) -> Option<&Utterance> {
        self.utterances
            .iter()
            .find(|utterance| utterance.id == id && utterance.is_unresolved())
    }

    pub(super) fn interim(&mut self, id: UtteranceId, text: &str) {
        if let Some(utterance) = self.unresolved(id) {
            text.clone_into(&mut utterance.interim);
        }
    }

    /// The final text, or the text so far when none will come.
    pub(super) fn resolve(&mut self, id: UtteranceId, text: Option<String>, now: Time) {
        if let Some(utterance) = self.unresolved(id) {
            utterance.resolve(text, now);
        }
    }

    /// The utterance whose recognition takes too long.
    pub(super) fn overdue(&self, now: Time) -> Option<UtteranceId> {
        self.utterances
            .iter()
            .find(|utterance| utterance.due().is_some_and(|due| due <= now))
            .map(|late| late.id)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.utterances.iter().filter_map(Utterance::due).min()
    }

    /// The first utterance, if its text is settled.
    pub(super) fn take_understood(&mut self) -> Option<Understood> {
        let utterance = self.utterances.pop_front_if(|utterance| !utterance.is_unresolved())?;
        match utterance.state {
            State::Resolved { text, end, failed } => Some(Understood {
                id: utterance.id,
                started_at: utterance.started_at,
                text,
                end,
                failed,
            }),
            State::Open | State::Finishing { .. } => None,
        }
    }

    /// Settles everything with the text so far; returns the utterances that recognition still runs for.
    pub(super) fn abandon(&mut self, now: Time) -> Vec<UtteranceId> {
        let mut running = Vec::new();
        for utterance in self.utterances.iter_mut().filter(|utterance| utterance.is_unresolved()) {
            running.push(utterance.id);
            utterance.resolve(None, now);
        }
        running
    }

    fn unresolved(&mut self, id: UtteranceId) -> Option<&mut Utterance> {
        self.utterances
            .iter_mut()
            .find(|utterance| utterance.id == id && utterance.is_unresolved())
    }
}

impl Utterance {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(super) fn has_text(&self) -> bool {
        !self.interim.trim().is_empty()
    }

    fn is_unresolved(&self) -> bool {
        matches!(self.state, State::Open | State::Finishing { .. })
    }

    fn due(&self) -> Option<Time> {
        match self.state {
            State::Finishing { ended_at, .. } => Some(ended_at + RECOGNITION_TIMEOUT),
            State::Open | State::Resolved { .. } => None,
        }
    }

    fn resolve(&mut self, text: Option<String>, now: Time) {
        let end = match self.state {
            State::Finishing {
                last_voice_at,
                ended_at,
            } => Some(SpeechEnd {
                last_voice_at,
                turn_end_at: ended_at,
                transcript_at: now,
            }),
            State::Open | State::Resolved { .. } => None,
        };
        let failed = text.is_none();
        let text = text.unwrap_or_else(|| std::mem::take(&mut self.interim));
        self.state = State::Resolved {
            text: text.trim().to_owned(),
            end,
            failed,
        };
    }
}
