//! Voice activity: a small neural detector (earshot) over 16 ms frames at 16 kHz.

use std::time::Duration;

use media_core::audio::{RECOGNITION_RATE_HZ, level};
use media_core::conversation::VoiceFrame;

/// Samples the detector judges at once: 16 ms at 16 kHz.
pub const FRAME_SAMPLES: usize = 256;

/// A detector for one audio stream. It remembers what it heard: make one for each stream.
pub struct Vad {
    detector: Box<earshot::Detector>,
    /// Samples that do not fill a frame yet; fewer than [`FRAME_SAMPLES`].
    rest: Vec<i16>,
}

impl Vad {
    /// A detector that has heard nothing.
    pub fn new() -> Self {
        Self {
            detector: Box::default(),
            rest: Vec::with_capacity(FRAME_SAMPLES),
        }
    }

    /// Takes mono 16 kHz audio of any length and gives one verdict for every complete 16 ms frame; the rest is kept
    /// for the next push. One frame costs about 6 µs.
    pub fn push(&mut self, samples_16k: &[i16]) -> impl Iterator<Item = VoiceFrame> + use<> {
        let mut frames = Vec::with_capacity(samples_16k.len() / FRAME_SAMPLES + 1);
        let mut input = samples_16k;
        while self.rest.len() + input.len() >= FRAME_SAMPLES {
            let (head, tail) = input.split_at(FRAME_SAMPLES - self.rest.len());
            self.rest.extend_from_slice(head);
            input = tail;
            let probability = self.detector.predict_i16(&self.rest).clamp(0.0, 1.0);
            frames.push(VoiceFrame {
                probability,
                volume: level::rms(&self.rest),
                duration: Duration::from_micros(FRAME_SAMPLES as u64 * 1_000_000 / u64::from(RECOGNITION_RATE_HZ)),
            });
            self.rest.clear();
        }
        self.rest.extend_from_slice(input);
        frames.into_iter()
    }
}

impl Default for Vad {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sized_pushes_give_the_same_verdicts_as_one_push() {
        let audio: Vec<i16> = (0..16_000u32).map(|n| ((n * n) % 8_000) as i16 - 4_000).collect();
        let whole: Vec<_> = Vad::new().push(&audio).collect();

        let mut vad = Vad::new();
        let pieces: Vec<_> = audio.chunks(137).flat_map(|chunk| vad.push(chunk)).collect();

        assert_eq!(whole.len(), 16_000 / FRAME_SAMPLES);
        assert_eq!(whole, pieces);
    }

    #[test]
    fn digital_silence_is_neither_loud_nor_voice() {
        let frames: Vec<_> = Vad::new().push(&[0; 16_000]).collect();
        assert!(
            frames
                .iter()
                .all(|frame| frame.volume == 0.0 && frame.probability < 0.5)
        );
    }
}
