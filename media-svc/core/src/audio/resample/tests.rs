use std::f64::consts::TAU;

use proptest::prelude::*;

use super::*;

const AMPLITUDE: f64 = 20_000.0;

fn sine(hz: f64, rate_hz: u32, samples: usize) -> Vec<i16> {
    (0..samples)
        .map(|n| ((n as f64 * hz * TAU / f64::from(rate_hz)).sin() * AMPLITUDE).round() as i16)
        .collect()
}

fn convert(from_hz: u32, to_hz: u32, input: &[i16]) -> Vec<i16> {
    let mut resampler = Resampler::new(from_hz, to_hz).unwrap();
    let mut output = resampler.process(input);
    output.extend(resampler.flush());
    output
}

/// The middle of a conversion, away from both ends, where the stream begins and ends abruptly.
fn settled(from_hz: u32, to_hz: u32, hz: f64) -> Vec<f64> {
    let output = convert(from_hz, to_hz, &sine(hz, from_hz, from_hz as usize / 2));
    let edge = to_hz as usize / 50;
    output[edge..output.len() - edge]
        .iter()
        .map(|&sample| f64::from(sample))
        .collect()
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-9).log10()
}

fn rms(samples: &[f64]) -> f64 {
    (samples.iter().map(|x| x * x).sum::<f64>() / samples.len() as f64).sqrt()
}

/// Least-squares amplitude and phase of one frequency, and what remains without it.
fn fit(samples: &[f64], hz: f64, rate_hz: u32) -> (f64, Vec<f64>) {
    let angle = |n: usize| n as f64 * hz * TAU / f64::from(rate_hz);
    let (mut ss, mut cc, mut sc, mut xs, mut xc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, x) in samples.iter().enumerate() {
        let (s, c) = angle(n).sin_cos();
        (ss, cc, sc, xs, xc) = (ss + s * s, cc + c * c, sc + s * c, xs + x * s, xc + x * c);
    }
    let determinant = ss * cc - sc * sc;
    let (a, b) = ((xs * cc - xc * sc) / determinant, (xc * ss - xs * sc) / determinant);
    let rest = samples
        .iter()
        .enumerate()
        .map(|(n, x)| x - a * angle(n).sin() - b * angle(n).cos())
        .collect();
    (a.hypot(b), rest)
}

fn pairs() -> impl Iterator<Item = (u32, u32)> {
    RATES_HZ
        .into_iter()
        .flat_map(|from| RATES_HZ.into_iter().map(move |to| (from, to)))
        .filter(|(a, b)| a != b)
}

#[test]
fn the_pass_band_is_flat_and_clean_for_every_pair_of_rates() {
    for (from, to) in pairs() {
        let nyquist = f64::from(from.min(to)) / 2.0;
        for share in [0.05, 0.3, 0.6, 0.85, 0.89] {
            let hz = (nyquist * share).round();
            let (amplitude, rest) = fit(&settled(from, to, hz), hz, to);
            let ripple = decibels(amplitude / AMPLITUDE);
            assert!(ripple.abs() <= 0.1, "{from}->{to}: {hz} Hz changes by {ripple:.2} dB");
            // What is not the sine is images, aliases and noise together.
            let unwanted = decibels(rms(&rest) * 2f64.sqrt() / AMPLITUDE);
            assert!(unwanted <= -60.0, "{from}->{to}: {hz} Hz leaves {unwanted:.1} dB");
        }
    }
}

#[test]
fn nothing_above_the_new_nyquist_is_heard_after_going_down() {
    for (from, to) in pairs().filter(|(from, to)| from > to) {
        let (low, high) = (f64::from(to) / 2.0, f64::from(from) / 2.0);
        for share in [0.0, 0.02, 0.1, 0.3, 0.6, 0.95] {
            // Slightly off, so that the alias is no standing value.
            let hz = low + 3.0 + (high - low - 10.0) * share;
            let level = decibels(rms(&settled(from, to, hz)) * 2f64.sqrt() / AMPLITUDE);
            assert!(level <= -60.0, "{from}->{to}: {hz} Hz is heard at {level:.1} dB");
        }
    }
}

#[test]
fn a_delay_is_at_most_four_and_a_half_milliseconds() {
    for (from, to) in pairs() {
        let delay = Resampler::new(from, to).unwrap().delay_ms();
        assert!(delay > 0.0 && delay < 4.55, "{from}->{to}: {delay}");
    }
    assert_eq!(Resampler::new(8_000, 16_000).unwrap().delay_ms(), 4.5);
    assert_eq!(Resampler::new(16_000, 48_000).unwrap().delay_ms(), 2.25);
}

#[test]
fn only_the_delay_is_held_back_while_a_stream_runs() {
    for (from, to) in pairs() {
        let mut resampler = Resampler::new(from, to).unwrap();
        let out = resampler.process(&vec![0; from as usize]).len();
        let held_ms = (f64::from(to) - out as f64) * 1000.0 / f64::from(to);
        assert!((held_ms - resampler.delay_ms()).abs() < 0.15, "{from}->{to}: {held_ms}");
    }
}

#[test]
fn an_hour_in_twenty_millisecond_frames_has_exactly_the_right_length() {
    for (from, to) in [(8_000, 16_000), (16_000, 8_000)] {
        let frame = vec![0; from as usize / 50];
        let mut resampler = Resampler::new(from, to).unwrap();
        let streamed: usize = (0..50 * 3600).map(|_| resampler.process(&frame).len()).sum();
        assert_eq!(streamed + resampler.flush().len(), to as usize * 3600);
    }
}

#[test]
fn a_minute_at_odd_ratios_has_exactly_the_right_length() {
    for (from, to) in [(44_100, 8_000), (8_000, 22_050), (22_050, 48_000), (48_000, 44_100)] {
        let mut resampler = Resampler::new(from, to).unwrap();
        let streamed: usize = (0..60).map(|_| resampler.process(&vec![0; from as usize]).len()).sum();
        assert_eq!(streamed + resampler.flush().len(), to as usize * 60);
    }
}

#[test]
fn output_stays_aligned_with_its_input() {
    for (from, to) in [(8_000, 16_000), (48_000, 8_000), (22_050, 16_000), (24_000, 44_100)] {
        let output = convert(from, to, &sine(200.0, from, from as usize));
        let ideal = sine(200.0, to, to as usize);
        let worst = output
            .iter()
            .zip(&ideal)
            .skip(400)
            .take(4000)
            .map(|(a, b)| (a - b).abs())
            .max();
        assert!(worst.unwrap() < 40, "{from}->{to}: {worst:?}");
    }
}

#[test]
fn equal_rates_change_nothing() {
    let input = sine(440.0, 16_000, 777);
    let mut resampler = Resampler::new(16_000, 16_000).unwrap();
    assert_eq!(resampler.process(&input), input);
    assert_eq!((resampler.flush().len(), resampler.delay_ms()), (0, 0.0));
}

#[test]
fn full_scale_is_clipped_and_never_wraps() {
    let square: Vec<i16> = (0..4000)
        .map(|n| if n / 40 % 2 == 0 { i16::MAX } else { i16::MIN })
        .collect();
    let output = convert(8_000, 16_000, &square);
    let middle = |half: usize| output[4000 + half * 80 + 40];
    assert!(middle(0) > 30_000 && middle(1) < -30_000);
}

#[test]
fn a_flushed_resampler_begins_anew() {
    let input = sine(300.0, 8_000, 500);
    let mut used = Resampler::new(8_000, 24_000).unwrap();
    used.process(&[12_345; 333]);
    used.flush();
    let mut again = used.process(&input);
    again.extend(used.flush());
    assert_eq!(again, convert(8_000, 24_000, &input));
}

#[test]
fn an_unknown_rate_is_refused_with_the_known_ones() {
    let error = Resampler::new(8_000, 7_000).unwrap_err();
    assert_eq!(
        error,
        UnsupportedRate {
            from_hz: 8_000,
            to_hz: 7_000
        }
    );
    assert!(error.to_string().contains("22050"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn how_a_stream_is_cut_into_chunks_is_not_heard(
        samples in proptest::collection::vec(any::<i16>(), 0..3000),
        cuts in proptest::collection::vec(0..700_usize, 0..12),
        from in 0..RATES_HZ.len(),
        to in 0..RATES_HZ.len(),
    ) {
        let (from, to) = (RATES_HZ[from], RATES_HZ[to]);
        let mut resampler = Resampler::new(from, to).unwrap();
        let (mut output, mut rest) = (Vec::new(), samples.as_slice());
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            output.extend(resampler.process(chunk));
            rest = after;
        }
        output.extend(resampler.process(rest));
        output.extend(resampler.flush());
        prop_assert_eq!(output.len() as u64, (samples.len() as u64 * u64::from(to)).div_ceil(u64::from(from)));
        prop_assert_eq!(output, convert(from, to, &samples));
    }
}
