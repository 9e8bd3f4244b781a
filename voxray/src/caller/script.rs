//! What a simulated caller does, step by step, driven by a 20 ms clock.

use std::time::Duration;

/// One packet time.
pub const TICK: Duration = Duration::from_millis(20);
/// Samples of one packet at 8 kHz.
pub const TICK_SAMPLES: usize = 160;

/// One thing a caller does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Wait until the agent has spoken and then been quiet for a while.
    WaitForAnswer {
        /// Quiet that counts as "has finished".
        quiet: Duration,
        /// Longest wait; the call fails after it.
        timeout: Duration,
    },
    /// Wait until the agent has been heard for this long (to interrupt it).
    WaitForSpeech {
        /// Speech to hear first.
        heard: Duration,
        /// Longest wait; the call fails after it.
        timeout: Duration,
    },
    /// Say something: mono 8 kHz.
    Say {
        /// What is said, for people and for comparing transcripts.
        text: String,
        /// The audio.
        samples: Vec<i16>,
    },
    /// Stay silent on the line.
    Silence(Duration),
    /// Press a key.
    Press(char),
    /// Wait for the agent to end the call.
    WaitForHangUp {
        /// Longest wait; the call fails after it.
        timeout: Duration,
    },
}

impl Step {
    /// Waits for an answer with the usual figures: 1.2 s of quiet, 30 s at most.
    pub fn answer() -> Self {
        Self::WaitForAnswer {
            quiet: Duration::from_millis(1_200),
            timeout: Duration::from_secs(30),
        }
    }
}

/// What a step wants in one tick.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send these samples (padded with silence to a whole packet).
    Audio(Vec<i16>),
    /// Send a packet of silence.
    Quiet,
    /// Press a key.
    Key(char),
    /// The script is over: hang up.
    HangUp,
    /// The agent did not do what the step waited for.
    TimedOut(&'static str),
}

/// When something was said, in ticks since the call began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Text of the step.
    pub text: String,
    /// First tick.
    pub from: usize,
    /// Tick after the last one.
    pub to: usize,
}

/// Runs a script.
#[derive(Debug)]
pub struct Script {
    steps: std::vec::IntoIter<Step>,
    current: Option<Running>,
    tick: usize,
    said: Vec<Said>,
}

#[derive(Debug)]
struct Running {
    step: Step,
    since: usize,
    agent_spoke: usize,
    agent_quiet: usize,
}

impl Script {
    /// Starts at the first step.
    pub fn new(steps: Vec<Step>) -> Self {
        let mut script = Self {
            steps: steps.into_iter(),
            current: None,
            tick: 0,
            said: Vec::new(),
        };
        script.advance();
        script
    }

    /// Everything said so far.
    pub fn said(&self) -> &[Said] {
        &self.said
    }

    /// Ticks since the call began.
    pub fn ticks(&self) -> usize {
        self.tick
    }

    /// Whether only the agent's hang-up is awaited.
    pub fn expects_hang_up(&self) -> bool {
        matches!(
            self.current.as_ref().map(|running| &running.step),
            Some(Step::WaitForHangUp { .. }) | None
        )
    }

    /// One tick: told whether the agent is audible now, answers what to send.
    pub fn tick(&mut self, agent_audible: bool) -> Action {
        let now = self.tick;
        self.tick += 1;
        let Some(running) = self.current.as_mut() else {
            return Action::HangUp;
        };
        if agent_audible {
            running.agent_spoke += 1;
            running.agent_quiet = 0;
        } else {
            running.agent_quiet += 1;
        }
        let waited = now - running.since;
        match &mut running.step {
            Step::WaitForAnswer { quiet, timeout } => {
                if running.agent_spoke > 0 && running.agent_quiet >= ticks(*quiet) {
                    self.advance();
                } else if waited >= ticks(*timeout) {
                    return Action::TimedOut("the agent to answer and finish speaking");
                }
                Action::Quiet
            }
            Step::WaitForSpeech { heard, timeout } => {
                if running.agent_spoke >= ticks(*heard) {
                    self.advance();
                } else if waited >= ticks(*timeout) {
                    return Action::TimedOut("the agent to speak");
                }
                Action::Quiet
            }
            Step::Say { text, samples } => {
                if waited == 0 {
                    self.said.push(Said {
                        text: std::mem::take(text),
                        from: now,
                        to: now,
                    });
                }
                let packet: Vec<i16> = samples.drain(..samples.len().min(TICK_SAMPLES)).collect();
                let done = samples.is_empty();
                if let Some(said) = self.said.last_mut() {
                    said.to = now + 1;
                }
                if done {
                    self.advance();
                }
                Action::Audio(packet)
            }
            Step::Silence(length) => {
                if waited + 1 >= ticks(*length) {
                    self.advance();
                }
                Action::Quiet
            }
            Step::Press(key) => {
                let key = *key;
                self.advance();
                Action::Key(key)
            }
            Step::WaitForHangUp { timeout } => {
                if waited >= ticks(*timeout) {
                    return Action::TimedOut("the agent to end the call");
                }
                Action::Quiet
            }
        }
    }

    fn advance(&mut self) {
        self.current = self.steps.next().map(|step| Running {
            step,
            since: self.tick,
            agent_spoke: 0,
            agent_quiet: 0,
        });
    }
}

fn ticks(duration: Duration) -> usize {
    usize::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_speaks_only_after_the_agent_has_finished() {
        let say = Step::Say {
            text: "hello".into(),
            samples: vec![1; 200],
        };
        let mut script = Script::new(vec![
            Step::WaitForAnswer {
                quiet: Duration::from_millis(40),
                timeout: Duration::from_secs(1),
            },
            say,
        ]);
        assert_eq!(script.tick(false), Action::Quiet);
        assert_eq!(script.tick(true), Action::Quiet);
        assert_eq!(script.tick(false), Action::Quiet);
        assert_eq!(script.tick(false), Action::Quiet);
        assert_eq!(script.tick(false), Action::Audio(vec![1; 160]));
        assert_eq!(script.tick(false), Action::Audio(vec![1; 40]));
        assert_eq!(script.tick(false), Action::HangUp);
        assert_eq!(
            script.said(),
            [Said {
                text: "hello".into(),
                from: 4,
                to: 6
            }]
        );
    }

    #[test]
    fn a_silent_agent_is_reported() {
        let mut script = Script::new(vec![Step::WaitForAnswer {
            quiet: TICK,
            timeout: Duration::from_millis(40),
        }]);
        script.tick(false);
        script.tick(false);
        assert!(matches!(script.tick(false), Action::TimedOut(_)));
    }
}
