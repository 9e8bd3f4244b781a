//! The 44 bytes before the samples: RIFF/WAVE with 16-bit PCM
//! (<https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html>).

/// Length of the header.
pub const HEADER_BYTES: usize = 44;
/// For a header written before the length is known: players then read until the end of the file.
pub const UNKNOWN_LENGTH: u64 = u64::MAX;
/// Bytes of one sample of one channel.
const SAMPLE_BYTES: u32 = 2;

/// Shape of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Format {
    /// Frames a second.
    pub sample_rate_hz: u32,
    /// 1 = mono mix, 2 = stereo (caller left, agent right).
    pub channels: u16,
}

impl Format {
    /// Bytes of one frame: one sample of every channel.
    pub fn frame_bytes(self) -> u64 {
        u64::from(self.channels) * u64::from(SAMPLE_BYTES)
    }

    /// The header before `pcm_bytes` of samples. Sizes past 4 GiB (37 hours of stereo at 8 kHz) do not fit the
    /// format; they stay at its maximum, which players take as "until the end of the file".
    pub fn header(self, pcm_bytes: u64) -> [u8; HEADER_BYTES] {
        let data = u32::try_from(pcm_bytes).unwrap_or(u32::MAX);
        let frame = u32::from(self.channels).saturating_mul(SAMPLE_BYTES);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(b"RIFF");
        header.extend_from_slice(&data.saturating_add(36).to_le_bytes());
        header.extend_from_slice(b"WAVEfmt ");
        header.extend_from_slice(&16_u32.to_le_bytes());
        header.extend_from_slice(&1_u16.to_le_bytes());
        header.extend_from_slice(&self.channels.to_le_bytes());
        header.extend_from_slice(&self.sample_rate_hz.to_le_bytes());
        header.extend_from_slice(&self.sample_rate_hz.saturating_mul(frame).to_le_bytes());
        header.extend_from_slice(&u16::try_from(frame).unwrap_or(u16::MAX).to_le_bytes());
        header.extend_from_slice(&16_u16.to_le_bytes());
        header.extend_from_slice(b"data");
        header.extend_from_slice(&data.to_le_bytes());
        let mut fixed = [0; HEADER_BYTES];
        // The pieces above are 4+4+8+4+2+2+4+4+2+2+4+4 = 44 bytes.
        fixed.copy_from_slice(&header);
        fixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_stereo_16_bit_and_the_right_lengths() {
        let header = Format {
            sample_rate_hz: 8000,
            channels: 2,
        }
        .header(32_000);
        assert_eq!(&header[..4], b"RIFF");
        assert_eq!(header[4..8], 32_036_u32.to_le_bytes());
        assert_eq!(header[22..24], 2_u16.to_le_bytes());
        assert_eq!(header[24..28], 8000_u32.to_le_bytes());
        assert_eq!(header[28..32], 32_000_u32.to_le_bytes());
        assert_eq!(header[32..36], [4, 0, 16, 0]);
        assert_eq!(header[40..44], 32_000_u32.to_le_bytes());
    }

    #[test]
    fn a_recording_too_long_for_the_format_keeps_the_largest_sizes() {
        let header = Format {
            sample_rate_hz: 8000,
            channels: 2,
        }
        .header(5 << 30);
        assert_eq!(header[4..8], u32::MAX.to_le_bytes());
        assert_eq!(header[40..44], u32::MAX.to_le_bytes());
    }
}
