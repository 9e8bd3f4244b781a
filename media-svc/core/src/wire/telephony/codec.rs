//! How samples become bytes.

use super::WireError;
use crate::audio::{g711, pcm};

/// Coding of audio on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// ITU-T G.711 µ-law, a byte a sample.
    Ulaw,
    /// ITU-T G.711 A-law, a byte a sample.
    Alaw,
    /// Linear 16 bits, little-endian.
    L16,
}

impl Codec {
    /// The samples of these bytes.
    ///
    /// # Errors
    /// [`WireError::OddLength`] when half a sample is left over.
    pub fn decode(self, bytes: &[u8]) -> Result<Vec<i16>, WireError> {
        match self {
            Self::Ulaw => Ok(g711::decode_ulaw(bytes)),
            Self::Alaw => Ok(g711::decode_alaw(bytes)),
            Self::L16 => pcm::from_s16le(bytes).map_err(|odd| WireError::OddLength { bytes: odd.bytes }),
        }
    }

    /// Appends the bytes of these samples.
    pub fn encode(self, samples: &[i16], bytes: &mut Vec<u8>) {
        match self {
            Self::Ulaw => bytes.extend(samples.iter().map(|&sample| g711::linear_to_ulaw(sample))),
            Self::Alaw => bytes.extend(samples.iter().map(|&sample| g711::linear_to_alaw(sample))),
            Self::L16 => bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes())),
        }
    }
}

/// What audio on a stream is like; one channel, the same both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaFormat {
    /// Coding.
    pub codec: Codec,
    /// Samples a second.
    pub rate_hz: u32,
}

impl MediaFormat {
    /// What a telephone line has unless something else is said.
    pub const ULAW_8K: Self = Self {
        codec: Codec::Ulaw,
        rate_hz: 8_000,
    };

    /// Samples in this many milliseconds.
    pub fn samples(self, ms: u32) -> usize {
        (self.rate_hz * ms / 1_000) as usize
    }
}
