//! An hour of a call with everything that moves audio: jitter, gaps, lost frames, drifting clocks, interruptions.
#![allow(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that fails may panic, and prints what it measured"
)]

use std::collections::VecDeque;
use std::time::Duration;

use media_core::recorder::{Channels, Recorder};
use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{self, Event, Inbound, MediaFormat, Provider, Start};

const RATE_HZ: f64 = 8_000.0;
const FRAME_SAMPLES: usize = 160;
const FRAMES: u64 = 180_000;
const FRAME_SECS: f64 = 0.020;
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
fn hour() -> [Ticks; 2] {
    let mut recorder = Recorder::new(RATE_HZ as u32, Channels::Stereo);
    let [mut caller, mut agent] = [Ticks::default(), Ticks::default()];
    let mut seed = 99_u64;
    let mut position = 0_u64;
    for frame in 1..=FRAMES {
        let jitter = (random(&mut seed) % 16) as f64 / 1000.0;
        let now = Duration::from_secs_f64(frame as f64 * FRAME_SECS + jitter);
        speak(&mut recorder, &mut agent, frame, now);
        // A third of a second is lost every five minutes.
        let is_lost = frame % 15_000 > 14_983;
        if !is_lost {
            let mut samples = [0; FRAME_SAMPLES];
            if frame % 10 == 0 {
                samples[80] = 1_000;
                caller.expected.push_back((frame - 1) as f64 * FRAME_SECS + 0.010);
            }
            recorder.caller(now, &samples);
        }
        find(&mut recorder, now, &mut position, &mut caller, &mut agent);
    }
    [caller, agent]
}

/// Looks for ticks in what the recorder gives out now.
fn find(recorder: &mut Recorder, now: Duration, position: &mut u64, caller: &mut Ticks, agent: &mut Ticks) {
    while let Some(chunk) = recorder.take_chunk(now) {
        for sample in chunk.pcm.chunks_exact(4) {
            let at = *position as f64 / RATE_HZ;
            // Silence is 0 in µ-law as well; a tick is loud.
            if sample[1].cast_signed() != 0 {
                caller.found_at(at);
            }
            if sample[2..] != [0, 0] {
                agent.found_at(at);
            }
            *position += 1;
        }
    }
}

/// The start of a phone call at this provider.
fn start(provider: Provider) -> Start {
    Start {
        provider,
        stream_id: "MZ1".to_owned(),
        call_id: "CA1".to_owned(),
        account_id: None,
        parameters: Default::default(),
        format: MediaFormat::ULAW_8K,
        channels: telephony::Channels::Caller,
    }
}

/// A phone call whose messages of 20 ms take up to twice `jitter_ms` and keep their order; one in a hundred is lost, and
/// the caller's clock is off by `drift_ppm`. Returns the ticks of the caller and of the agent, and what was lost.
fn hour_with_losses(provider: Provider, jitter_ms: u64, drift_ppm: f64) -> ([Ticks; 2], u64) {
    let mut recorder = Recorder::new(RATE_HZ as u32, Channels::Stereo);
    let [mut caller, mut agent] = [Ticks::default(), Ticks::default()];
    let (mut far_end, mut inbound) = (FarEnd::new(start(provider)), Inbound::new(None));
    for message in far_end.opening() {
        inbound.read(message.as_frame()).expect("the opening");
    }
    let (mut seed, mut position, mut lost) = (7_u64, 0_u64, 0_u64);
    let mut last = Duration::ZERO;
    let mut next_agent = 1_u64;
    for frame in 1..=FRAMES {
        let spoken_at = |frames: f64| frames * FRAME_SECS * (1.0 + drift_ppm * 1e-6);
        let took = (random(&mut seed) % (200 * jitter_ms + 1)) as f64 / 100_000.0;
        let now = Duration::from_secs_f64(spoken_at(frame as f64) + took).max(last);
        last = now;
        // The agent's frames leave by our clock.
        while next_agent as f64 * FRAME_SECS <= now.as_secs_f64() {
            let leaves = Duration::from_secs_f64(next_agent as f64 * FRAME_SECS);
            speak(&mut recorder, &mut agent, next_agent, leaves);
            next_agent += 1;
        }
        let mut samples = [0; FRAME_SAMPLES];
        let has_tick = frame % 10 == 0 || frame % 7 == 0;
        if has_tick {
            samples[80] = 20_000;
        }
        let message = far_end.media((frame - 1) * 20, &samples);
        if random(&mut seed).is_multiple_of(100) {
            lost += 1;
        } else {
            let read = inbound.read(message.as_frame()).expect("audio");
            let Event::Media(samples) = read.event else {
                panic!("{read:?}");
            };
            if has_tick {
                let spoken = spoken_at((frame - 1) as f64) + 0.010;
                caller.expected.push_back(spoken + jitter_ms as f64 / 1_000.0);
            }
            recorder.caller(now, &samples);
        }
        find(&mut recorder, now, &mut position, &mut caller, &mut agent);
    }
    ([caller, agent], lost)
}

#[test]
fn an_hour_with_lost_frames_much_jitter_and_a_drifting_clock_is_aligned_within_20_ms() {
    for drift_ppm in [100.0, -100.0] {
        let ([caller, agent], lost) = hour_with_losses(Provider::Twilio, 40, drift_ppm);
        println!(
            "{lost} frames lost at {drift_ppm} ppm: caller {:.1} ms off at the most in {} ticks, agent {:.1} ms in {}",
            caller.worst_ms, caller.found, agent.worst_ms, agent.found
        );
        assert!(lost > 1_500 && caller.found > 35_000 && agent.found > 50_000);
        assert!(caller.worst_ms < 20.0, "caller {:.1} ms off", caller.worst_ms);
        assert!(agent.worst_ms < 20.0, "agent {:.1} ms off", agent.worst_ms);
        assert!(
            caller.expected.len() < 15 && agent.expected.len() < 50,
            "ticks are missing"
        );
    }
}

/// The agent's frames of this moment, each with a tick at its beginning; a cut takes back what was not heard yet.
fn speak(recorder: &mut Recorder, agent: &mut Ticks, frame: u64, now: Duration) {
    let (utterance, at) = (frame / UTTERANCE_EVERY, frame % UTTERANCE_EVERY);
    let is_cut = utterance % 2 == 1;
    let begin = (utterance * UTTERANCE_EVERY) as f64 * FRAME_SECS;
    let last = if is_cut { CUT_AFTER } else { UTTERANCE };
    if is_cut && at == CUT_AFTER {
        let heard = |due: &f64| *due < now.as_secs_f64();
        let unheard = agent.expected.iter().filter(|due| !heard(due)).count();
        recorder.agent_cut((unheard * FRAME_SAMPLES) as u64);
        agent.expected.retain(heard);
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
fn an_hour_with_jitter_gaps_and_interruptions_is_aligned_within_20_ms() {
    let [caller, agent] = hour();
    println!(
        "caller {:.1} ms off at the most in {} ticks, agent {:.1} ms in {}",
        caller.worst_ms, caller.found, agent.worst_ms, agent.found
    );
    assert!(caller.found > 17_000 && agent.found > 50_000);
    assert!(caller.worst_ms < 20.0, "caller {:.1} ms off", caller.worst_ms);
    assert!(agent.worst_ms < 20.0, "agent {:.1} ms off", agent.worst_ms);
    assert!(
        caller.expected.len() < 10 && agent.expected.len() < 50,
        "ticks are missing"
    );
}

/// A provider whose messages do not say when their audio was spoken: a loss shows in when the next ones come.
#[test]
fn an_hour_of_frames_lost_without_a_trace_is_aligned_within_20_ms() {
    let ([caller, agent], lost) = hour_with_losses(Provider::Plivo, 4, 100.0);
    println!(
        "{lost} frames lost without a trace: caller {:.1} ms off at the most in {} ticks, agent {:.1} ms",
        caller.worst_ms, caller.found, agent.worst_ms
    );
    assert!(lost > 1_500 && caller.found > 35_000 && agent.found > 50_000);
    assert!(caller.worst_ms < 20.0, "caller {:.1} ms off", caller.worst_ms);
    assert!(agent.worst_ms < 20.0, "agent {:.1} ms off", agent.worst_ms);
}
