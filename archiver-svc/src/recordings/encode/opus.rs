//! Opus in Ogg (RFC 7845).

use std::fs::File;
use std::io::{BufWriter, Write as _};

use ogg::PacketWriter;
use ogg::writing::PacketWriteEndInfo;
use ropus::{Application, Bitrate, Channels, Encoder};

use super::{EncodeError, Samples};

/// Sample rates that Opus encodes.
pub const RATES_HZ: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];
/// Positions in the file count at this rate, whatever the sound's own.
const GRANULE_RATE_HZ: u64 = 48_000;
/// Packets a second: 20 ms each.
const PACKETS_PER_SEC: u32 = 50;
/// Bits a second of one channel: speech of a phone line or of a microphone sounds as it was.
const NARROWBAND_BITS: u32 = 24_000;
const WIDEBAND_BITS: u32 = 32_000;
/// Largest packet of 20 ms: 1275 bytes for each of two channels.
const PACKET_BYTES: usize = 2 * 1275;
/// One logical stream in the file; any number does.
const STREAM: u32 = 1;

/// Encodes all samples. What the encoder delays is skipped at the beginning and cut at the end, so that the file is as
/// long as the call to the sample.
pub fn encode(mut samples: Samples, file: File) -> Result<(), EncodeError> {
    let (rate, frames) = (samples.format.sample_rate_hz, samples.frames);
    let channels = match samples.format.channels {
        1 => Channels::Mono,
        _ => Channels::Stereo,
    };
    let bits = if rate <= 8_000 { NARROWBAND_BITS } else { WIDEBAND_BITS };
    let mut encoder = Encoder::builder(rate, channels, Application::Audio)
        .bitrate(Bitrate::Bits(bits * u32::from(samples.format.channels)))
        .build()
        .map_err(refused)?;
    let at_granule_rate = |frames: u64| frames * GRANULE_RATE_HZ / u64::from(rate.max(1));
    let delay = u64::from(encoder.lookahead());
    let pre_skip = at_granule_rate(delay);
    let mut to = PacketWriter::new(BufWriter::new(file));
    let head = opus_head(samples.format.channels, pre_skip, rate);
    to.write_packet(head, STREAM, PacketWriteEndInfo::EndPage, 0)?;
    to.write_packet(opus_tags(), STREAM, PacketWriteEndInfo::EndPage, 0)?;
    let packet_frames = (rate / PACKETS_PER_SEC) as usize;
    let packets = (frames + delay).div_ceil(packet_frames as u64).max(1);
    let mut packet = [0; PACKET_BYTES];
    for number in 1..=packets {
        let mut pcm = samples.read(packet_frames)?;
        pcm.resize(packet_frames * usize::from(samples.format.channels), 0);
        let length = encoder.encode(&pcm, &mut packet).map_err(refused)?;
        let end = if number == packets {
            PacketWriteEndInfo::EndStream
        } else if number % u64::from(PACKETS_PER_SEC) == 0 {
            // A page a second, so that players can seek.
            PacketWriteEndInfo::EndPage
        } else {
            PacketWriteEndInfo::NormalPacket
        };
        let whole = at_granule_rate(number * packet_frames as u64);
        let position = whole.min(pre_skip + at_granule_rate(frames));
        let bytes = packet.get(..length).unwrap_or_default().to_vec();
        to.write_packet(bytes, STREAM, end, position)?;
    }
    Ok(to.into_inner().flush()?)
}

/// Identification header (RFC 7845, 5.1).
fn opus_head(channels: u16, pre_skip: u64, rate: u32) -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.push(1);
    head.push(if channels == 1 { 1 } else { 2 });
    head.extend_from_slice(&u16::try_from(pre_skip).unwrap_or(u16::MAX).to_le_bytes());
    head.extend_from_slice(&rate.to_le_bytes());
    // No gain; mono or stereo in one stream.
    head.extend_from_slice(&[0, 0, 0]);
    head
}

/// Comment header (RFC 7845, 5.2).
fn opus_tags() -> Vec<u8> {
    let vendor = b"voxray";
    let mut tags = b"OpusTags".to_vec();
    tags.extend_from_slice(&6_u32.to_le_bytes());
    tags.extend_from_slice(vendor);
    tags.extend_from_slice(&0_u32.to_le_bytes());
    tags
}

fn refused(error: impl std::fmt::Display) -> EncodeError {
    EncodeError::Opus(error.to_string())
}
