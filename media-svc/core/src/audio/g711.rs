//! G.711 companding, both laws, both ways, by table.
//!
//! Follows ITU-T G.711 (11/88) tables 1a/1b (A-law) and 2a/2b (µ-law). Samples are 16 bits with the codec's 14-bit
//! (µ-law) or 13-bit (A-law) value left-aligned, as in the ITU-T G.191 software tools; negative values mirror the
//! positive ones by one's complement, so that both halves have the same decision values.

/// µ-law code word of silence.
pub const ULAW_SILENCE: u8 = 0xFF;
/// A-law code word of silence (the smallest positive value; A-law has no zero).
pub const ALAW_SILENCE: u8 = 0xD5;

/// Added to a 14-bit magnitude so that every µ-law segment begins at a power of two.
const ULAW_BIAS: i32 = 33;
/// Largest biased µ-law magnitude; everything above is clipped to the last interval.
const ULAW_MAX: i32 = 0x1FFF;

static ULAW_TO_LINEAR: [i16; 256] = expand_table(true);
static ALAW_TO_LINEAR: [i16; 256] = expand_table(false);
static LINEAR_TO_ULAW: [u8; 1 << 14] = ulaw_table();
static LINEAR_TO_ALAW: [u8; 1 << 12] = alaw_table();

/// The sample that a µ-law code word stands for.
#[expect(clippy::indexing_slicing, reason = "a u8 is always below 256")]
pub fn ulaw_to_linear(code: u8) -> i16 {
    ULAW_TO_LINEAR[code as usize]
}

/// The sample that an A-law code word stands for.
#[expect(clippy::indexing_slicing, reason = "a u8 is always below 256")]
pub fn alaw_to_linear(code: u8) -> i16 {
    ALAW_TO_LINEAR[code as usize]
}

/// The µ-law code word of a sample.
#[expect(clippy::indexing_slicing, reason = "a u16 shifted right by 2 is below 1 << 14")]
pub fn linear_to_ulaw(sample: i16) -> u8 {
    LINEAR_TO_ULAW[(sample as u16 >> 2) as usize]
}

/// The A-law code word of a sample.
#[expect(clippy::indexing_slicing, reason = "a u16 shifted right by 4 is below 1 << 12")]
pub fn linear_to_alaw(sample: i16) -> u8 {
    LINEAR_TO_ALAW[(sample as u16 >> 4) as usize]
}

/// Decodes a run of µ-law code words.
pub fn decode_ulaw(codes: &[u8]) -> Vec<i16> {
    codes.iter().map(|&code| ulaw_to_linear(code)).collect()
}

/// Decodes a run of A-law code words.
pub fn decode_alaw(codes: &[u8]) -> Vec<i16> {
    codes.iter().map(|&code| alaw_to_linear(code)).collect()
}

/// Encodes a run of samples as µ-law.
pub fn encode_ulaw(samples: &[i16]) -> Vec<u8> {
    samples.iter().map(|&sample| linear_to_ulaw(sample)).collect()
}

/// Encodes a run of samples as A-law.
pub fn encode_alaw(samples: &[i16]) -> Vec<u8> {
    samples.iter().map(|&sample| linear_to_alaw(sample)).collect()
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler; the loop ends at the table's length"
)]
const fn expand_table(ulaw: bool) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = if ulaw {
            expand_ulaw(code as i32)
        } else {
            expand_alaw(code as i32)
        };
        code += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler; the loop ends at the table's length"
)]
const fn ulaw_table() -> [u8; 1 << 14] {
    let mut table = [0; 1 << 14];
    let mut top_bits = 0;
    while top_bits < 1 << 14 {
        table[top_bits] = compress_ulaw(((top_bits << 2) as u16).cast_signed());
        top_bits += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler; the loop ends at the table's length"
)]
const fn alaw_table() -> [u8; 1 << 12] {
    let mut table = [0; 1 << 12];
    let mut top_bits = 0;
    while top_bits < 1 << 12 {
        table[top_bits] = compress_alaw(((top_bits << 4) as u16).cast_signed());
        top_bits += 1;
    }
    table
}

const fn expand_ulaw(code: i32) -> i16 {
    let inverted = !code & 0x7F;
    let (segment, interval) = (inverted >> 4, inverted & 0x0F);
    // Middle of the interval, in 14-bit units.
    let magnitude = ((2 * interval + ULAW_BIAS) << segment) - ULAW_BIAS;
    let value = magnitude << 2;
    (if code & 0x80 != 0 { value } else { -value }) as i16
}

const fn expand_alaw(code: i32) -> i16 {
    let toggled = (code ^ 0x55) & 0x7F;
    let (segment, interval) = (toggled >> 4, toggled & 0x0F);
    // Middle of the interval, in 13-bit units: segments 0 and 1 have the same step.
    let magnitude = if segment == 0 {
        2 * interval + 1
    } else {
        (2 * interval + 33) << (segment - 1)
    };
    let value = magnitude << 3;
    (if code & 0x80 != 0 { value } else { -value }) as i16
}

const fn compress_ulaw(sample: i16) -> u8 {
    let magnitude = (if sample < 0 { !sample } else { sample } as i32 >> 2) + ULAW_BIAS;
    let magnitude = if magnitude > ULAW_MAX { ULAW_MAX } else { magnitude };
    let mut segment = 0;
    while magnitude >> (segment + 6) != 0 {
        segment += 1;
    }
    let interval = (magnitude >> (segment + 1)) & 0x0F;
    let sign = if sample < 0 { 0 } else { 0x80 };
    (sign | (!((segment << 4) | interval) & 0x7F)) as u8
}

const fn compress_alaw(sample: i16) -> u8 {
    let mut magnitude = if sample < 0 { !sample } else { sample } as i32 >> 4;
    if magnitude > 15 {
        let mut segment = 1;
        while magnitude > 31 {
            magnitude >>= 1;
            segment += 1;
        }
        magnitude = (magnitude - 16) | (segment << 4);
    }
    let sign = if sample < 0 { 0 } else { 0x80 };
    ((sign | magnitude) ^ 0x55) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One half of a law as the standard tabulates it: intervals `[low, high)` and the value decoded, in the codec's own
    /// units (14-bit µ-law: full scale 8159; 13-bit A-law: full scale 4096). Interval n has magnitude code n.
    fn intervals(first_width: i32, widths: &[(usize, i32)]) -> Vec<(i32, i32, i32)> {
        let mut table = Vec::new();
        let mut low = 0;
        if first_width > 0 {
            // µ-law's first interval reaches from -1 to +1 around zero and is decoded as zero.
            table.push((0, first_width, 0));
            low = first_width;
        }
        for &(count, width) in widths {
            for _ in 0..count {
                table.push((low, low + width, low + width / 2));
                low += width;
            }
        }
        table
    }

    fn ulaw_intervals() -> Vec<(i32, i32, i32)> {
        let widths = [
            (15, 2),
            (16, 4),
            (16, 8),
            (16, 16),
            (16, 32),
            (16, 64),
            (16, 128),
            (16, 256),
        ];
        intervals(1, &widths)
    }

    fn alaw_intervals() -> Vec<(i32, i32, i32)> {
        intervals(0, &[(32, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128)])
    }

    #[test]
    fn the_derived_tables_end_where_the_standard_says() {
        let (ulaw, alaw) = (ulaw_intervals(), alaw_intervals());
        assert_eq!((ulaw.len(), ulaw.last().copied()), (128, Some((7903, 8159, 8031))));
        assert_eq!((alaw.len(), alaw.last().copied()), (128, Some((3968, 4096, 4032))));
    }

    #[test]
    fn every_ulaw_code_word_decodes_to_the_value_of_its_interval() {
        for (n, (_, _, value)) in ulaw_intervals().into_iter().enumerate() {
            // All bits are inverted on the line; the sign bit is 1 for positive values.
            let positive = !(n as u8);
            assert_eq!(i32::from(ulaw_to_linear(positive)), value * 4, "+{n}");
            assert_eq!(i32::from(ulaw_to_linear(positive & 0x7F)), -value * 4, "-{n}");
        }
    }

    #[test]
    fn every_alaw_code_word_decodes_to_the_value_of_its_interval() {
        for (n, (_, _, value)) in alaw_intervals().into_iter().enumerate() {
            // The even bits are inverted on the line; the sign bit is 1 for positive values.
            let positive = (n as u8 | 0x80) ^ 0x55;
            assert_eq!(i32::from(alaw_to_linear(positive)), value * 8, "+{n}");
            assert_eq!(i32::from(alaw_to_linear(positive ^ 0x80)), -value * 8, "-{n}");
        }
    }

    #[test]
    fn every_sample_is_encoded_into_the_ulaw_interval_it_lies_in() {
        let table = ulaw_intervals();
        for sample in i16::MIN..=i16::MAX {
            let magnitude = i32::from(if sample < 0 { !sample } else { sample }) / 4;
            let n = table
                .iter()
                .position(|&(low, high, _)| (low..high).contains(&magnitude))
                .unwrap_or(127);
            let expected = if sample < 0 { !(n as u8) & 0x7F } else { !(n as u8) };
            assert_eq!(linear_to_ulaw(sample), expected, "{sample}");
        }
    }

    #[test]
    fn every_sample_is_encoded_into_the_alaw_interval_it_lies_in() {
        let table = alaw_intervals();
        for sample in i16::MIN..=i16::MAX {
            let magnitude = i32::from(if sample < 0 { !sample } else { sample }) / 8;
            let n = table
                .iter()
                .position(|&(low, high, _)| (low..high).contains(&magnitude))
                .unwrap();
            let sign = if sample < 0 { 0 } else { 0x80 };
            assert_eq!(linear_to_alaw(sample), (n as u8 | sign) ^ 0x55, "{sample}");
        }
    }

    #[test]
    fn a_decoded_code_word_encodes_to_itself_except_negative_zero() {
        for code in 0..=255 {
            assert_eq!(linear_to_alaw(alaw_to_linear(code)), code);
            let expected = if code == 0x7F { ULAW_SILENCE } else { code };
            assert_eq!(linear_to_ulaw(ulaw_to_linear(code)), expected);
        }
    }

    #[test]
    fn silence_is_as_near_to_zero_as_the_law_allows() {
        assert_eq!(decode_ulaw(&[ULAW_SILENCE]), [0]);
        assert_eq!(decode_alaw(&[ALAW_SILENCE]), [8]);
        assert_eq!(encode_ulaw(&[0, i16::MIN, i16::MAX]), [0xFF, 0x00, 0x80]);
        assert_eq!(encode_alaw(&[0, i16::MIN, i16::MAX]), [0xD5, 0x2A, 0xAA]);
    }
}
