//! Loudness of a stretch of audio.

/// Magnitude of the loudest possible 16-bit sample.
const FULL_SCALE: f32 = 32_768.0;

/// Root mean square over full scale, 0–1; a full-scale sine is about 0.71, silence and no samples are 0.
pub fn rms(samples: &[i16]) -> f32 {
    if samples.is_empty() {
        return 0.0;
    }
    // Integers are exact: a squared sample is at most 2^30, so a u64 holds days of audio.
    let energy: u64 = samples
        .iter()
        .map(|&sample| u64::from(sample.unsigned_abs()).pow(2))
        .sum();
    ((energy as f64 / samples.len() as f64).sqrt() as f32 / FULL_SCALE).min(1.0)
}

/// Largest magnitude over full scale, 0–1.
pub fn peak(samples: &[i16]) -> f32 {
    let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
    f32::from(loudest) / FULL_SCALE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_nothing_have_no_level() {
        assert_eq!((rms(&[]), peak(&[])), (0.0, 0.0));
        assert_eq!((rms(&[0; 160]), peak(&[0; 160])), (0.0, 0.0));
    }

    #[test]
    fn the_loudest_square_wave_is_one() {
        assert_eq!((rms(&[i16::MIN; 160]), peak(&[i16::MIN; 160])), (1.0, 1.0));
    }

    #[test]
    fn a_sine_measures_its_amplitude_over_the_square_root_of_two() {
        let sine: Vec<i16> = (0..8000)
            .map(|n| ((f64::from(n) * std::f64::consts::TAU / 80.0).sin() * 16_384.0) as i16)
            .collect();
        assert!((rms(&sine) - 0.5 / std::f32::consts::SQRT_2).abs() < 1e-3);
        assert!((peak(&sine) - 0.5).abs() < 1e-3);
    }
}
