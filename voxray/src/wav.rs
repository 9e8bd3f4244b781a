//! WAV files for callers: read anything usual to mono 8 kHz, write what a call sounded like.

use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::{Context, ensure};
use media_core::audio::resample::Resampler;

/// Rate of the telephone.
pub const TELEPHONE_HZ: u32 = 8_000;

/// Reads a WAV file (16-bit or float, any usual rate, channels mixed) as mono 8 kHz.
pub fn read_file(path: &Path) -> anyhow::Result<Vec<i16>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(&bytes).with_context(|| format!("{} is not a WAV file this command can play", path.display()))
}

/// Reads a WAV file held in memory.
pub fn read(bytes: &[u8]) -> anyhow::Result<Vec<i16>> {
    let (mono, rate_hz) = read_mono(Cursor::new(bytes))?;
    resample(&mono, rate_hz, TELEPHONE_HZ)
}

/// Whole clips from one rate to another.
pub fn resample(samples: &[i16], from_hz: u32, to_hz: u32) -> anyhow::Result<Vec<i16>> {
    let mut resampler = Resampler::new(from_hz, to_hz)?;
    let mut out = resampler.process(samples);
    out.extend(resampler.flush());
    Ok(out)
}

fn read_mono(reader: impl Read) -> anyhow::Result<(Vec<i16>, u32)> {
    let mut reader = hound::WavReader::new(reader)?;
    let spec = reader.spec();
    ensure!(
        spec.channels > 0 && spec.sample_rate >= 8_000,
        "{spec:?}: at least one channel and 8000 Hz are needed"
    );
    let samples: Vec<i16> = match spec.sample_format {
        hound::SampleFormat::Float => reader
            .samples::<f32>()
            .map(|sample| sample.map(from_float))
            .collect::<Result<_, _>>()?,
        hound::SampleFormat::Int => {
            ensure!(
                spec.bits_per_sample == 16,
                "{} bits a sample: convert it to 16",
                spec.bits_per_sample
            );
            reader.samples::<i16>().collect::<Result<_, _>>()?
        }
    };
    let channels = usize::from(spec.channels);
    let mono = samples.chunks(channels).map(mix).collect();
    Ok((mono, spec.sample_rate))
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i16")]
fn from_float(sample: f32) -> i16 {
    (sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16
}

fn mix(frame: &[i16]) -> i16 {
    let sum: i32 = frame.iter().map(|&sample| i32::from(sample)).sum();
    let count = i32::try_from(frame.len().max(1)).unwrap_or(1);
    i16::try_from(sum / count).unwrap_or(0)
}

/// Writes a stereo file: left what the caller sent, right what the caller heard.
pub fn write_stereo(path: &Path, left: &[i16], right: &[i16], rate_hz: u32) -> anyhow::Result<()> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer =
        hound::WavWriter::create(path, spec).with_context(|| format!("cannot write {}", path.display()))?;
    for index in 0..left.len().max(right.len()) {
        writer.write_sample(left.get(index).copied().unwrap_or(0))?;
        writer.write_sample(right.get(index).copied().unwrap_or(0))?;
    }
    Ok(writer.finalize()?)
}
