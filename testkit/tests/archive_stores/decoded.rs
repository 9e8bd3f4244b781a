//! FLAC and Ogg Opus of every shape, decoded by FFmpeg (through PyAV), which shares no line with our encoders.

use std::path::Path;

use service_kit::config::AudioFormat;
use voxray_testkit::servers::tools::tools_folder;

use crate::common::{Call, Node, Place};

/// Prints sample rate, channels, samples a channel and, for each channel, how loud it is at 440 and at 1000 Hz.
const DECODE: &str = r#"
import math, sys
import av
with av.open(sys.argv[1]) as file:
    stream = file.streams.audio[0]
    rate, channels = stream.rate, stream.codec_context.channels
    sides = [[] for _ in range(channels)]
    to = av.AudioResampler(format="s16", layout=stream.layout.name, rate=rate)
    for frame in file.decode(stream):
        for piece in to.resample(frame):
            samples = memoryview(bytes(piece.planes[0])).cast("h")[: piece.samples * channels]
            for side in range(channels):
                sides[side].extend(samples[side::channels])
def loud(side, hertz):
    turn = [2 * math.pi * hertz * at / rate for at in range(len(side))]
    re = sum(sample * math.cos(angle) for sample, angle in zip(side, turn))
    im = sum(sample * math.sin(angle) for sample, angle in zip(side, turn))
    return round(2 * math.hypot(re, im) / len(side))
print(rate, channels, len(sides[0]), *(loud(side, hertz) for side in sides for hertz in (440, 1000)))
"#;

async fn decoded(file: &Path) -> Vec<f64> {
    let python = tokio::process::Command::new("python3")
        .args(["-c", DECODE])
        .arg(file)
        .env("PYTHONPATH", tools_folder().join("lib"))
        .output();
    let output = python.await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `make tools`; {errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[tokio::test]
async fn flac_and_ogg_of_one_and_two_channels_at_8_and_16_khz_are_what_another_decoder_expects() {
    const MS: u32 = 1200;
    for format in [AudioFormat::Flac, AudioFormat::Ogg] {
        let mut place = Place::new();
        place.config.recording.format = format;
        let archiver = place.start().await;
        let mut node = Node::connect(archiver.address, "n1").await;
        for (rate, channels) in [(8_000, 1), (16_000, 1), (8_000, 2), (16_000, 2)] {
            let tone = |at: u32, hertz: f64| {
                ((f64::from(at) / f64::from(rate) * hertz * std::f64::consts::TAU).sin() * 8000.0) as i16
            };
            let frames = (0..rate / 1000 * MS).map(|at| [tone(at, 440.0), tone(at, 1000.0)]);
            let pcm: Vec<u8> = frames
                .flat_map(|frame| frame.into_iter().take(channels as usize))
                .flat_map(i16::to_le_bytes)
                .collect();
            let id = format!("call-{rate}-{channels}");
            let call = Call::of_shape(&id, &pcm, rate, channels);

            node.send_all(&call.events).await;
            node.until_durable(&id, call.last()).await;
            let decoded = decoded(&place.recording(&id).with_extension(format.extension())).await;

            // Opus is always decoded at 48 kHz.
            let expected_rate = if format == AudioFormat::Ogg { 48_000 } else { rate };
            assert_eq!(
                decoded[..2],
                [f64::from(expected_rate), f64::from(channels)],
                "{id} {format:?}"
            );
            let samples = f64::from(expected_rate / 1000 * MS);
            assert!((decoded[2] - samples).abs() <= 1.0, "{id} {format:?}: {decoded:?}");
            for (side, own) in (0..channels as usize).zip([0, 1]) {
                let (here, there) = (decoded[3 + 2 * side + own], decoded[3 + 2 * side + 1 - own]);
                assert!((here - 8000.0).abs() < 400.0, "{id} {format:?}: {decoded:?}");
                assert!(there < 400.0, "{id} {format:?}: {decoded:?}");
            }
        }
    }
}
