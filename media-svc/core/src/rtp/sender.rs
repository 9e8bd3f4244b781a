//! From the agent's audio to RTP packets.

use bytes::Bytes;

use super::AudioCodec;
use crate::Time;
use crate::audio::opus::{OpusEncoder, OpusError};
use crate::audio::resample::Resampler;
use crate::audio::{FRAME_MS, g711};

/// Rate of the audio that goes in.
pub const SEND_RATE_HZ: u32 = 24_000;
/// The agent has paused when it is this far behind the clock: the next packet says how long. Less is a machine that was
/// busy: what comes late is followed at once by what is due, and silence in between would tear words apart.
const PAUSE_MS: u64 = 200;

/// A packet to send; payload type and source are the transport's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Sequence number.
    pub sequence: u16,
    /// RTP time.
    pub timestamp: u32,
    /// First packet after a pause (RFC 3551, section 4.1).
    pub marker: bool,
    /// Encoded.
    pub payload: Bytes,
}

/// Sends one stream.
pub struct AudioSender {
    codec: AudioCodec,
    encoder: Encoder,
    sequence: u16,
    /// RTP time at the beginning of the call.
    origin: u32,
    /// Clock units since then at which the next packet begins.
    position: u64,
    paused: bool,
}

enum Encoder {
    Opus(Box<OpusEncoder>),
    G711 {
        encode: fn(&[i16]) -> Vec<u8>,
        resampler: Box<Resampler>,
        rest: Vec<i16>,
    },
}

impl AudioSender {
    /// Counting from a random place (RFC 3550, section 5.1).
    ///
    /// # Errors
    /// None for the rates used here.
    pub fn new(codec: AudioCodec, random: u64) -> Result<Self, OpusError> {
        let g711 = |encode| {
            Ok(Encoder::G711 {
                encode,
                resampler: Box::new(
                    Resampler::new(SEND_RATE_HZ, codec.clock_hz()).map_err(|_| OpusError::Rate(SEND_RATE_HZ))?,
                ),
                rest: Vec::new(),
            })
        };
        Ok(Self {
            codec,
            encoder: match codec {
                AudioCodec::Opus => Encoder::Opus(Box::new(OpusEncoder::new(SEND_RATE_HZ)?)),
                AudioCodec::Pcmu => g711(g711::encode_ulaw as fn(&[i16]) -> Vec<u8>)?,
                AudioCodec::Pcma => g711(g711::encode_alaw)?,
            },
            sequence: random as u16,
            origin: (random >> 16) as u32,
            position: 0,
            paused: true,
        })
    }

    /// The packet for the agent's next 20 ms; a shorter frame is filled up with silence.
    ///
    /// # Errors
    /// The encoder does not take the frame.
    pub fn packet(&mut self, now: Time, frame: &[i16]) -> Result<Outgoing, OpusError> {
        let mut frame = frame.to_vec();
        frame.resize((SEND_RATE_HZ * FRAME_MS / 1_000) as usize, 0);
        let units = u64::from(self.codec.clock_hz() * FRAME_MS / 1_000);
        let payload = match &mut self.encoder {
            Encoder::Opus(opus) => opus.encode(&frame)?,
            Encoder::G711 {
                encode,
                resampler,
                rest,
            } => {
                rest.extend(resampler.process(&frame));
                // The first frame comes out short by what the filter looks ahead.
                rest.splice(
                    0..0,
                    std::iter::repeat_n(0, (units as usize).saturating_sub(rest.len())),
                );
                let samples: Vec<i16> = rest.drain(..units as usize).collect();
                encode(&samples)
            }
        };
        let clock = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) * u64::from(self.codec.clock_hz()) / 1_000;
        let pause = PAUSE_MS * u64::from(self.codec.clock_hz()) / 1_000;
        if clock > self.position + pause {
            self.position = clock;
            self.paused = true;
        }
        let outgoing = Outgoing {
            sequence: self.sequence,
            timestamp: self.origin.wrapping_add(self.position as u32),
            marker: std::mem::take(&mut self.paused),
            payload: payload.into(),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.position += units;
        Ok(outgoing)
    }

    /// Tells how much of what is sent gets lost, in percent.
    pub fn expect_loss(&mut self, percent: u8) {
        match &mut self.encoder {
            Encoder::Opus(opus) => opus.expect_loss(percent),
            Encoder::G711 { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_follow_each_other_and_a_pause_is_seen_in_the_time_and_the_marker() {
        for (codec, units) in [(AudioCodec::Opus, 960), (AudioCodec::Pcmu, 160)] {
            let mut sender = AudioSender::new(codec, 0xFFFF_FFFF_FFFF).unwrap();
            let times = [0, 0, 20, 40, 1_040, 1_060];
            let packets = times.map(|ms| sender.packet(Time::from_millis(ms), &[0; 480]).unwrap());
            let markers: Vec<bool> = packets.iter().map(|packet| packet.marker).collect();
            assert_eq!(markers, [true, false, false, false, true, false]);
            let steps: Vec<u32> = packets
                .windows(2)
                .map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp))
                .collect();
            let pause = 1_040 * units / 20 - 3 * units;
            assert_eq!(steps, [units, units, units, pause, units]);
            let sequence: Vec<u16> = packets.iter().map(|packet| packet.sequence).collect();
            assert_eq!(sequence, [65_535, 0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_late_packet_is_no_pause() {
        let mut sender = AudioSender::new(AudioCodec::Opus, 1).unwrap();
        let packets = [0, 20, 190, 190, 190].map(|ms| sender.packet(Time::from_millis(ms), &[0; 480]).unwrap());
        for pair in packets.windows(2) {
            assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), 960);
            assert!(!pair[1].marker);
        }
    }

    #[test]
    fn a_g711_packet_is_always_20_ms() {
        let mut sender = AudioSender::new(AudioCodec::Pcma, 1).unwrap();
        for number in 0..20 {
            let packet = sender.packet(Time::from_millis(number * 20), &[100; 480]).unwrap();
            assert_eq!(packet.payload.len(), 160);
        }
    }
}
