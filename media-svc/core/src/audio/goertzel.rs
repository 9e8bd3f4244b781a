//! One bin of a Fourier transform (Goertzel's algorithm): how strong a single frequency is in a block.

/// Power of one frequency in a block, relative to the power of the whole block: near 1 for that pure tone, near 0
/// without it. Blocks of silence give 0.
pub fn share(samples: &[i16], frequency_hz: f64, rate_hz: u32) -> f64 {
    let energy = energy(samples);
    if energy <= 0.0 {
        return 0.0;
    }
    let coefficient = 2.0 * (2.0 * std::f64::consts::PI * frequency_hz / f64::from(rate_hz)).cos();
    let (mut last, mut before) = (0.0, 0.0);
    for &sample in samples {
        let next = f64::from(sample) + coefficient * last - before;
        before = last;
        last = next;
    }
    let power = last * last + before * before - coefficient * last * before;
    // A pure tone's bin holds half of the block's length times its energy.
    2.0 * power / (count(samples) * energy)
}

/// Loudness of a block in dB relative to a full-scale sine.
pub fn level_db(samples: &[i16]) -> f64 {
    let full_scale_sine = f64::from(i16::MAX).powi(2) / 2.0;
    10.0 * (energy(samples) / count(samples).max(1.0) / full_scale_sine).log10()
}

fn energy(samples: &[i16]) -> f64 {
    samples.iter().map(|&sample| f64::from(sample).powi(2)).sum()
}

fn count(samples: &[i16]) -> f64 {
    samples.iter().map(|_| 1.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency: f64) -> Vec<i16> {
        let step = 2.0 * std::f64::consts::PI * frequency / 8_000.0;
        (0..160)
            .map(|n| (f64::from(n) * step).sin() * 10_000.0)
            .map(|s| s as i16)
            .collect()
    }

    #[test]
    fn a_pure_tone_has_all_its_power_in_its_own_bin() {
        assert!(share(&tone(1_000.0), 1_000.0, 8_000) > 0.98);
        assert!(share(&tone(1_000.0), 1_300.0, 8_000) < 0.02);
        assert!(share(&[0; 160], 1_000.0, 8_000) < 1e-9);
    }

    #[test]
    fn levels_are_relative_to_a_full_scale_sine() {
        assert!((level_db(&tone(1_000.0)) - 20.0 * (10_000.0_f64 / 32_767.0).log10()).abs() < 0.05);
    }
}
