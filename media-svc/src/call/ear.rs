//! The caller's audio on its way to recognition: resampled to 16 kHz, judged for voice, kept for the pre-roll.

use std::collections::VecDeque;
use std::time::Duration;

use media_core::audio::RECOGNITION_RATE_HZ;
use media_core::audio::resample::{Resampler, UnsupportedRate};
use media_core::conversation::{UtteranceId, VoiceFrame};
use tokio::sync::mpsc;

use crate::providers::SttCommand;
use crate::speech::vad::Vad;

/// Audio kept for the pre-roll of an utterance, and for starting a failed recognition again: 10 s.
const PRE_ROLL_SAMPLES: usize = 10 * RECOGNITION_RATE_HZ as usize;

/// Hears the caller.
pub struct Ear {
    resampler: Resampler,
    vad: Vad,
    /// The last samples heard; `heard` is the position after the newest one.
    recent: VecDeque<i16>,
    heard: u64,
    open: Option<Open>,
    stt: mpsc::Sender<SttCommand>,
}

/// An utterance that audio belongs to.
struct Open {
    utterance: UtteranceId,
    /// Position of the first sample not yet sent.
    next: u64,
}

/// Recognition takes no more commands: its queue is full or its task is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stalled(pub UtteranceId);

impl Ear {
    /// For caller audio at this rate.
    pub fn new(input_rate_hz: u32, stt: mpsc::Sender<SttCommand>) -> Result<Self, UnsupportedRate> {
        Ok(Self {
            resampler: Resampler::new(input_rate_hz, RECOGNITION_RATE_HZ)?,
            vad: Vad::new(),
            recent: VecDeque::with_capacity(PRE_ROLL_SAMPLES),
            heard: 0,
            open: None,
            stt,
        })
    }

    /// Takes caller audio; answers the voice verdicts it completed.
    pub fn hear(&mut self, samples: &[i16]) -> Vec<VoiceFrame> {
        let samples = self.resampler.process(samples);
        self.heard += samples.len() as u64;
        let surplus = (self.recent.len() + samples.len()).saturating_sub(PRE_ROLL_SAMPLES);
        self.recent.drain(..surplus.min(self.recent.len()));
        self.recent.extend(samples.iter().copied());
        self.vad.push(&samples).collect()
    }

    /// Opens an utterance that begins `pre_roll` before now.
    pub fn begin(&mut self, utterance: UtteranceId, pre_roll: Duration) -> Result<(), Stalled> {
        self.open = Some(Open {
            utterance,
            next: self.first_of(pre_roll),
        });
        self.command(utterance, SttCommand::Begin(utterance))
    }

    /// How much was heard before what an utterance with this pre-roll begins with.
    pub fn position(&self, pre_roll: Duration) -> Duration {
        Duration::from_micros(self.first_of(pre_roll) * 1_000_000 / u64::from(RECOGNITION_RATE_HZ))
    }

    fn first_of(&self, pre_roll: Duration) -> u64 {
        let back = u64::try_from(pre_roll.as_millis()).unwrap_or(u64::MAX) * u64::from(RECOGNITION_RATE_HZ) / 1_000;
        let oldest = self.heard - self.recent.len() as u64;
        self.heard.saturating_sub(back).max(oldest)
    }

    /// Sends the open utterance whatever was heard since the last time.
    pub fn forward(&mut self) -> Result<(), Stalled> {
        let oldest = self.heard - self.recent.len() as u64;
        let Some(open) = self.open.as_mut().filter(|open| open.next < self.heard) else {
            return Ok(());
        };
        let skip = usize::try_from(open.next.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let samples: Vec<i16> = self.recent.iter().skip(skip).copied().collect();
        open.next = self.heard;
        let utterance = open.utterance;
        self.command(utterance, SttCommand::Audio(utterance, samples))
    }

    /// Closes an utterance: its final text is wanted.
    pub fn end(&mut self, utterance: UtteranceId) -> Result<(), Stalled> {
        self.forward()?;
        self.close(utterance);
        self.command(utterance, SttCommand::End(utterance))
    }

    /// Forgets an utterance.
    pub fn cancel(&mut self, utterance: UtteranceId) -> Result<(), Stalled> {
        self.close(utterance);
        self.command(utterance, SttCommand::Cancel(utterance))
    }

    fn close(&mut self, utterance: UtteranceId) {
        if self.open.as_ref().is_some_and(|open| open.utterance == utterance) {
            self.open = None;
        }
    }

    fn command(&mut self, utterance: UtteranceId, command: SttCommand) -> Result<(), Stalled> {
        self.stt.try_send(command).map_err(|_| {
            self.close(utterance);
            Stalled(utterance)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(command: SttCommand) -> Vec<i16> {
        match command {
            SttCommand::Audio(_, samples) => samples,
            SttCommand::Begin(_) | SttCommand::End(_) | SttCommand::Cancel(_) => panic!("not audio: {command:?}"),
        }
    }

    #[test]
    fn an_utterance_gets_its_pre_roll_and_every_sample_after_it_once() {
        let (stt, mut commands) = mpsc::channel(10);
        let mut ear = Ear::new(16_000, stt).unwrap();
        ear.hear(&(0..320).collect::<Vec<i16>>());
        ear.begin(UtteranceId(1), Duration::from_millis(10)).unwrap();
        ear.forward().unwrap();
        ear.hear(&(320..640).collect::<Vec<i16>>());
        ear.forward().unwrap();
        ear.end(UtteranceId(1)).unwrap();
        assert!(matches!(
            commands.try_recv().unwrap(),
            SttCommand::Begin(UtteranceId(1))
        ));
        assert_eq!(audio(commands.try_recv().unwrap()), (160..320).collect::<Vec<i16>>());
        assert_eq!(audio(commands.try_recv().unwrap()), (320..640).collect::<Vec<i16>>());
        assert!(matches!(commands.try_recv().unwrap(), SttCommand::End(UtteranceId(1))));
    }

    #[test]
    fn a_recogniser_that_takes_nothing_is_reported_and_not_waited_for() {
        let (stt, _commands) = mpsc::channel(1);
        let mut ear = Ear::new(16_000, stt).unwrap();
        ear.begin(UtteranceId(1), Duration::ZERO).unwrap();
        assert_eq!(ear.end(UtteranceId(1)), Err(Stalled(UtteranceId(1))));
    }
}
