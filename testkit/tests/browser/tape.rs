//! What a page has received of the agent, without the silence in between.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use media_core::audio::opus::OpusDecoder;
use voxray::wav;

use crate::ears::EARS_HZ;

/// As the page hands it over. `rate`: samples a second of the places on it.
#[derive(Debug, serde::Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Tape {
    /// s16 in base64.
    Samples { rate: u32, base64: String },
    /// RTP time and bytes in base64 of each packet of 20 ms, in the order in which they came.
    Opus { rate: u32, packets: Vec<(u32, String)> },
}

impl Tape {
    pub fn rate(&self) -> u32 {
        match self {
            Self::Samples { rate, .. } | Self::Opus { rate, .. } => *rate,
        }
    }

    /// How many there are of Opus.
    pub fn packets(&self) -> usize {
        match self {
            Self::Samples { .. } => 0,
            Self::Opus { packets, .. } => packets.len(),
        }
    }

    /// For the ears.
    pub fn samples(&self) -> Vec<i16> {
        match self {
            Self::Samples { rate, base64 } => {
                let bytes = BASE64_STANDARD.decode(base64).unwrap();
                let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
                wav::resample(&samples.collect::<Vec<i16>>(), *rate, EARS_HZ).unwrap()
            }
            Self::Opus { packets, .. } => decoded(packets),
        }
    }
}

fn decoded(packets: &[(u32, String)]) -> Vec<i16> {
    let Some((first, _)) = packets.first() else {
        return Vec::new();
    };
    let mut packets: Vec<(i32, &String)> = packets
        .iter()
        .map(|(time, base64)| (time.wrapping_sub(*first) as i32, base64))
        .collect();
    packets.sort_by_key(|(time, _)| *time);
    let mut decoder = OpusDecoder::new(EARS_HZ).unwrap();
    let samples = packets.iter().flat_map(|(_, base64)| {
        let samples = decoder.decode(&BASE64_STANDARD.decode(base64).unwrap()).unwrap();
        assert_eq!(samples.len(), EARS_HZ as usize / 50, "a packet is 20 ms");
        samples
    });
    samples.collect()
}
