//! One stretch of caller audio on its way to recognition: silence trimmed, long speech cut at pauses, quiet speech
//! raised.
//!
//! The model hallucinates on silence ("You") and noise, and its cost grows with length, so only what the voice
//! detector heard, with a little around it, is transcribed. All decisions are causal: what a piece is does not change
//! once its end is settled, so a transcript made while the caller was still silent can be used as the final one.

use std::ops::Range;
use std::time::Duration;

use media_core::audio::RECOGNITION_RATE_HZ;

use super::engine::Recognised;
use super::vad::{FRAME_SAMPLES, Vad};

/// Longest piece given to the model at once. Its accuracy falls on longer audio; a longer piece also keeps a thread
/// from everybody else.
pub const MAX_PIECE: Duration = Duration::from_secs(14);
/// A cut inside running speech is looked for after this much of a piece.
const EARLIEST_CUT: Duration = Duration::from_secs(7);
/// Silence that ends a piece wherever it is.
const LONG_PAUSE: Duration = Duration::from_millis(1_200);
/// Kept before the first voice: the detector needs a moment, and soft consonants come first.
const LEAD: Duration = Duration::from_millis(300);
/// Kept after the last voice.
pub const TAIL: Duration = Duration::from_millis(200);
/// Less voice than this in a piece is a click or a cough.
const MIN_VOICE: Duration = Duration::from_millis(96);
/// Below this much voice, a lone "you" or "thank you" is what the model writes for a breath or a chair.
const DOUBTFUL_VOICE: Duration = Duration::from_millis(400);
/// Below this confidence a lone "you" is made up whatever its length.
const DOUBTFUL_CONFIDENCE: f32 = 0.7;
/// Below this confidence nothing was understood. Noise measured 0.26–0.41, people 0.66–0.98.
const MIN_CONFIDENCE: f32 = 0.43;
/// Speech probability that keeps audio; lower than what starts a turn, as losing a syllable costs a word.
const KEEP_PROBABILITY: f32 = 0.35;
/// Most audio kept of one utterance; what comes after is not transcribed. Turns are closed long before.
const MAX_UTTERANCE: Duration = Duration::from_secs(300);

/// Peak below which audio is raised: −20 dBFS.
const QUIET_PEAK: f32 = 0.1;
/// Peak that quiet audio is raised to.
const RAISED_PEAK: f32 = 0.4;
/// Most a quiet recording is raised by (26 dB): beyond it is noise.
const MAX_GAIN: f32 = 20.0;

/// A part of an utterance that is transcribed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Samples of the utterance.
    pub samples: Range<usize>,
    /// How much of it is voice.
    pub voiced: Duration,
    /// Whether its end is settled: later audio does not change it, unless the caller speaks on before
    /// [`Utterance`] has seen a long pause.
    pub settled: bool,
}

impl Piece {
    /// The text of this piece, empty when it is what the model makes up for noise: it was unsure, or wrote the "you"
    /// it writes for a breath.
    pub fn credible(&self, recognised: &Recognised) -> String {
        let text = recognised.text.trim();
        let plain: String = text
            .chars()
            .filter(|c| c.is_alphabetic())
            .flat_map(char::to_lowercase)
            .collect();
        let made_up = matches!(plain.as_str(), "you" | "thankyou")
            && (self.voiced < DOUBTFUL_VOICE || recognised.confidence < DOUBTFUL_CONFIDENCE);
        let empty = !text.chars().any(char::is_alphanumeric);
        if empty || made_up || recognised.confidence < MIN_CONFIDENCE {
            return String::new();
        }
        text.to_owned()
    }
}

/// Audio of one utterance and where voice is in it.
pub struct Utterance {
    audio: Vec<i16>,
    vad: Vad,
    frames: Vec<Frame>,
    closed: Vec<Piece>,
    open: Option<Open>,
}

#[derive(Clone, Copy)]
struct Frame {
    voice: bool,
    volume: f32,
}

/// A piece whose end is not known yet; all in frames.
struct Open {
    start: usize,
    last_voice: usize,
    voiced: usize,
}

impl Utterance {
    /// Nothing heard yet.
    pub fn new() -> Self {
        Self {
            audio: Vec::new(),
            vad: Vad::new(),
            frames: Vec::new(),
            closed: Vec::new(),
            open: None,
        }
    }

    /// More mono 16 kHz audio.
    pub fn push(&mut self, samples: &[i16]) {
        let room = samples_in(MAX_UTTERANCE).saturating_sub(self.audio.len());
        let samples = samples.get(..room.min(samples.len())).unwrap_or_default();
        self.audio.extend_from_slice(samples);
        for verdict in self.vad.push(samples) {
            let voice = verdict.probability >= KEEP_PROBABILITY;
            self.frames.push(Frame {
                voice,
                volume: verdict.volume,
            });
            self.judge(voice);
        }
    }

    /// Length of the audio so far.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.audio.len() as u64 * 1_000_000 / u64::from(RECOGNITION_RATE_HZ))
    }

    /// What is to be transcribed, in order. With `complete` the utterance has ended and its last piece is settled.
    pub fn pieces(&self, complete: bool) -> Vec<Piece> {
        let mut pieces = self.closed.clone();
        if let Some(open) = &self.open {
            pieces.extend(self.piece(open, complete));
        }
        pieces
    }

    /// Audio of a piece.
    pub fn audio(&self, piece: &Piece) -> &[i16] {
        self.audio.get(piece.samples.clone()).unwrap_or_default()
    }

    /// Takes the newest frame into account.
    fn judge(&mut self, voice: bool) {
        let now = self.frames.len() - 1;
        let Some(open) = &mut self.open else {
            if voice {
                let earliest = self
                    .closed
                    .last()
                    .map_or(0, |piece| piece.samples.end.div_ceil(FRAME_SAMPLES));
                let start = now.saturating_sub(frames_in(LEAD)).max(earliest);
                self.open = Some(Open {
                    start,
                    last_voice: now,
                    voiced: 1,
                });
            }
            return;
        };
        if voice {
            open.last_voice = now;
            open.voiced += 1;
        }
        if now - open.last_voice >= frames_in(LONG_PAUSE) {
            if let Some(open) = self.open.take() {
                self.closed.extend(self.piece(&open, true));
            }
        } else if now - open.start >= frames_in(MAX_PIECE) {
            self.cut_running_speech(now);
        }
    }

    /// Cuts the open piece, which is as long as a piece may be, at its best pause.
    fn cut_running_speech(&mut self, now: usize) {
        let Some(open) = self.open.take() else {
            return;
        };
        let cut = self.best_pause(open.start + frames_in(EARLIEST_CUT), now);
        let voiced = |range: Range<usize>| {
            self.frames
                .get(range)
                .unwrap_or_default()
                .iter()
                .filter(|frame| frame.voice)
                .count()
        };
        let (before, after) = (voiced(open.start..cut), voiced(cut..now + 1));
        if before >= frames_in(MIN_VOICE) {
            self.closed.push(Piece {
                samples: open.start * FRAME_SAMPLES..cut * FRAME_SAMPLES,
                voiced: FRAME * u32::try_from(before).unwrap_or(u32::MAX),
                settled: true,
            });
        }
        self.open = Some(Open {
            start: cut,
            last_voice: open.last_voice.max(cut),
            voiced: after,
        });
    }

    /// The middle of the longest stretch without voice between two frames; where nobody pauses, the quietest place.
    fn best_pause(&self, from: usize, to: usize) -> usize {
        let window = self.frames.get(from..to).unwrap_or_default();
        let mut longest = 0..0;
        let mut run = 0..0;
        for (index, frame) in window.iter().enumerate() {
            run = if frame.voice {
                index + 1..index + 1
            } else {
                run.start..index + 1
            };
            if run.len() > longest.len() {
                longest = run.clone();
            }
        }
        if longest.len() >= 2 {
            return from + longest.start + longest.len() / 2;
        }
        let loudness = |frames: &[Frame]| frames.iter().map(|frame| frame.volume).sum::<f32>();
        let quietest = window
            .windows(QUIET_FRAMES)
            .enumerate()
            .min_by(|(_, a), (_, b)| loudness(a).total_cmp(&loudness(b)))
            .map_or(window.len() / 2, |(index, _)| index + QUIET_FRAMES / 2);
        from + quietest
    }

    fn piece(&self, open: &Open, settled: bool) -> Option<Piece> {
        if open.voiced < frames_in(MIN_VOICE) {
            return None;
        }
        let wanted = (open.last_voice + 1) * FRAME_SAMPLES + samples_in(TAIL);
        Some(Piece {
            samples: open.start * FRAME_SAMPLES..wanted.min(self.audio.len()),
            voiced: FRAME * u32::try_from(open.voiced).unwrap_or(u32::MAX),
            settled: settled || wanted <= self.audio.len(),
        })
    }
}

impl Default for Utterance {
    fn default() -> Self {
        Self::new()
    }
}

/// Length of a detector frame.
const FRAME: Duration = Duration::from_millis(FRAME_SAMPLES as u64 * 1_000 / RECOGNITION_RATE_HZ as u64);
/// Frames (80 ms) that are compared when looking for a quiet place.
const QUIET_FRAMES: usize = 5;

const fn samples_in(duration: Duration) -> usize {
    (duration.as_millis() * RECOGNITION_RATE_HZ as u128 / 1_000) as usize
}

const fn frames_in(duration: Duration) -> usize {
    (duration.as_millis() / FRAME.as_millis()) as usize
}

/// Audio as the model takes it, −1…1. A recording with a peak below −20 dBFS (a caller far from the microphone) is
/// raised to −8 dBFS, by 26 dB at most; everything else is left as it is.
pub fn levelled(audio: &[i16]) -> Vec<f32> {
    let peak = audio.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
    let peak = f32::from(peak) / 32_768.0;
    let gain = if peak > 0.0 && peak < QUIET_PEAK {
        (RAISED_PEAK / peak).min(MAX_GAIN)
    } else {
        1.0
    };
    audio
        .iter()
        .map(|&sample| f32::from(sample) / 32_768.0 * gain)
        .collect()
}

/// Joins the texts of pieces.
pub fn join(texts: &[String]) -> String {
    texts
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An utterance judged by hand: `v` is a second of voice, `.` a tenth of a second without.
    fn judged(pattern: &str) -> Utterance {
        let mut utterance = Utterance::new();
        for mark in pattern.chars() {
            let (frames, voice) = if mark == 'v' { (62, true) } else { (6, false) };
            for _ in 0..frames {
                utterance.audio.extend([0; FRAME_SAMPLES]);
                utterance.frames.push(Frame {
                    voice,
                    volume: if voice { 0.2 } else { 0.0 },
                });
                utterance.judge(voice);
            }
        }
        utterance
    }

    fn seconds(piece: &Piece) -> f64 {
        piece.samples.len() as f64 / 16_000.0
    }

    #[test]
    fn silence_has_nothing_to_transcribe() {
        let mut utterance = Utterance::new();
        utterance.push(&[0; 48_000]);
        assert_eq!(utterance.pieces(true), []);
    }

    #[test]
    fn silence_around_speech_is_left_out() {
        let utterance = judged("..........v.........");
        let pieces = utterance.pieces(true);
        assert_eq!(pieces.len(), 1);
        assert!((seconds(&pieces[0]) - 1.49).abs() < 0.05, "{}", seconds(&pieces[0]));
        assert!(pieces[0].settled);
    }

    #[test]
    fn a_piece_whose_tail_is_heard_does_not_change_with_more_silence() {
        let settled = judged("....v...").pieces(false);
        assert!(settled[0].settled);
        assert_eq!(judged("....v......").pieces(true), settled);
        assert!(!judged("....v.").pieces(false)[0].settled);
    }

    #[test]
    fn a_long_pause_makes_two_pieces() {
        let pieces = judged("v..............v...").pieces(true);
        assert_eq!(pieces.len(), 2);
        assert!(pieces[0].samples.end <= pieces[1].samples.start);
    }

    #[test]
    fn running_speech_is_cut_at_the_longest_pause() {
        let utterance = judged("vvvvvvvvv..v.vvvvvvv..");
        let pieces = utterance.pieces(true);
        assert_eq!(pieces.len(), 2);
        assert!((seconds(&pieces[0]) - 9.0).abs() < 0.2, "{}", seconds(&pieces[0]));
        assert_eq!(pieces[0].samples.end, pieces[1].samples.start);
        assert!(pieces.iter().all(|piece| seconds(piece) <= 14.3));
    }

    #[test]
    fn speech_without_any_pause_is_still_cut() {
        let pieces = judged("vvvvvvvvvvvvvvvvvvvvvvvvvvvvvv").pieces(true);
        assert!(pieces.len() >= 3);
        let whole: f64 = pieces.iter().map(seconds).sum();
        assert!((whole - 29.76).abs() < 0.1, "{whole}");
    }

    #[test]
    fn a_click_is_not_speech() {
        let mut utterance = judged("...");
        utterance.frames.push(Frame {
            voice: true,
            volume: 0.9,
        });
        utterance.judge(true);
        assert_eq!(utterance.pieces(true), []);
    }

    #[test]
    fn memory_for_one_utterance_is_bounded() {
        let mut utterance = Utterance::new();
        for _ in 0..400 {
            utterance.push(&[0; 16_000]);
        }
        assert_eq!(utterance.duration(), MAX_UTTERANCE);
    }

    #[test]
    fn quiet_audio_is_raised_and_loud_audio_is_not() {
        let peak = |audio: Vec<f32>| audio.into_iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        assert!((peak(levelled(&[0, 1_000, -500])) - RAISED_PEAK).abs() < 1e-3);
        assert!((peak(levelled(&[16_384])) - 0.5).abs() < 1e-6);
        assert!(peak(levelled(&[1])) <= MAX_GAIN / 32_768.0 + 1e-9);
        assert_eq!(levelled(&[0, 0]), [0.0, 0.0]);
    }

    #[test]
    fn what_the_model_makes_up_for_noise_is_left_out() {
        let said = |text: &str, confidence, voiced_ms| {
            let piece = Piece {
                samples: 0..8_000,
                voiced: Duration::from_millis(voiced_ms),
                settled: true,
            };
            let took = Duration::ZERO;
            piece.credible(&Recognised {
                text: text.to_owned(),
                confidence,
                first_token: took,
                took,
            })
        };
        assert_eq!(said("You", 0.9, 120), "");
        assert_eq!(said("Thank you.", 0.5, 900), "");
        assert_eq!(said("Thank you.", 0.9, 600), "Thank you.");
        assert_eq!(said("See you next time.", 0.4, 900), "");
        assert_eq!(said("Yes.", 0.7, 120), "Yes.");
        assert_eq!(said("5", 0.7, 120), "5");
        assert_eq!(said("...", 0.9, 900), "");
    }
}
