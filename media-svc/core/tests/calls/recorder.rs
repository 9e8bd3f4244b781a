//! Caller and agent on one timeline.
#![allow(clippy::indexing_slicing, reason = "a test that fails may panic")]

use std::time::Duration;

use media_core::Time;
use media_core::recorder::{Channels, RecordedChunk, Recorder};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const RATE_HZ: u32 = 8_000;
const FRAME_SAMPLES: usize = 160;
const FRAME: Duration = Duration::from_millis(20);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Everything a recorder gives until `end`, as one sequence of samples; checks that chunks are gapless.
fn drain(recorder: &mut Recorder, end: Time) -> Vec<i16> {
    let mut samples = Vec::new();
    let mut next = 0;
    let mut hash = Sha256::new();
    let mut chunks: Vec<RecordedChunk> = std::iter::from_fn(|| recorder.take_chunk(end)).collect();
    chunks.extend(std::iter::from_fn(|| recorder.finish(end)));
    for chunk in chunks {
        assert_eq!(chunk.first_frame, next);
        hash.update(&chunk.pcm);
        samples.extend(
            chunk
                .pcm
                .chunks_exact(2)
                .map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])),
        );
        next = samples.len() as u64 / 2;
    }
    assert_eq!(<[u8; 32]>::from(hash.finalize()), recorder.sha256());
    samples
}

fn left(samples: &[i16]) -> Vec<i16> {
    samples.iter().step_by(2).copied().collect()
}

fn right(samples: &[i16]) -> Vec<i16> {
    samples.iter().skip(1).step_by(2).copied().collect()
}

fn at(millis: usize) -> usize {
    millis * RATE_HZ as usize / 1_000
}

#[test]
fn both_sides_are_where_they_were_in_the_call() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    recorder.caller(ms(120), &[1; FRAME_SAMPLES]);
    recorder.agent(ms(200), &[2; FRAME_SAMPLES]);
    let samples = drain(&mut recorder, ms(300));
    assert_eq!(recorder.total_frames(), at(300) as u64);
    let expected = |from: usize, value: i16| {
        (0..at(300))
            .map(|i| {
                if (at(from)..at(from + 20)).contains(&i) {
                    value
                } else {
                    0
                }
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(left(&samples), expected(100, 1));
    assert_eq!(right(&samples), expected(200, 2));
}

#[test]
fn a_mono_recording_has_both_at_full_level_without_wrapping() {
    for (sign, loudest) in [(1, i16::MAX), (-1, i16::MIN)] {
        let mut recorder = Recorder::new(RATE_HZ, Channels::Mono);
        recorder.caller(ms(20), &[30_000 * sign; FRAME_SAMPLES]);
        recorder.agent(ms(0), &[10_000 * sign; FRAME_SAMPLES * 2]);
        let pcm = recorder.finish(ms(40)).expect("a chunk").pcm;
        assert_eq!(pcm[..2], loudest.to_le_bytes());
        assert_eq!(pcm[FRAME_SAMPLES * 2..][..2], (10_000 * sign).to_le_bytes());
    }
}

#[test]
fn what_was_cut_off_is_not_recorded() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    for frame in 0..10 {
        recorder.agent(FRAME * frame, &[5; FRAME_SAMPLES]);
    }
    recorder.agent_cut(at(110) as u64);
    recorder.agent(ms(150), &[6; FRAME_SAMPLES]);
    let agent = right(&drain(&mut recorder, ms(300)));
    assert!(agent[..at(90)].iter().all(|sample| *sample == 5));
    assert!(agent[at(90)..at(150)].iter().all(|sample| *sample == 0));
    assert!(agent[at(150)..at(170)].iter().all(|sample| *sample == 6));
}

#[test]
fn agent_audio_sent_ahead_of_time_stays_in_one_piece() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    for frame in 0..20_u32 {
        let sent = (FRAME * frame).saturating_sub(ms(100));
        recorder.agent(ms(50) + sent, &[1; FRAME_SAMPLES]);
    }
    let agent = right(&drain(&mut recorder, ms(600)));
    assert!(agent[at(50)..at(450)].iter().all(|sample| *sample == 1));
    assert_eq!(agent.iter().filter(|sample| **sample == 1).count(), 20 * FRAME_SAMPLES);
}

#[test]
fn jitter_leaves_no_holes() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    for frame in 1..=50_u32 {
        let jitter = u64::from(frame * 7 % 50);
        recorder.caller(ms(200) + FRAME * frame + ms(jitter), &[1; FRAME_SAMPLES]);
    }
    let caller = left(&drain(&mut recorder, ms(1_500)));
    let first = caller.iter().position(|sample| *sample == 1).unwrap();
    let last = caller.iter().rposition(|sample| *sample == 1).unwrap();
    assert!(caller[first..=last].iter().all(|sample| *sample == 1));
}

#[test]
fn a_burst_after_a_stall_closes_the_hole_again() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    for frame in 1..=50_u32 {
        // Frames 20 to 30 all arrive with frame 30.
        let arrival = if (20..30).contains(&frame) {
            FRAME * 30
        } else {
            FRAME * frame
        };
        recorder.caller(arrival, &[1; FRAME_SAMPLES]);
    }
    let caller = left(&drain(&mut recorder, FRAME * 50));
    assert!(
        caller.iter().all(|sample| *sample == 1),
        "{:?}",
        caller.iter().position(|sample| *sample == 0)
    );
}

#[test]
fn a_real_pause_is_silence_of_its_length() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    recorder.caller(ms(20), &[1; FRAME_SAMPLES]);
    recorder.caller(ms(1_020), &[2; FRAME_SAMPLES]);
    let caller = left(&drain(&mut recorder, ms(1_100)));
    assert_eq!(caller.iter().position(|sample| *sample == 2), Some(at(1_000)));
    assert!(caller[FRAME_SAMPLES..at(1_000)].iter().all(|sample| *sample == 0));
}

/// A caller for an hour, whose clock runs `drift_ppm` fast; returns the worst misplacement of its ticks in
/// milliseconds and the most samples held.
fn one_hour(drift_ppm: i64) -> (f64, usize) {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    let mut random = 12_345_u64;
    let (mut held, mut worst) = (0, 0.0_f64);
    let mut position = 0_usize;
    for frame in 1..=180_000_u64 {
        let nominal = frame as f64 * 0.020 * (1.0 - drift_ppm as f64 * 1e-6);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let jitter = (random >> 33) % 16;
        let now = Duration::from_secs_f64(nominal) + ms(jitter);
        let mut samples = [0; FRAME_SAMPLES];
        // One tick a second by the caller's clock, in the middle of a frame.
        let tick = frame % 50 == 0;
        if tick {
            samples[80] = 1_000;
        }
        recorder.caller(now, &samples);
        recorder.agent(now, &[0; 1]);
        held = held.max(recorder.held_samples());
        while let Some(chunk) = recorder.take_chunk(now) {
            for bytes in chunk.pcm.chunks_exact(4) {
                if bytes[..2] != [0, 0] {
                    let at = position as f64 / f64::from(RATE_HZ);
                    let ticks = (at / (1.0 - drift_ppm as f64 * 1e-6)).round();
                    let true_time = (ticks - 0.010) * (1.0 - drift_ppm as f64 * 1e-6);
                    worst = worst.max((at - true_time).abs() * 1_000.0);
                }
                position += 1;
            }
        }
    }
    assert!(position as u64 > 3_590 * u64::from(RATE_HZ));
    (worst, held)
}

#[test]
fn an_hour_with_jitter_and_drifting_clocks_stays_aligned_in_bounded_memory() {
    for drift_ppm in [0, 200, -200] {
        let (worst, held) = one_hour(drift_ppm);
        assert!(worst < 20.0, "{worst:.1} ms off at {drift_ppm} ppm");
        assert!(held < RATE_HZ as usize * 2, "{held} samples held");
    }
}

/// Nothing comes from a client that has vanished, and its call is kept for some time.
#[test]
fn a_long_silence_at_the_end_is_given_out_in_chunks_that_fit_a_message() {
    let mut recorder = Recorder::new(16_000, Channels::Stereo);
    recorder.caller(ms(20), &[100; 320]);
    let chunks: Vec<RecordedChunk> = std::iter::from_fn(|| recorder.finish(ms(60_000))).collect();
    let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.pcm.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 320_000), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 60 * 64_000);
}

#[test]
fn a_recording_of_silence_is_as_long_as_the_call() {
    let mut recorder = Recorder::new(RATE_HZ, Channels::Stereo);
    let samples = drain(&mut recorder, Duration::from_secs(20));
    assert_eq!(samples.len(), 20 * RATE_HZ as usize * 2);
    assert!(samples.iter().all(|sample| *sample == 0));
}

proptest! {
    #[test]
    fn chunks_are_gapless_and_end_with_the_call(
        steps in prop::collection::vec((0_u64..700, 0_usize..400, 0_u8..4), 0..80),
    ) {
        let mut recorder = Recorder::new(RATE_HZ, Channels::Mono);
        let (mut now, mut frames) = (Duration::ZERO, 0_u64);
        for (wait, samples, what) in steps {
            now += ms(wait / 4);
            match what {
                0 => recorder.caller(now, &vec![1; samples]),
                1 => recorder.agent(now, &vec![1; samples]),
                2 => recorder.agent_cut(samples as u64),
                _ => {
                    while let Some(chunk) = recorder.take_chunk(now) {
                        prop_assert_eq!(chunk.first_frame, frames);
                        frames += chunk.pcm.len() as u64 / 2;
                    }
                }
            }
        }
        while let Some(chunk) = recorder.finish(now) {
            prop_assert_eq!(chunk.first_frame, frames);
            frames += chunk.pcm.len() as u64 / 2;
        }
        prop_assert_eq!(frames, recorder.total_frames());
        prop_assert_eq!(frames, now.as_millis() as u64 * 8);
    }
}
