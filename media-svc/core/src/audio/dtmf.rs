//! Telephone keys as sound, for providers that cannot send them by their API.
//!
//! Frequencies by ITU-T Q.23. Levels and times by ITU-T Q.24 and ETSI ES 201 235-2 (transmitters): −9 dBm0 for the low
//! group and −7 dBm0 for the high group, tones and pauses of 100 ms (Q.24: receivers must take 40 ms and more).

use std::f64::consts::PI;

/// Length of a tone.
pub const TONE_MS: u32 = 100;
/// Silence after each tone.
pub const PAUSE_MS: u32 = 100;
/// Samples rise and fall within this time, so that nothing clicks.
const RAMP_MS: u32 = 2;
/// Digital full scale of a sine, in dBm0 (ITU-T G.711, µ-law).
const FULL_SCALE_DBM0: f64 = 3.17;
const LOW_DBM0: f64 = -9.0;
const HIGH_DBM0: f64 = -7.0;

/// Both frequencies of a key in Hz, low group first; `None` when it is no key.
pub fn frequencies(key: char) -> Option<(f64, f64)> {
    let (low, high) = match key {
        '1' => (697.0, 1_209.0),
        '2' => (697.0, 1_336.0),
        '3' => (697.0, 1_477.0),
        'A' => (697.0, 1_633.0),
        '4' => (770.0, 1_209.0),
        '5' => (770.0, 1_336.0),
        '6' => (770.0, 1_477.0),
        'B' => (770.0, 1_633.0),
        '7' => (852.0, 1_209.0),
        '8' => (852.0, 1_336.0),
        '9' => (852.0, 1_477.0),
        'C' => (852.0, 1_633.0),
        '*' => (941.0, 1_209.0),
        '0' => (941.0, 1_336.0),
        '#' => (941.0, 1_477.0),
        'D' => (941.0, 1_633.0),
        _ => return None,
    };
    Some((low, high))
}

/// The keys as sound at this rate, each followed by a pause; what is no key is left out.
pub fn tones(keys: &str, rate_hz: u32) -> Vec<i16> {
    let mut samples = Vec::new();
    for (low, high) in keys.chars().filter_map(frequencies) {
        let length = rate_hz * TONE_MS / 1_000;
        samples.extend((0..length).map(|n| sample(n, length, low, high, rate_hz)));
        samples.extend(std::iter::repeat_n(0, (rate_hz * PAUSE_MS / 1_000) as usize));
    }
    samples
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "both amplitudes together are below full scale"
)]
fn sample(n: u32, length: u32, low: f64, high: f64, rate_hz: u32) -> i16 {
    let time = f64::from(n) / f64::from(rate_hz);
    let wave = |frequency: f64, dbm0: f64| amplitude(dbm0) * (2.0 * PI * frequency * time).sin();
    let ramp = f64::from((rate_hz * RAMP_MS / 1_000).max(1));
    let edge = f64::from(n.min(length.saturating_sub(n + 1)));
    ((wave(low, LOW_DBM0) + wave(high, HIGH_DBM0)) * (edge / ramp).min(1.0)).round() as i16
}

/// Peak of a sine of this level.
fn amplitude(dbm0: f64) -> f64 {
    f64::from(i16::MAX) * 10_f64.powf((dbm0 - FULL_SCALE_DBM0) / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{g711, goertzel};

    const KEYS: &str = "0123456789*#ABCD";

    #[test]
    fn every_key_is_heard_as_its_two_frequencies_at_the_levels_of_the_standard() {
        for rate in [8_000, 16_000] {
            for key in KEYS.chars() {
                let (low, high) = frequencies(key).unwrap();
                let sound = tones(&key.to_string(), rate);
                // The middle of the tone, without its edges.
                let middle = &sound[(rate / 100) as usize..(rate * 9 / 100) as usize];
                let level = goertzel::level_db(middle) + FULL_SCALE_DBM0;
                let group = |frequency: f64| level + 10.0 * goertzel::share(middle, frequency, rate).log10();
                assert!((group(low) - LOW_DBM0).abs() < 0.5, "{key} low {}", group(low));
                assert!((group(high) - HIGH_DBM0).abs() < 0.5, "{key} high {}", group(high));
            }
        }
    }

    #[test]
    fn keys_stay_what_they_are_through_mu_law() {
        for key in KEYS.chars() {
            let sound = g711::decode_ulaw(&g711::encode_ulaw(&tones(&key.to_string(), 8_000)));
            let heard = KEYS.chars().max_by(|a, b| {
                let strength = |key: char| {
                    let (low, high) = frequencies(key).unwrap();
                    let both = [low, high].map(|frequency| goertzel::share(&sound[80..720], frequency, 8_000));
                    both[0].min(both[1])
                };
                strength(*a).total_cmp(&strength(*b))
            });
            assert_eq!(heard, Some(key));
        }
    }

    #[test]
    fn tones_and_pauses_are_as_long_as_a_receiver_needs() {
        let sound = tones("1x2", 8_000);
        assert_eq!(sound.len(), 2 * 8 * (TONE_MS + PAUSE_MS) as usize);
        assert!(sound[800..1_600].iter().all(|&sample| sample == 0));
        assert!(sound[1_700..1_800].iter().any(|&sample| sample != 0));
    }
}
