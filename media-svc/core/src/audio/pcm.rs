//! Samples to and from little-endian bytes, the `s16le` of sockets and WAV files.

/// Bytes that cannot be 16-bit samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not a whole number of 16-bit samples: send an even number of bytes")]
pub struct OddLength {
    /// How many bytes there were.
    pub bytes: usize,
}

/// Reads little-endian samples.
///
/// # Errors
/// [`OddLength`] when half a sample is left over.
pub fn from_s16le(bytes: &[u8]) -> Result<Vec<i16>, OddLength> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(OddLength { bytes: bytes.len() });
    }
    Ok(pairs.iter().map(|&pair| i16::from_le_bytes(pair)).collect())
}

/// Writes little-endian samples.
pub fn to_s16le(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Averages pairs of left and right samples; a lone last sample is kept.
pub fn stereo_to_mono(interleaved: &[i16]) -> Vec<i16> {
    let (pairs, rest) = interleaved.as_chunks::<2>();
    // The mean of two i16 is an i16.
    let mean = |&[left, right]: &[i16; 2]| ((i32::from(left) + i32::from(right)) / 2) as i16;
    pairs.iter().map(mean).chain(rest.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_low_byte_comes_first() {
        assert_eq!(to_s16le(&[0x0102, -2]), [0x02, 0x01, 0xFE, 0xFF]);
        assert_eq!(from_s16le(&[0x02, 0x01, 0xFE, 0xFF]), Ok(vec![0x0102, -2]));
    }

    #[test]
    fn half_a_sample_is_an_error() {
        assert_eq!(from_s16le(&[1, 2, 3]), Err(OddLength { bytes: 3 }));
    }

    #[test]
    fn stereo_becomes_the_mean_of_its_sides_without_overflow() {
        assert_eq!(
            stereo_to_mono(&[i16::MAX, i16::MAX, i16::MIN, i16::MIN, 100, -50]),
            [i16::MAX, i16::MIN, 25]
        );
    }

    proptest! {
        #[test]
        fn samples_survive_the_way_through_bytes(samples: Vec<i16>) {
            prop_assert_eq!(from_s16le(&to_s16le(&samples)), Ok(samples));
        }
    }
}
