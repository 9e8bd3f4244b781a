//! Latencies of a turn, and how long silence lasts.

use std::time::Duration;

use super::TurnTiming;
use crate::Time;

/// Asked when the caller has been silent for long.
pub(super) const IDLE_PROMPT: &str = "Are you still there?";
/// Said when a stage has failed and there is nothing else to say.
pub(super) const APOLOGY: &str = "Sorry, I am having trouble. Could you say that again?";

/// Times a silent caller is asked before they are left alone.
const MAX_IDLE_PROMPTS: u32 = 2;

/// When a user turn ended, as seen by the stages before the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpeechEnd {
    pub(super) last_voice_at: Time,
    pub(super) turn_end_at: Time,
    pub(super) transcript_at: Time,
}

impl SpeechEnd {
    pub(super) fn timing(self, first_token_at: Option<Time>, first_audio_at: Time) -> TurnTiming {
        let since = |at: Time| at.saturating_sub(self.last_voice_at);
        TurnTiming {
            endpoint: since(self.turn_end_at),
            transcript: since(self.transcript_at),
            first_token: since(first_token_at.unwrap_or(first_audio_at)),
            first_audio: since(first_audio_at),
        }
    }
}

/// How long nobody has said anything.
#[derive(Debug, Default)]
pub(super) struct Idle {
    since: Option<Time>,
    prompts: u32,
}

impl Idle {
    pub(super) fn observe(&mut self, quiet: bool, now: Time) {
        self.since = quiet.then(|| self.since.unwrap_or(now));
    }

    /// The caller is there.
    pub(super) fn reset(&mut self) {
        self.prompts = 0;
    }

    pub(super) fn prompted(&mut self) {
        self.prompts += 1;
    }

    pub(super) fn due(&self, after: Option<Duration>) -> Option<Time> {
        let (since, after) = (self.since?, after?);
        (self.prompts < MAX_IDLE_PROMPTS).then(|| since + after)
    }
}
