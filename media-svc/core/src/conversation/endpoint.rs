//! Finds the beginning and the end of caller speech in voice frames.
//!
//! Speech and silence are measured in audio, not by the clock: a network stall neither ends a turn nor delivers half a
//! second of silence at once. The clock only closes turns that are too long or whose audio has stopped coming.

use std::time::Duration;

use super::{Settings, VoiceFrame};
use crate::Time;

/// A gap this short inside the first syllables does not start the count again (stop consonants).
const ONSET_GAP: Duration = Duration::from_millis(64);

/// Shortest piece of audio that is judged.
const SHORTEST_FRAME: Duration = Duration::from_millis(10);

impl Settings {
    /// Most audio from before now that an utterance may begin with, unless it is a second attempt.
    pub fn longest_pre_roll(&self) -> Duration {
        // Before each piece of voice but the first there may be a gap that does not count.
        let pieces = self.vad_start.div_duration_f64(SHORTEST_FRAME).ceil();
        self.pre_speech + self.vad_start + SHORTEST_FRAME + ONSET_GAP.mul_f64(pieces)
    }
}

/// A change in whether the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Edge {
    /// Speech has begun.
    Started {
        /// Audio from before now that belongs to it.
        pre_roll: Duration,
        /// When the first voice came.
        started_at: Time,
        /// The caller never stopped: the turn before was only closed because it was too long.
        continues: bool,
    },
    /// The turn is over.
    Stopped {
        /// When the last voice came.
        last_voice_at: Time,
    },
}

#[derive(Debug)]
pub(super) struct Endpoint {
    state: State,
    /// Audio since the last utterance ended; none of it may be recognised twice.
    since_stop: Duration,
    last_frame_at: Time,
}

#[derive(Debug)]
enum State {
    Quiet {
        onset: Onset,
        /// Silence still missing until speech counts as new after a turn that was closed for its length.
        unbroken: Option<Duration>,
    },
    Speaking {
        started_at: Time,
        last_voice_at: Time,
        silence: Duration,
        /// Voice after the caller had stopped: a click does not start the silence again, a word does.
        revival: Onset,
    },
}

/// Voice that may become speech.
#[derive(Debug, Default)]
struct Onset {
    voiced: Duration,
    gap: Duration,
    span: Duration,
}

impl Onset {
    fn voice(&mut self, duration: Duration) {
        self.voiced += duration;
        self.gap = Duration::ZERO;
        self.span += duration;
    }

    /// Takes silence; returns the audio to forget once the gap is too long.
    fn silence(&mut self, duration: Duration) -> Option<Duration> {
        if self.voiced.is_zero() {
            return Some(duration);
        }
        self.gap += duration;
        self.span += duration;
        (self.gap > ONSET_GAP).then(|| std::mem::take(self).span)
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        let state = State::Quiet {
            onset: Onset::default(),
            unbroken: None,
        };
        Self {
            state,
            since_stop: Duration::MAX,
            last_frame_at: Time::ZERO,
        }
    }
}

impl Endpoint {
    pub(super) fn is_speaking(&self) -> bool {
        matches!(self.state, State::Speaking { .. })
    }

    /// Takes the verdict on one more piece of audio.
    pub(super) fn voice(&mut self, now: Time, frame: VoiceFrame, settings: &Settings) -> Option<Edge> {
        let is_voice = frame.probability >= settings.vad_confidence && frame.volume >= settings.vad_min_volume;
        let stalled = now.saturating_sub(self.last_frame_at) >= settings.no_audio_turn_stop;
        self.last_frame_at = now;
        self.since_stop = self.since_stop.saturating_add(frame.duration);
        match &mut self.state {
            State::Quiet { onset, unbroken } => {
                if stalled {
                    *onset = Onset::default();
                }
                if !is_voice {
                    if let (Some(quiet), Some(missing)) = (onset.silence(frame.duration), unbroken.as_mut()) {
                        *missing = missing.saturating_sub(quiet);
                    }
                    if unbroken.is_some_and(|missing| missing.is_zero()) {
                        *unbroken = None;
                    }
                    return None;
                }
                onset.voice(frame.duration);
                if onset.voiced < settings.vad_start {
                    return None;
                }
                let (span, continues) = (onset.span, unbroken.is_some());
                let started_at = now.saturating_sub(span);
                self.state = State::Speaking {
                    started_at,
                    last_voice_at: now,
                    silence: Duration::ZERO,
                    revival: Onset::default(),
                };
                let pre_roll = (settings.pre_speech + span).min(self.since_stop);
                Some(Edge::Started {
                    pre_roll,
                    started_at,
                    continues,
                })
            }
            State::Speaking {
                last_voice_at,
                silence,
                revival,
                ..
            } => {
                if is_voice {
                    revival.voice(frame.duration);
                    if *silence < settings.vad_stop || revival.voiced >= settings.vad_start {
                        *silence = Duration::ZERO;
                        *revival = Onset::default();
                        *last_voice_at = now;
                    }
                } else if let Some(quiet) = revival.silence(frame.duration) {
                    *silence += quiet;
                }
                if *silence >= settings.turn_stop {
                    self.stop(None)
                } else {
                    None
                }
            }
        }
    }

    /// What the clock brings about: a turn that is too long, or one whose audio has stopped.
    pub(super) fn elapsed(&mut self, now: Time, settings: &Settings) -> Option<Edge> {
        let State::Speaking { started_at, .. } = &self.state else {
            return None;
        };
        if self.last_frame_at + settings.no_audio_turn_stop <= now {
            self.stop(None)
        } else if *started_at + settings.turn_max <= now {
            self.stop(Some(settings.vad_stop))
        } else {
            None
        }
    }

    pub(super) fn deadline(&self, settings: &Settings) -> Option<Time> {
        let State::Speaking { started_at, .. } = &self.state else {
            return None;
        };
        Some((*started_at + settings.turn_max).min(self.last_frame_at + settings.no_audio_turn_stop))
    }

    /// Ends the turn now, if there is one.
    pub(super) fn stop(&mut self, unbroken: Option<Duration>) -> Option<Edge> {
        let State::Speaking { last_voice_at, .. } = self.state else {
            return None;
        };
        self.state = State::Quiet {
            onset: Onset::default(),
            unbroken,
        };
        self.since_stop = Duration::ZERO;
        Some(Edge::Stopped { last_voice_at })
    }
}
