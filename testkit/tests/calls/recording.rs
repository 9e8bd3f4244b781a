//! Compares a stored recording with what the two sides of the call sent and heard.

use std::io::Cursor;

use voxray::caller::{CallReport, TICK_SAMPLES, rms};

/// Root mean square above which 20 ms are speech.
const SPEECH_RMS: f64 = 200.0;
/// Samples of one step of an envelope: 2.5 ms.
const STEP: usize = 20;
const STEP_MS: f64 = 2.5;
/// Furthest that is looked for the same sound: 300 ms.
const REACH: isize = 120;

/// How well a recording must fit.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Most by which parts of a call may be shifted against each other.
    shift_ms: f64,
    /// By how many packets single packets may be moved against the stretch of speech they belong to.
    moved_packets: usize,
    /// Least share of the speech on the line that must be in the recording, at its place.
    present: f64,
}

/// One call at a time.
pub const EXACT: Tolerance = Tolerance {
    shift_ms: 40.0,
    moved_packets: 0,
    present: 0.99,
};
/// With many processes on few cores the simulated caller is late itself: its player then plays sooner or later than a
/// telephone would, and what it says late is recorded when it was said. Nothing may be missing all the same.
pub const BUSY: Tolerance = Tolerance {
    shift_ms: 150.0,
    moved_packets: 5,
    present: 0.99,
};

/// Longest that a busy machine may take from the first message of a call to its first sample.
const MOST_SETUP_MS: f64 = 250.0;
/// Longest that the server may wait for the text of a caller who hung up while speaking.
const LAST_WORDS_SECONDS: f64 = 1.8;

/// A phone recording.
pub struct Stereo {
    /// The caller.
    pub left: Vec<i16>,
    /// The agent.
    pub right: Vec<i16>,
}

impl Stereo {
    /// Reads 8 kHz stereo and nothing else.
    pub fn read(wav: &[u8]) -> Self {
        let mut reader = hound::WavReader::new(Cursor::new(wav)).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 8_000, 16));
        let samples: Vec<i16> = reader.samples().map(Result::unwrap).collect();
        let side = |first: usize| samples.iter().skip(first).step_by(2).copied().collect();
        Self {
            left: side(0),
            right: side(1),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.left.len() as f64 / 8_000.0
    }
}

/// Everything one side said, found again in the recording.
#[derive(Debug)]
pub struct Fidelity {
    /// How much later each stretch of speech is in the recording, milliseconds.
    pub lags_ms: Vec<f64>,
    /// Loudness in the recording over loudness on the line.
    pub level: f64,
    /// Share of the 20 ms packets with speech that are speech in the recording as well.
    pub present: f64,
}

impl Fidelity {
    /// As loud, and without a hole.
    fn assert_complete(&self, side: &str, tolerance: Tolerance) {
        assert!(!self.lags_ms.is_empty(), "{side}: nothing was said");
        assert!((0.95..=1.05).contains(&self.level), "{side}: {self:?}");
        assert!(self.present >= tolerance.present, "{side}: {self:?}");
    }
}

/// The recording is what the caller sent and heard, both sides on one timeline.
pub fn assert_faithful(report: &CallReport, recording: &Stereo, tolerance: Tolerance) {
    let seconds = report.sent.len() as f64 / 8_000.0;
    let caller = compare(&report.sent, &recording.left, tolerance);
    let agent = compare(&report.heard, &recording.right, tolerance);
    println!("{seconds:.2} s on the line, {:.2} s recorded", recording.seconds());
    println!("  caller, left: {caller:.3?}\n  agent, right: {agent:.3?}");

    caller.assert_complete("caller", tolerance);
    agent.assert_complete("agent", tolerance);
    let lags = || caller.lags_ms.iter().chain(&agent.lags_ms).copied();
    let (first, last) = (lags().fold(f64::MAX, f64::min), lags().fold(f64::MIN, f64::max));
    assert!(last - first <= tolerance.shift_ms, "{caller:?} {agent:?}");
    // The recording begins when the server has set the call up, and ends when it has understood the last words.
    assert!(
        (-MOST_SETUP_MS..=tolerance.shift_ms).contains(&first),
        "{caller:?} {agent:?}"
    );
    let expected = seconds - MOST_SETUP_MS / 1_000.0..seconds + LAST_WORDS_SECONDS;
    assert!(
        expected.contains(&recording.seconds()),
        "{seconds} {}",
        recording.seconds()
    );
}

fn compare(line: &[i16], recorded: &[i16], tolerance: Tolerance) -> Fidelity {
    let stretches = speech(line);
    let (line_steps, recorded_steps) = (envelope(line), envelope(recorded));
    let mut lags_ms = Vec::new();
    let (mut packets, mut present) = (0_usize, 0_usize);
    let (mut line_power, mut recorded_power) = (0.0, 0.0);
    for (from, to) in stretches {
        let lag = best_lag(&line_steps, &recorded_steps, from / STEP..to / STEP);
        lags_ms.push(lag as f64 * STEP_MS);
        for at in (from..to).step_by(TICK_SAMPLES) {
            let there = recorded_steps.len() * STEP;
            let recorded_rms = |from: usize| rms(&recorded[from.min(there)..(from + TICK_SAMPLES).min(there)]);
            let moved = at.saturating_add_signed(lag * STEP as isize);
            let here = rms(&line[at..(at + TICK_SAMPLES).min(line.len())]);
            if here > SPEECH_RMS {
                let reach = tolerance.moved_packets * TICK_SAMPLES;
                let mut around = (moved.saturating_sub(reach)..=moved + reach).step_by(TICK_SAMPLES);
                packets += 1;
                present += usize::from(around.any(|from| recorded_rms(from) > here / 4.0));
            }
            line_power += here * here;
            recorded_power += recorded_rms(moved).powi(2);
        }
    }
    Fidelity {
        lags_ms,
        level: (recorded_power / line_power).sqrt(),
        present: present as f64 / packets.max(1) as f64,
    }
}

/// Stretches of speech with less than half a second of quiet inside, in samples; clicks are left out.
pub fn speech(samples: &[i16]) -> Vec<(usize, usize)> {
    const GAP: usize = 25 * TICK_SAMPLES;
    const SHORTEST: usize = 10 * TICK_SAMPLES;
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for (index, packet) in samples.chunks(TICK_SAMPLES).enumerate() {
        if rms(packet) <= SPEECH_RMS {
            continue;
        }
        let (from, to) = (index * TICK_SAMPLES, index * TICK_SAMPLES + packet.len());
        match stretches.last_mut() {
            Some(last) if from - last.1 < GAP => last.1 = to,
            Some(_) | None => stretches.push((from, to)),
        }
    }
    stretches.retain(|(from, to)| to - from >= SHORTEST);
    stretches
}

fn envelope(samples: &[i16]) -> Vec<f64> {
    samples.chunks_exact(STEP).map(rms).collect()
}

/// By how many steps the reference's range has to be moved to fit best.
fn best_lag(reference: &[f64], recorded: &[f64], range: std::ops::Range<usize>) -> isize {
    let score = |lag: isize| {
        let pairs = range.clone().filter_map(|at| {
            let there = recorded.get(at.checked_add_signed(lag)?)?;
            Some((reference.get(at)?, there))
        });
        let (mut product, mut power) = (0.0, 1.0);
        for (a, b) in pairs {
            product += a * b;
            power += b * b;
        }
        product / f64::sqrt(power)
    };
    (-REACH..=REACH)
        .max_by(|a, b| score(*a).total_cmp(&score(*b)))
        .unwrap_or(0)
}
