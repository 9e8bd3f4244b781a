//! Understands what a client has heard: the server's own recogniser, in this process.

use std::ops::Range;

use media_svc::speech::models::{self, Progress};
use media_svc::speech::{SpeechEngine, Voice};

/// Samples a second of everything here.
pub const EARS_HZ: u32 = 16_000;
/// 20 ms.
const PACKET: usize = EARS_HZ as usize / 50;
/// Quieter than this is no speech.
const SPEECH_RMS: f64 = 100.0;
/// Quiet that parts two stretches of speech, in packets.
const GAP: usize = 25;
/// Shorter than this is a click, in packets.
const SHORTEST: usize = 8;
/// Soft beginnings and ends around a stretch, in samples.
const AROUND: usize = EARS_HZ as usize / 5;

/// A listener.
pub struct Ears(SpeechEngine);

impl Ears {
    pub async fn new() -> Self {
        let models = models::fetch(&Progress::Lines(Default::default())).expect("speech models");
        let engine = SpeechEngine::new(models, 1).unwrap();
        engine.warm_up(Voice::EnUs).await.unwrap();
        Self(engine)
    }

    /// The words in a recording, stretch by stretch.
    pub async fn understand(&self, heard: &[i16]) -> String {
        let mut texts = Vec::new();
        for stretch in stretches(heard) {
            let around = stretch.start.saturating_sub(AROUND)..(stretch.end + AROUND).min(heard.len());
            texts.push(self.0.transcribe(&heard[around]).await.unwrap());
        }
        texts.join(" ")
    }
}

/// Loudness.
pub fn rms(samples: &[i16]) -> f64 {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    (power / samples.len().max(1) as f64).sqrt()
}

/// Where there is speech, in samples.
pub fn stretches(samples: &[i16]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (index, packet) in samples.chunks(PACKET).enumerate() {
        if rms(packet) <= SPEECH_RMS {
            continue;
        }
        let here = index * PACKET..index * PACKET + packet.len();
        match found.last_mut() {
            Some(last) if here.start - last.end < GAP * PACKET => last.end = here.end,
            Some(_) | None => found.push(here),
        }
    }
    found.retain(|stretch| stretch.len() >= SHORTEST * PACKET);
    found
}
