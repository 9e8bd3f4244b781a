//! Streaming sample rate conversion.
//!
//! A polyphase filter with an exact rational ratio: position is counted in integers, so a stream of any length neither
//! drifts nor depends on how it is cut into chunks. Every output sample is one dot product with a Kaiser-windowed sinc.
//!
//! The limits, with Nyquist that of the lower of both rates:
//! - pass-band to 0.89 Nyquist within 0.1 dB (8 kHz telephony: 3.56 kHz),
//! - nothing from 1.0 Nyquist on is louder than −60 dB, neither images nor aliases,
//! - look-ahead of 36 samples at the lower rate: 4.5 ms at 8 kHz, 2.25 ms at 16 kHz, 0.75 ms at 48 kHz.

use std::sync::{Arc, OnceLock};

/// Sample rates that can be converted into each other, in hertz.
pub const RATES_HZ: [u32; 9] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

/// Half the filter's length, in samples of the lower rate; this is the look-ahead.
const HALF_TAPS: usize = 36;
/// Middle of the transition band over Nyquist of the lower rate: the stop-band begins at Nyquist.
const CUTOFF: f64 = 0.945;
/// Kaiser window shape for 64 dB of stop-band attenuation: 0.1102 · (64 − 8.7).
const KAISER_BETA: f64 = 6.094;

/// A sample rate outside of [`RATES_HZ`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot convert audio from {from_hz} Hz to {to_hz} Hz: use two of 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 and 48000 Hz"
)]
pub struct UnsupportedRate {
    /// Rate of the input.
    pub from_hz: u32,
    /// Rate of the output.
    pub to_hz: u32,
}

/// Converts one mono stream from one rate to another.
///
/// The output is aligned with the input: sample `k` of the output belongs to the time `k / to_hz`. Nothing is inserted
/// at the start; the last [`Resampler::delay_ms`] of the stream come out of [`Resampler::flush`].
#[derive(Debug, Clone)]
pub struct Resampler {
    filter: Option<Arc<Filter>>,
    /// Input from the first sample that the next output needs.
    history: Vec<f32>,
    /// Where in `history` the taps of the next output begin; larger than its length when samples are to be skipped.
    start: usize,
    /// Which of the filter's phases the next output uses.
    phase: usize,
}

impl Resampler {
    /// A converter at the start of a stream; with equal rates it hands samples through.
    ///
    /// # Errors
    /// [`UnsupportedRate`] unless both rates are in [`RATES_HZ`].
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, UnsupportedRate> {
        let filter = Filter::cached(from_hz, to_hz).ok_or(UnsupportedRate { from_hz, to_hz })?;
        let mut resampler = Self {
            filter,
            history: Vec::new(),
            start: 0,
            phase: 0,
        };
        resampler.restart();
        Ok(resampler)
    }

    /// How much later than its input a sample comes out, in milliseconds.
    pub fn delay_ms(&self) -> f64 {
        self.filter
            .as_ref()
            .map_or(0.0, |filter| filter.half as f64 * 1000.0 / f64::from(filter.from_hz))
    }

    /// Takes the next piece of the stream, of any length, and returns all output it completes.
    pub fn process(&mut self, input: &[i16]) -> Vec<i16> {
        let Some(filter) = self.filter.clone() else {
            return input.to_vec();
        };
        self.history.extend(input.iter().map(|&sample| f32::from(sample)));
        let mut output = Vec::with_capacity(input.len() * filter.up / filter.down + 2);
        while let Some(window) = self.history.get(self.start..self.start + filter.taps) {
            output.push(filter.apply(self.phase, window));
            self.phase += filter.down;
            self.start += self.phase / filter.up;
            self.phase %= filter.up;
        }
        let used = self.start.min(self.history.len());
        self.history.drain(..used);
        self.start -= used;
        output
    }

    /// Ends the stream: returns its remaining output, as if silence followed, and begins anew.
    ///
    /// After `n` samples in, the outputs of all calls together have `n · to / from` samples, rounded up.
    pub fn flush(&mut self) -> Vec<i16> {
        let Some(filter) = self.filter.clone() else {
            return Vec::new();
        };
        let rest = self.process(&vec![0; filter.half]);
        self.restart();
        rest
    }

    fn restart(&mut self) {
        let before = self.filter.as_ref().map_or(0, |filter| filter.half - 1);
        self.history.clear();
        self.history.resize(before, 0.0);
        self.start = 0;
        self.phase = 0;
    }
}

/// The coefficients for one pair of rates, shared by all streams of the process.
#[derive(Debug)]
struct Filter {
    from_hz: u32,
    /// Reduced ratio: `up` outputs for `down` inputs.
    up: usize,
    down: usize,
    /// Half of the taps of one phase, in input samples.
    half: usize,
    taps: usize,
    /// `up` phases of `taps` coefficients each.
    coefficients: Vec<f32>,
}

impl Filter {
    /// The filter of a pair, built on first use; `Some(None)` for equal rates, `None` for an unknown rate.
    fn cached(from_hz: u32, to_hz: u32) -> Option<Option<Arc<Self>>> {
        static FILTERS: [[OnceLock<Arc<Filter>>; RATES_HZ.len()]; RATES_HZ.len()] =
            [const { [const { OnceLock::new() }; RATES_HZ.len()] }; RATES_HZ.len()];
        let from = RATES_HZ.iter().position(|&rate| rate == from_hz)?;
        let to = RATES_HZ.iter().position(|&rate| rate == to_hz)?;
        if from == to {
            return Some(None);
        }
        let slot = FILTERS.get(from)?.get(to)?;
        Some(Some(slot.get_or_init(|| Arc::new(Self::new(from_hz, to_hz))).clone()))
    }

    fn new(from_hz: u32, to_hz: u32) -> Self {
        let divisor = greatest_common_divisor(from_hz, to_hz);
        let (up, down) = ((to_hz / divisor) as usize, (from_hz / divisor) as usize);
        // Samples of the lower rate, counted in input samples.
        let stretch = (down as f64 / up as f64).max(1.0);
        let half = (HALF_TAPS as f64 * stretch).ceil() as usize;
        let mut coefficients = Vec::with_capacity(up * 2 * half);
        for phase in 0..up {
            let offset = phase as f64 / up as f64 + (half - 1) as f64;
            let row: Vec<f64> = (0..2 * half)
                .map(|tap| {
                    let t = offset - tap as f64;
                    sinc(t * CUTOFF / stretch) * kaiser(t / half as f64)
                })
                .collect();
            // Every phase passes direct current unchanged, or the ratio itself would be heard as a tone.
            let gain: f64 = row.iter().sum();
            coefficients.extend(row.iter().map(|value| (value / gain) as f32));
        }
        Self {
            from_hz,
            up,
            down,
            half,
            taps: 2 * half,
            coefficients,
        }
    }

    fn apply(&self, phase: usize, window: &[f32]) -> i16 {
        let from = phase * self.taps;
        let row = self.coefficients.get(from..from + self.taps).unwrap_or_default();
        // Eight running sums let the compiler use vector registers; taps are even, so a short rest may remain.
        let (rows, row_rest) = row.as_chunks::<8>();
        let (windows, window_rest) = window.as_chunks::<8>();
        let mut sums = [0.0_f32; 8];
        for (a, b) in rows.iter().zip(windows) {
            for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum += x * y;
            }
        }
        let rest: f32 = row_rest.iter().zip(window_rest).map(|(x, y)| x * y).sum();
        // A float outside of the range becomes the nearest i16.
        (sums.iter().sum::<f32>() + rest).round() as i16
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// Kaiser window over -1 to 1.
fn kaiser(x: f64) -> f64 {
    bessel_i0(KAISER_BETA * (1.0 - x * x).max(0.0).sqrt()) / bessel_i0(KAISER_BETA)
}

/// Modified Bessel function of the first kind, order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..32 {
        term *= quarter / f64::from(k * k);
        sum += term;
        if term < sum * 1e-12 {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests;
