//! Hears the beep after which an answering machine takes a message: one steady pure tone.
//!
//! Every 20 ms block is compared with pure tones of 350 to 2 500 Hz, 25 Hz apart (Goertzel). Beeps differ from one
//! mailbox to the next, in length from 0.15 s to a second or more; what they share is that nearly all of their power is
//! in one place and stays there. Vowels spread theirs over harmonics and glide; ringing, busy and keypad tones have two
//! frequencies.

use super::goertzel;

/// Length of a block.
const BLOCK_MS: u32 = 20;
const LOWEST_HZ: u32 = 350;
const HIGHEST_HZ: u32 = 2_500;
const STEP_HZ: usize = 25;
/// Share of a block's power that a tone has in its nearest bin: one half-way between two bins still has 0.81.
const PURE: f64 = 0.75;
/// Quieter tones are line noise.
const QUIETEST_DB: f64 = -40.0;
/// How far a steady tone may seem to move between blocks.
const DRIFT_HZ: u32 = 50;
/// Blocks after which a tone is a beep: 140 ms.
const SHORTEST: u32 = 7;

/// Listens for a beep.
#[derive(Debug)]
pub struct BeepDetector {
    rate_hz: u32,
    block: Vec<i16>,
    tone: Option<Tone>,
}

#[derive(Debug, Clone, Copy)]
struct Tone {
    frequency_hz: u32,
    blocks: u32,
}

impl BeepDetector {
    /// For audio of this rate.
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz,
            block: Vec::new(),
            tone: None,
        }
    }

    /// Takes audio; true when a beep has just ended and the message may begin.
    pub fn hear(&mut self, samples: &[i16]) -> bool {
        let length = (self.rate_hz * BLOCK_MS / 1_000) as usize;
        let mut ended = false;
        for &sample in samples {
            self.block.push(sample);
            if self.block.len() >= length {
                let found = pure_tone(&self.block, self.rate_hz);
                self.block.clear();
                ended |= self.step(found);
            }
        }
        ended
    }

    fn step(&mut self, found: Option<u32>) -> bool {
        match (self.tone, found) {
            (Some(tone), Some(frequency)) if tone.frequency_hz.abs_diff(frequency) <= DRIFT_HZ => {
                self.tone = Some(Tone {
                    blocks: tone.blocks.saturating_add(1),
                    ..tone
                });
                false
            }
            (before, found) => {
                self.tone = found.map(|frequency_hz| Tone {
                    frequency_hz,
                    blocks: 1,
                });
                before.is_some_and(|tone| tone.blocks >= SHORTEST)
            }
        }
    }
}

/// Frequency of the one tone that a block consists of.
fn pure_tone(block: &[i16], rate_hz: u32) -> Option<u32> {
    if goertzel::level_db(block) < QUIETEST_DB {
        return None;
    }
    let candidates = (LOWEST_HZ..=HIGHEST_HZ).step_by(STEP_HZ);
    let shares = candidates.map(|frequency| (frequency, goertzel::share(block, f64::from(frequency), rate_hz)));
    let (frequency, share) = shares.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (share >= PURE).then_some(frequency)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::audio::{dtmf, g711};

    fn sines(frequencies: &[f64], ms: u32, peak: f64) -> Vec<i16> {
        let sample = |n: u32| {
            let sum: f64 = frequencies
                .iter()
                .map(|f| (2.0 * PI * f * f64::from(n) / 8_000.0).sin())
                .sum();
            (sum * peak / frequencies.len() as f64) as i16
        };
        (0..ms * 8).map(sample).collect()
    }

    fn hears(sound: &[i16]) -> bool {
        let mut detector = BeepDetector::new(8_000);
        let line = g711::decode_ulaw(&g711::encode_ulaw(sound));
        let heard = line
            .chunks(160)
            .fold(false, |heard, frame| detector.hear(frame) | heard);
        heard | detector.hear(&[0; 320])
    }

    #[test]
    fn beeps_of_every_usual_pitch_and_length_are_heard_when_they_end() {
        for frequency in [400.0, 425.0, 613.0, 850.0, 987.0, 1_000.0, 1_400.0, 2_112.0] {
            for ms in [200, 500, 1_000] {
                assert!(hears(&sines(&[frequency], ms, 6_000.0)), "{frequency} Hz, {ms} ms");
            }
        }
        let mut detector = BeepDetector::new(8_000);
        assert!(!detector.hear(&sines(&[1_000.0], 1_000, 6_000.0)), "it has not ended");
        assert!(detector.hear(&[0; 160]));
        assert!(!detector.hear(&[0; 1_600]), "it is told once");
    }

    #[test]
    fn clicks_other_signals_and_faint_tones_are_no_beeps() {
        assert!(!hears(&sines(&[1_000.0], 80, 6_000.0)), "a click");
        assert!(
            !hears(&sines(&[440.0, 480.0], 2_000, 12_000.0)),
            "ringing, North America"
        );
        assert!(!hears(&sines(&[480.0, 620.0], 500, 12_000.0)), "busy, North America");
        assert!(!hears(&sines(&[1_000.0], 500, 200.0)), "too faint");
        assert!(!hears(&dtmf::tones("159D", 8_000)), "keys");
        assert!(!hears(&[0; 8_000]));
    }

    #[test]
    fn voiced_speech_has_harmonics_and_is_no_beep() {
        for pitch in [95.0, 130.0, 210.0, 260.0] {
            let vowel: Vec<f64> = (1..=8).map(|n| pitch * f64::from(n)).collect();
            assert!(!hears(&sines(&vowel, 1_000, 16_000.0)), "{pitch} Hz");
        }
    }
}
