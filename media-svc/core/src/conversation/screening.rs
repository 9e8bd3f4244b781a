//! Who has answered an outbound call: a person or an answering machine.
//!
//! A person says a word or two and waits; a machine greets at length and then beeps. Of the caller's first speech:
//!
//! - it ends, and [`HUMAN_PAUSE`] of silence follow, before it is [`MACHINE_SPEECH`] long: a person. The greeting is said.
//! - it reaches [`MACHINE_SPEECH`] without such a pause: a machine. After its beep, or [`GREETING_PAUSE`] of silence, the
//!   message is left and the call ends; without a message it ends at once.
//! - nothing is heard for [`NOBODY`]: taken for a person, who is worth more than a wrongly greeted machine.
//!
//! The values are those in use: Twilio's detector takes 2 400 ms of speech for a machine and 1 200 ms of silence for its
//! end (`MachineDetectionSpeechThreshold`, `MachineDetectionSpeechEndThreshold`), Asterisk's AMD() 800 ms of silence after
//! a greeting for a person (`after_greeting_silence`). A verdict of the provider overrides ours while it can still
//! change something. Speech is measured in audio, not by the clock.

use std::time::Duration;

use super::ending::Phase;
use super::{Conversation, EndReason, VoiceFrame};
use crate::Time;

/// Silence after a short greeting by which it was a person's.
pub const HUMAN_PAUSE: Duration = Duration::from_millis(800);
/// Length of speech, short pauses included, from which it is a machine's.
pub const MACHINE_SPEECH: Duration = Duration::from_millis(2_400);
/// Silence after which a call is taken for a person's who says nothing.
pub const NOBODY: Duration = Duration::from_secs(4);
/// Silence after a machine's greeting by which it takes a message now, beep or no beep.
pub const GREETING_PAUSE: Duration = Duration::from_secs(2);
/// Longest greeting waited for.
pub const LONGEST_GREETING: Duration = Duration::from_secs(60);
/// Voice shorter than this is a click.
const SHORTEST_VOICE: Duration = Duration::from_millis(60);
/// How long the text of a person's first words is waited for before they are greeted.
const FIRST_WORDS_WAIT: Duration = Duration::from_millis(1_500);
/// How long a provider's verdict may come late and still turn a greeted person into a machine.
const CHANGE_OF_MIND: Duration = Duration::from_secs(30);

/// That a call is screened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screening {
    /// What is left on an answering machine; `None` = the call ends when there is one.
    pub voicemail_message: Option<String>,
}

/// Who has answered, as the phone provider found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// A person.
    Human,
    /// An answering machine or fax; it may still be greeting.
    Machine,
    /// An answering machine that takes a message now.
    MachineReady,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(super) enum Screen {
    /// Nobody asked, or it is decided.
    #[default]
    Open,
    /// Somebody has answered.
    Listening {
        since: Time,
        /// Speech so far, with the pauses inside.
        speech: Duration,
        /// Silence since the last voice.
        quiet: Duration,
        /// Voice that is not speech yet.
        voiced: Duration,
    },
    /// A person: greeted as soon as their first words are understood.
    Greeting { until: Time },
    /// A machine: its greeting is waited out.
    Machine { since: Time, quiet: Duration },
}

impl Screen {
    pub(super) fn listening(now: Time) -> Self {
        Self::Listening {
            since: now,
            speech: Duration::ZERO,
            quiet: Duration::ZERO,
            voiced: Duration::ZERO,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) fn due(&self) -> Option<Time> {
        match self {
            Self::Open => None,
            // Audio decides long before, unless none comes at all.
            Self::Listening { since, .. } => Some(*since + NOBODY + MACHINE_SPEECH + HUMAN_PAUSE),
            Self::Greeting { until } => Some(*until),
            Self::Machine { since, .. } => Some(*since + LONGEST_GREETING),
        }
    }

    /// Takes one piece of audio; a verdict when it decides.
    fn hear(&mut self, is_voice: bool, length: Duration) -> Option<AnsweredBy> {
        match self {
            Self::Listening {
                speech, quiet, voiced, ..
            } => {
                if is_voice {
                    *voiced += length;
                    if *voiced >= SHORTEST_VOICE {
                        // A pause that voice has followed belongs to the speech.
                        let pause = if speech.is_zero() {
                            Duration::ZERO
                        } else {
                            std::mem::take(quiet)
                        };
                        *speech += pause + std::mem::take(voiced);
                        *quiet = Duration::ZERO;
                    }
                } else {
                    *quiet += length + std::mem::take(voiced);
                }
                if *speech >= MACHINE_SPEECH {
                    Some(AnsweredBy::Machine)
                } else if (!speech.is_zero() && *quiet >= HUMAN_PAUSE) || *quiet >= NOBODY {
                    Some(AnsweredBy::Human)
                } else {
                    None
                }
            }
            Self::Machine { quiet, .. } => {
                *quiet = if is_voice { Duration::ZERO } else { *quiet + length };
                (*quiet >= GREETING_PAUSE).then_some(AnsweredBy::MachineReady)
            }
            Self::Open | Self::Greeting { .. } => None,
        }
    }
}

impl Conversation {
    /// Takes the verdict on one more piece of audio.
    pub(super) fn screen_voice(&mut self, frame: VoiceFrame) {
        let is_voice =
            frame.probability >= self.settings.vad_confidence && frame.volume >= self.settings.vad_min_volume;
        if let Some(verdict) = self.screen.hear(is_voice, frame.duration) {
            self.screened(verdict);
        }
    }

    /// The provider's verdict.
    pub(super) fn on_answered_by(&mut self, verdict: AnsweredBy) {
        if self.settings.screening.is_none() || !matches!(self.phase, Phase::Live) {
            return;
        }
        let undecided = !self.screen.is_open();
        let may_change = undecided || self.now <= CHANGE_OF_MIND;
        match verdict {
            AnsweredBy::Human if undecided && !matches!(self.screen, Screen::Greeting { .. }) => self.screened(verdict),
            AnsweredBy::Machine if may_change && !matches!(self.screen, Screen::Machine { .. }) => {
                self.screened(verdict);
            }
            AnsweredBy::MachineReady if may_change => self.screened(verdict),
            AnsweredBy::Human | AnsweredBy::Machine | AnsweredBy::MachineReady => {}
        }
    }

    /// A beep has ended.
    pub(super) fn on_beep(&mut self) {
        if matches!(self.screen, Screen::Listening { .. } | Screen::Machine { .. }) {
            self.screened(AnsweredBy::MachineReady);
        }
    }

    /// Decides what is overdue.
    pub(super) fn expire_screen(&mut self) {
        if self.screen.due().is_none_or(|due| due > self.now) {
            return;
        }
        match self.screen {
            Screen::Open => {}
            Screen::Listening { .. } => self.screened(AnsweredBy::Human),
            Screen::Greeting { .. } => self.greet(),
            Screen::Machine { .. } => self.screened(AnsweredBy::MachineReady),
        }
    }

    /// Greets a person whose first words are understood.
    pub(super) fn greet_when_understood(&mut self) {
        let busy = self.recognition.is_finishing() || self.caller_holds_turn();
        if matches!(self.screen, Screen::Greeting { .. }) && !busy {
            self.greet();
            self.pump();
        }
    }

    fn greet(&mut self) {
        self.screen = Screen::Open;
        if let Some(greeting) = self.settings.greeting.clone()
            && matches!(self.phase, Phase::Live)
        {
            // It answers their "hello?".
            let hello = self.pending.take();
            self.say(&greeting, hello);
        }
    }

    fn screened(&mut self, verdict: AnsweredBy) {
        let Some(screening) = &self.settings.screening else {
            return;
        };
        let message = screening.voicemail_message.clone();
        self.notify(super::Notice::AnsweredBy(verdict));
        match verdict {
            AnsweredBy::Human => {
                self.screen = Screen::Greeting {
                    until: self.now + FIRST_WORDS_WAIT,
                };
            }
            AnsweredBy::Machine if message.is_some() => {
                self.cut();
                self.screen = Screen::Machine {
                    since: self.now,
                    quiet: Duration::ZERO,
                };
            }
            AnsweredBy::Machine | AnsweredBy::MachineReady => {
                self.cut();
                self.screen = Screen::Open;
                self.on_end_requested(EndReason::AnsweringMachine, message);
            }
        }
    }
}
