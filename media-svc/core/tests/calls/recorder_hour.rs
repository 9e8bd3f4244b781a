//! An hour of a call with everything that moves audio: drifting clocks, jitter, lost frames, interruptions.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that fails may panic, and prints what it measured"
)]

use std::collections::VecDeque;
use std::time::Duration;

use media_core::recorder::{Channels, Recorder};

const RATE_HZ: f64 = 8_000.0;
const FRAME_SAMPLES: usize = 160;
const FRAMES: u64 = 180_000;
const FRAME_SECS: f64 = 0.020;
/// The network delays by 0 to 15 ms.
const MEAN_DELAY_SECS: f64 = 0.007_5;
/// How far ahead of time the agent's frames are sent, in frames.
const LEAD: u64 = 5;
/// An utterance of the agent begins this often, and lasts this long, in frames.
const UTTERANCE_EVERY: u64 = 500;
const UTTERANCE: u64 = 200;
/// The caller cuts every second utterance off after this many frames.
const CUT_AFTER: u64 = 127;

/// Where ticks were heard, and where they are in the recording.
#[derive(Default)]
struct Ticks {
    expected: VecDeque<f64>,
    worst_ms: f64,
    found: usize,
}

impl Ticks {
    fn found_at(&mut self, seconds: f64) {
        let expected = self.expected.pop_front().expect("a tick that nobody heard");
        self.found += 1;
        self.worst_ms = self.worst_ms.max((seconds - expected).abs() * 1000.0);
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// One call; returns the ticks of the caller and of the agent.
fn hour(drift_ppm: f64) -> [Ticks; 2] {
    let mut recorder = Recorder::new(RATE_HZ as u32, Channels::Stereo);
    let [mut caller, mut agent] = [Ticks::default(), Ticks::default()];
    let mut seed = 99_u64;
    let mut position = 0_u64;
    let clock = 1.0 - drift_ppm * 1e-6;
    for frame in 1..=FRAMES {
        let jitter = (random(&mut seed) % 16) as f64 / 1000.0;
        let now = Duration::from_secs_f64(frame as f64 * FRAME_SECS * clock + jitter);
        speak(&mut recorder, &mut agent, frame, now);
        // One frame in a hundred is lost, and a third of a second every five minutes.
        let is_lost = random(&mut seed) % 100 == 0 || frame % 15_000 > 14_983;
        if !is_lost {
            let mut samples = [0; FRAME_SAMPLES];
            if frame % 10 == 0 {
                samples[80] = 1_000;
                caller
                    .expected
                    .push_back(((frame - 1) as f64 * FRAME_SECS + 0.010) * clock);
            }
            recorder.caller(now, &samples);
        }
        while let Some(chunk) = recorder.take_chunk(now) {
            for sample in chunk.pcm.chunks_exact(4) {
                let at = position as f64 / RATE_HZ;
                if sample[..2] != [0, 0] {
                    caller.found_at(at);
                }
                if sample[2..] != [0, 0] {
                    agent.found_at(at);
                }
                position += 1;
            }
        }
    }
    [caller, agent]
}

/// The agent's frames of this moment, each with a tick at its beginning; a cut takes back what was not heard yet.
fn speak(recorder: &mut Recorder, agent: &mut Ticks, frame: u64, now: Duration) {
    let (utterance, at) = (frame / UTTERANCE_EVERY, frame % UTTERANCE_EVERY);
    let is_cut = utterance % 2 == 1;
    let begin = (utterance * UTTERANCE_EVERY) as f64 * FRAME_SECS;
    let last = if is_cut { CUT_AFTER } else { UTTERANCE };
    if is_cut && at == CUT_AFTER {
        recorder.agent_cut(now);
        agent.expected.retain(|heard| *heard < now.as_secs_f64());
    }
    if at >= last {
        return;
    }
    let frames = if at == 0 { 0..LEAD } else { at + LEAD - 1..at + LEAD };
    for number in frames.filter(|number| *number < UTTERANCE) {
        let mut samples = [0; FRAME_SAMPLES];
        samples[0] = 2_000;
        let due = begin + 0.040 + number as f64 * FRAME_SECS;
        recorder.agent(Duration::from_secs_f64(due), &samples);
        agent.expected.push_back(due);
    }
}

#[test]
fn an_hour_with_drift_loss_and_interruptions_is_aligned_within_20_ms() {
    for drift_ppm in [0.0, 150.0, -150.0] {
        let [caller, agent] = hour(drift_ppm);
        println!(
            "{drift_ppm} ppm: caller {:.1} ms off at the most in {} ticks, agent {:.1} ms in {}",
            caller.worst_ms, caller.found, agent.worst_ms, agent.found
        );
        assert!(caller.found > 17_000 && agent.found > 50_000);
        assert!(
            caller.worst_ms < 20.0,
            "caller {:.1} ms off at {drift_ppm} ppm",
            caller.worst_ms
        );
        assert!(
            agent.worst_ms < 20.0,
            "agent {:.1} ms off at {drift_ppm} ppm",
            agent.worst_ms
        );
        assert!(
            caller.expected.len() < 10 && agent.expected.len() < 50,
            "ticks are missing"
        );
    }
}
