//! Opus for calls (RFC 6716): 20 ms of mono speech a packet, with in-band forward error correction.
//!
//! RTP counts Opus at 48 kHz whatever is inside (RFC 7587). The decoder hands out the rate that is asked of it, which
//! costs less than decoding to 48 kHz and converting down.

use ropus::{Application, Bitrate, Channels, DecodeMode, Decoder, Encoder, InbandFec, Signal};

/// The clock of Opus in RTP.
pub const CLOCK_HZ: u32 = 48_000;
/// Longest duration of one packet, in milliseconds (RFC 6716, section 3.1): 48 steps of 2.5 ms.
const LONGEST_MS: u32 = 120;
/// Bits a second: speech at 24 kHz sounds as it was made, with room for the copy of the last frame.
const BITS_PER_SEC: u32 = 32_000;
/// Largest packet of one mono frame (RFC 6716, section 3.2.1).
const PACKET_BYTES: usize = 1_275;
/// Loss that is always expected, in percent: below that the encoder adds no copies, and the first loss is heard.
const LEAST_EXPECTED_LOSS: u8 = 5;
/// Loss beyond which copies take more than they give.
const MOST_EXPECTED_LOSS: u8 = 30;

/// What the codec refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpusError {
    /// Opus knows 8, 12, 16, 24 and 48 kHz.
    #[error("Opus does not work at {0} Hz")]
    Rate(u32),
    /// A packet that is not Opus.
    #[error("not an Opus packet: {0}")]
    Packet(String),
    /// A frame of a length that Opus does not know.
    #[error("a frame that Opus does not take: {0}")]
    Frame(String),
}

/// Duration of a packet in RTP clock units, read from its first bytes (RFC 6716, section 3.1); `None` when it is not
/// Opus.
pub fn duration(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let config = toc >> 3;
    // Samples at 48 kHz of one frame, by mode: SILK 10 to 60 ms, hybrid 10 or 20 ms, CELT 2.5 to 20 ms.
    let frame = match config {
        0..=11 => match config & 3 {
            3 => 2_880,
            short => 480 << short,
        },
        12..=15 => 480 << (config & 1),
        _ => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3F),
    };
    let total = frame * frames;
    (total > 0 && total <= LONGEST_MS * CLOCK_HZ / 1_000).then_some(total)
}

/// Decodes one stream.
pub struct OpusDecoder {
    decoder: Decoder,
    rate_hz: u32,
}

impl OpusDecoder {
    /// To mono samples at this rate.
    ///
    /// # Errors
    /// [`OpusError::Rate`].
    pub fn new(rate_hz: u32) -> Result<Self, OpusError> {
        let decoder = Decoder::new(rate_hz, Channels::Mono).map_err(|_| OpusError::Rate(rate_hz))?;
        Ok(Self { decoder, rate_hz })
    }

    /// The samples of a packet.
    ///
    /// # Errors
    /// [`OpusError::Packet`]; the stream goes on with the next packet.
    pub fn decode(&mut self, packet: &[u8]) -> Result<Vec<i16>, OpusError> {
        if packet.is_empty() {
            return Err(OpusError::Packet("it is empty".to_owned()));
        }
        self.run(packet, self.samples(LONGEST_MS * CLOCK_HZ / 1_000), DecodeMode::Normal)
    }

    /// What was in the lost packet before `next`, of `duration` clock units: the copy in `next` where it has one, else
    /// a guess from what was heard before.
    pub fn recover(&mut self, next: &[u8], duration: u32) -> Vec<i16> {
        let wanted = self.samples(duration);
        match self.run(next, wanted, DecodeMode::Fec) {
            Ok(samples) if !next.is_empty() => samples,
            Ok(_) | Err(_) => self.conceal(duration),
        }
    }

    /// A guess of `duration` clock units from what was heard before, fading to silence as losses go on.
    pub fn conceal(&mut self, duration: u32) -> Vec<i16> {
        let wanted = self.samples(duration);
        self.run(&[], wanted, DecodeMode::Normal)
            .unwrap_or_else(|_| vec![0; wanted])
    }

    fn run(&mut self, packet: &[u8], room: usize, mode: DecodeMode) -> Result<Vec<i16>, OpusError> {
        let mut samples = vec![0; room];
        let length = self
            .decoder
            .decode(packet, &mut samples, mode)
            .map_err(|error| OpusError::Packet(error.to_string()))?;
        samples.truncate(length);
        Ok(samples)
    }

    /// Samples for a duration in clock units: whole steps of 2.5 ms, as Opus wants it, and at least one.
    fn samples(&self, duration: u32) -> usize {
        let step = CLOCK_HZ / 400;
        let steps = (duration / step).clamp(1, LONGEST_MS * 2 / 5);
        (steps * (self.rate_hz / 400)) as usize
    }
}

/// Encodes one stream.
pub struct OpusEncoder {
    encoder: Encoder,
    packet: Vec<u8>,
}

impl OpusEncoder {
    /// Of mono speech at this rate.
    ///
    /// # Errors
    /// [`OpusError::Rate`].
    pub fn new(rate_hz: u32) -> Result<Self, OpusError> {
        // Not `Voip`: its high-pass filter follows the pitch and is meant for rooms. Synthetic speech has no rumble, and
        // comes out at 11 dB of signal to noise without the filter where it has 4 dB with it.
        let encoder = Encoder::builder(rate_hz, Channels::Mono, Application::Audio)
            .bitrate(Bitrate::Bits(BITS_PER_SEC))
            .signal(Signal::Voice)
            .inband_fec(InbandFec::Enabled)
            .packet_loss_perc(LEAST_EXPECTED_LOSS)
            .build()
            .map_err(|_| OpusError::Rate(rate_hz))?;
        Ok(Self {
            encoder,
            packet: vec![0; PACKET_BYTES],
        })
    }

    /// One frame as a packet.
    ///
    /// # Errors
    /// [`OpusError::Frame`] unless the frame is 2.5, 5, 10, 20, 40 or 60 ms long.
    pub fn encode(&mut self, frame: &[i16]) -> Result<Vec<u8>, OpusError> {
        let length = self
            .encoder
            .encode(frame, &mut self.packet)
            .map_err(|error| OpusError::Frame(error.to_string()))?;
        Ok(self.packet.get(..length).unwrap_or_default().to_vec())
    }

    /// Tells how much of what is sent gets lost, in percent: the more, the better the copies.
    pub fn expect_loss(&mut self, percent: u8) {
        let percent = percent.clamp(LEAST_EXPECTED_LOSS, MOST_EXPECTED_LOSS);
        // Any percentage is in range.
        let _ = self.encoder.set_packet_loss_perc(percent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A voice-like sound: a fundamental with overtones, swelling slowly.
    fn speech(rate_hz: u32, frames: usize) -> Vec<i16> {
        (0..frames * rate_hz as usize / 50)
            .map(|n| {
                let t = n as f64 / f64::from(rate_hz) * std::f64::consts::TAU;
                let tone = (t * 160.0).sin() + 0.6 * (t * 320.0).sin() + 0.3 * (t * 640.0).sin();
                (tone * 5_000.0 * (0.6 + 0.4 * (t * 3.0).sin())) as i16
            })
            .collect()
    }

    fn loudness(samples: &[i16]) -> f64 {
        let energy: f64 = samples.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        (energy / samples.len().max(1) as f64).sqrt()
    }

    fn packets(frames: usize, loss: u8) -> Vec<Vec<u8>> {
        let mut encoder = OpusEncoder::new(24_000).unwrap();
        encoder.expect_loss(loss);
        speech(24_000, frames)
            .chunks(480)
            .map(|frame| encoder.encode(frame).unwrap())
            .collect()
    }

    #[test]
    fn speech_comes_out_as_loud_and_as_long_as_it_went_in() {
        let mut decoder = OpusDecoder::new(16_000).unwrap();
        let decoded: Vec<i16> = packets(50, 5)
            .iter()
            .flat_map(|packet| decoder.decode(packet).unwrap())
            .collect();
        assert_eq!(decoded.len(), 16_000);
        let (before, after) = (loudness(&speech(16_000, 50)), loudness(&decoded));
        assert!((after / before - 1.0).abs() < 0.2, "{before} became {after}");
    }

    #[test]
    fn a_packet_tells_its_duration() {
        let all = packets(5, 5);
        assert!(all.iter().all(|packet| duration(packet) == Some(960)));
        assert_eq!(duration(&[]), None);
        // SILK 60 ms, two frames; CELT 2.5 ms; any number of frames, none; 49 frames of 2.5 ms are too long.
        assert_eq!(duration(&[3 << 3 | 1, 0]), Some(5_760));
        assert_eq!(duration(&[16 << 3]), Some(120));
        assert_eq!(duration(&[16 << 3 | 3, 0]), None);
        assert_eq!(duration(&[16 << 3 | 3, 49]), None);
    }

    #[test]
    fn a_lost_packet_is_taken_from_the_copy_in_the_next_one() {
        let all = packets(60, 30);
        let (mut decoder, mut reference) = (OpusDecoder::new(16_000).unwrap(), OpusDecoder::new(16_000).unwrap());
        let mut concealer = OpusDecoder::new(16_000).unwrap();
        let mut error = [0.0, 0.0];
        for (n, packet) in all.iter().enumerate().skip(1) {
            let truth = reference.decode(&all[n - 1]).unwrap();
            let (copied, guessed) = if n % 5 == 0 {
                (decoder.recover(packet, 960), concealer.conceal(960))
            } else {
                (
                    decoder.decode(&all[n - 1]).unwrap(),
                    concealer.decode(&all[n - 1]).unwrap(),
                )
            };
            assert_eq!(copied.len(), 320);
            if n % 5 == 0 && n > 10 {
                for (sum, samples) in error.iter_mut().zip([&copied, &guessed]) {
                    let difference: Vec<i16> = samples.iter().zip(&truth).map(|(a, b)| a.saturating_sub(*b)).collect();
                    *sum += loudness(&difference);
                }
            }
        }
        assert!(error[0] < error[1], "copy {} against guess {}", error[0], error[1]);
    }

    #[test]
    fn a_loss_that_goes_on_fades_to_silence() {
        let mut decoder = OpusDecoder::new(16_000).unwrap();
        for packet in packets(20, 5) {
            decoder.decode(&packet).unwrap();
        }
        let first = loudness(&decoder.conceal(960));
        let last = (0..25).map(|_| loudness(&decoder.conceal(960))).last().unwrap();
        assert!(first > 500.0 && last < first / 10.0, "{first} then {last}");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_decoder(packets: Vec<Vec<u8>>, lengths: Vec<u16>) {
            let mut decoder = OpusDecoder::new(16_000).unwrap();
            for (packet, length) in packets.iter().zip(lengths) {
                let known = duration(packet);
                if let Ok(samples) = decoder.decode(packet) {
                    prop_assert_eq!(Some(samples.len() as u32 * 3), known);
                }
                prop_assert!(!decoder.recover(packet, u32::from(length)).is_empty());
                prop_assert!(!decoder.conceal(u32::from(length)).is_empty());
            }
        }
    }
}
