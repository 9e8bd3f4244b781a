//! The far end's player: what the agent sent is played by the clock, marks are echoed when reached, `clear` empties it.

use std::collections::VecDeque;

use super::script::TICK_SAMPLES;

/// Root mean square above which a packet counts as audible speech (about −50 dBFS).
const AUDIBLE_RMS: f64 = 100.0;

/// Audio waiting to be played, and everything played so far.
#[derive(Debug, Default)]
pub struct Playback {
    queue: VecDeque<Item>,
    heard: Vec<i16>,
}

#[derive(Debug)]
enum Item {
    Audio(VecDeque<i16>),
    Mark(String),
}

/// What one tick of playback gave.
#[derive(Debug, Default)]
pub struct Played {
    /// Whether the caller heard speech.
    pub audible: bool,
    /// Marks reached.
    pub marks: Vec<String>,
}

impl Playback {
    /// More audio from the agent.
    pub fn push(&mut self, samples: Vec<i16>) {
        self.queue.push_back(Item::Audio(samples.into()));
    }

    /// A mark behind what was sent so far.
    pub fn mark(&mut self, name: String) {
        self.queue.push_back(Item::Mark(name));
    }

    /// Drops what was not played; answers the marks that were waiting, as providers do.
    pub fn clear(&mut self) -> Vec<String> {
        self.queue
            .drain(..)
            .filter_map(|item| match item {
                Item::Audio(_) => None,
                Item::Mark(name) => Some(name),
            })
            .collect()
    }

    /// Milliseconds of audio not yet played.
    pub fn queued_ms(&self) -> usize {
        let samples: usize = self
            .queue
            .iter()
            .map(|item| match item {
                Item::Audio(samples) => samples.len(),
                Item::Mark(_) => 0,
            })
            .sum();
        samples / 8
    }

    /// Plays one packet time.
    pub fn tick(&mut self) -> Played {
        let mut packet = Vec::with_capacity(TICK_SAMPLES);
        let mut marks = Vec::new();
        while let Some(front) = self.queue.front_mut() {
            match front {
                Item::Audio(samples) => {
                    let missing = TICK_SAMPLES - packet.len();
                    packet.extend(samples.drain(..samples.len().min(missing)));
                    if !samples.is_empty() {
                        break;
                    }
                    self.queue.pop_front();
                }
                Item::Mark(name) => {
                    marks.push(std::mem::take(name));
                    self.queue.pop_front();
                }
            }
        }
        packet.resize(TICK_SAMPLES, 0);
        let audible = rms(&packet) > AUDIBLE_RMS;
        self.heard.extend(packet);
        Played { audible, marks }
    }

    /// Everything the caller heard since the call began, silence included: mono 8 kHz.
    pub fn into_heard(self) -> Vec<i16> {
        self.heard
    }
}

/// Root mean square of samples.
pub fn rms(samples: &[i16]) -> f64 {
    if samples.is_empty() {
        return 0.0;
    }
    let sum: f64 = samples
        .iter()
        .map(|&sample| f64::from(sample) * f64::from(sample))
        .sum();
    let count = f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX));
    (sum / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_when_the_audio_before_them_was_played() {
        let mut playback = Playback::default();
        playback.push(vec![1_000; 200]);
        playback.mark("end".into());
        let first = playback.tick();
        assert!(first.audible && first.marks.is_empty());
        assert_eq!(playback.tick().marks, ["end"]);
        assert!(!playback.tick().audible);
    }

    #[test]
    fn clear_drops_audio_and_answers_its_marks() {
        let mut playback = Playback::default();
        playback.push(vec![1_000; 800]);
        playback.mark("end".into());
        assert_eq!(playback.queued_ms(), 100);
        assert_eq!(playback.clear(), ["end"]);
        assert!(!playback.tick().audible);
        assert_eq!(playback.into_heard().len(), 160);
    }
}
