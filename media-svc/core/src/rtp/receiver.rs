//! From a client's RTP packets to audio and keys.

use bytes::Bytes;

use super::jitter::{Frame, JitterBuffer, JitterReport, Playout};
use super::{AudioCodec, KeyReader};
use crate::Time;
use crate::audio::opus::{OpusDecoder, OpusError};
use crate::audio::resample::Resampler;
use crate::audio::{RECOGNITION_RATE_HZ, g711};

/// Rate of the audio that comes out: what recognition wants, so that nothing has to be converted for it. Opus decodes
/// to it directly.
pub const RECEIVE_RATE_HZ: u32 = RECOGNITION_RATE_HZ;
/// Loudness of the last frame that is left after one concealed one: G.711 has no concealment of its own.
const FADE_PERCENT: i32 = 60;

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Payload type, as negotiated.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// RTP time.
    pub timestamp: u32,
    /// Payload without padding.
    pub payload: Bytes,
}

/// What a client let us hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Audio at [`RECEIVE_RATE_HZ`].
    Audio(Vec<i16>),
    /// A telephone key.
    Key(char),
}

/// Receives one stream: order, loss, decoding, keys.
pub struct AudioReceiver {
    codec: AudioCodec,
    audio_type: u8,
    key_types: Vec<u8>,
    buffer: JitterBuffer,
    keys: KeyReader,
    decoder: Decoder,
    pressed: Option<char>,
    bad_packets: u64,
}

enum Decoder {
    Opus(Box<OpusDecoder>),
    G711 {
        decode: fn(&[u8]) -> Vec<i16>,
        resampler: Box<Resampler>,
        last: Vec<i16>,
    },
}

impl AudioReceiver {
    /// For audio of this payload type and keys of those.
    ///
    /// # Errors
    /// None for the rates used here.
    pub fn new(codec: AudioCodec, audio_type: u8, key_types: Vec<u8>) -> Result<Self, OpusError> {
        let g711 = |decode| {
            Ok(Decoder::G711 {
                decode,
                resampler: Box::new(
                    Resampler::new(codec.clock_hz(), RECEIVE_RATE_HZ).map_err(|_| OpusError::Rate(RECEIVE_RATE_HZ))?,
                ),
                last: Vec::new(),
            })
        };
        let decoder = match codec {
            AudioCodec::Opus => Decoder::Opus(Box::new(OpusDecoder::new(RECEIVE_RATE_HZ)?)),
            AudioCodec::Pcmu => g711(g711::decode_ulaw as fn(&[u8]) -> Vec<i16>)?,
            AudioCodec::Pcma => g711(g711::decode_alaw)?,
        };
        Ok(Self {
            codec,
            audio_type,
            key_types,
            buffer: JitterBuffer::new(codec.clock_hz()),
            keys: KeyReader::default(),
            decoder,
            pressed: None,
            bad_packets: 0,
        })
    }

    /// Takes a packet; [`poll`](Self::poll) until there is nothing more.
    pub fn push(&mut self, now: Time, packet: Packet) {
        let is_audio = packet.payload_type == self.audio_type;
        let duration = if is_audio {
            self.codec.duration(&packet.payload)
        } else {
            // Keys and comfort noise count in the sequence.
            Some(0)
        };
        let Some(duration) = duration else {
            self.bad_packets += 1;
            return;
        };
        if self.key_types.contains(&packet.payload_type) {
            // Keys do not wait for audio that is missing.
            self.pressed = self.pressed.or(self.keys.read(packet.timestamp, &packet.payload));
        }
        let payload = if is_audio { packet.payload } else { Bytes::new() };
        self.buffer.push(
            now,
            Frame {
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                duration,
                payload,
            },
        );
    }

    /// What is to be heard now.
    pub fn poll(&mut self, now: Time) -> Option<Heard> {
        if let Some(key) = self.pressed.take() {
            return Some(Heard::Key(key));
        }
        let playout = self.buffer.pop(now)?;
        Some(Heard::Audio(self.decode(playout)))
    }

    /// When [`poll`](Self::poll) has something although nothing more comes.
    pub fn poll_deadline(&self) -> Option<Time> {
        self.buffer.poll_deadline()
    }

    /// What the stream has been like.
    pub fn report(&self) -> JitterReport {
        self.buffer.report()
    }

    /// Packets that were none of the negotiated codec.
    pub fn bad_packets(&self) -> u64 {
        self.bad_packets
    }

    fn decode(&mut self, playout: Playout) -> Vec<i16> {
        let samples = |duration: u32| {
            let rate = u64::from(RECEIVE_RATE_HZ) * u64::from(duration) / u64::from(self.codec.clock_hz());
            usize::try_from(rate).unwrap_or_default()
        };
        match (&mut self.decoder, playout) {
            (_, Playout::Silence { duration }) => vec![0; samples(duration)],
            (Decoder::Opus(opus), Playout::Frame(frame)) => opus.decode(&frame.payload).unwrap_or_else(|_| {
                self.bad_packets += 1;
                opus.conceal(frame.duration)
            }),
            (Decoder::Opus(opus), Playout::Lost { duration, next }) => match next {
                Some(next) => opus.recover(&next, duration),
                None => opus.conceal(duration),
            },
            (
                Decoder::G711 {
                    decode,
                    resampler,
                    last,
                },
                Playout::Frame(frame),
            ) => {
                *last = decode(&frame.payload);
                resampler.process(last)
            }
            (Decoder::G711 { resampler, last, .. }, Playout::Lost { duration, .. }) => {
                let faded = last
                    .iter()
                    .map(|&sample| (i32::from(sample) * FADE_PERCENT / 100) as i16);
                *last = faded.collect();
                let repeated = last.iter().copied().chain(std::iter::repeat(0));
                let repeated: Vec<i16> = repeated.take(duration as usize).collect();
                resampler.process(&repeated)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::level;
    use crate::rtp::sender::{AudioSender, SEND_RATE_HZ};
    use proptest::prelude::*;

    const AUDIO: u8 = 111;
    const KEYS: u8 = 110;

    fn tone(frame: u32) -> Vec<i16> {
        (0..480)
            .map(|n| ((f64::from(frame * 480 + n) / 24_000.0 * 440.0 * std::f64::consts::TAU).sin() * 9_000.0) as i16)
            .collect()
    }

    /// A second of a tone through the network, without the packets named.
    fn through(codec: AudioCodec, lost: &[u32]) -> Vec<i16> {
        let mut sender = AudioSender::new(codec, 7).unwrap();
        let mut receiver = AudioReceiver::new(codec, AUDIO, vec![KEYS]).unwrap();
        let mut heard = Vec::new();
        assert_eq!(SEND_RATE_HZ, 24_000);
        for number in 0..50 {
            let now = Time::from_millis(u64::from(number) * 20);
            let packet = sender.packet(now, &tone(number)).unwrap();
            if !lost.contains(&number) {
                let payload_type = AUDIO;
                let (sequence, timestamp, payload) = (packet.sequence, packet.timestamp, packet.payload);
                receiver.push(
                    now,
                    Packet {
                        payload_type,
                        sequence,
                        timestamp,
                        payload,
                    },
                );
            }
            while let Some(Heard::Audio(samples)) = receiver.poll(now + Time::from_millis(20)) {
                heard.extend(samples);
            }
        }
        assert_eq!(receiver.report().lost, lost.len() as u64);
        heard
    }

    #[test]
    fn every_codec_carries_a_second_of_sound_as_a_second() {
        for codec in [AudioCodec::Opus, AudioCodec::Pcmu, AudioCodec::Pcma] {
            let heard = through(codec, &[]);
            assert!(heard.len().abs_diff(16_000) < 320, "{codec:?}: {}", heard.len());
            let loudness = level::rms(&heard[4_000..]);
            assert!(
                (loudness - 9_000.0 / 32_768.0 * 0.707).abs() < 0.03,
                "{codec:?}: {loudness}"
            );
        }
    }

    #[test]
    fn a_call_with_losses_is_as_long_as_one_without() {
        for codec in [AudioCodec::Opus, AudioCodec::Pcmu, AudioCodec::Pcma] {
            let heard = through(codec, &[10, 20, 21, 30]);
            assert!(heard.len().abs_diff(16_000) < 320, "{codec:?}: {}", heard.len());
        }
    }

    #[test]
    fn keys_are_heard_and_are_no_loss() {
        let mut receiver = AudioReceiver::new(AudioCodec::Pcmu, 0, vec![KEYS]).unwrap();
        let mut keys = Vec::new();
        for sequence in 0..20_u16 {
            let pressed = (5..10).contains(&sequence);
            let packet = Packet {
                payload_type: if pressed { KEYS } else { 0 },
                sequence,
                timestamp: if pressed { 5 * 160 } else { u32::from(sequence) * 160 },
                payload: if pressed {
                    vec![9, 10, 1, 0].into()
                } else {
                    vec![0xFF; 160].into()
                },
            };
            let now = Time::from_millis(u64::from(sequence) * 20);
            receiver.push(now, packet);
            while let Some(heard) = receiver.poll(now) {
                if let Heard::Key(key) = heard {
                    keys.push(key);
                }
            }
        }
        assert_eq!((keys, receiver.report().lost), (vec!['9'], 0));
    }

    proptest! {
        #[test]
        fn no_packets_upset_it(packets: Vec<(u8, u16, u32, Vec<u8>)>) {
            for codec in [AudioCodec::Opus, AudioCodec::Pcma] {
                let mut receiver = AudioReceiver::new(codec, 0, vec![1]).unwrap();
                for (number, (payload_type, sequence, timestamp, payload)) in packets.iter().enumerate() {
                    let now = Time::from_millis(number as u64 * 20);
                    let payload = payload.clone().into();
                    let (sequence, timestamp) = (*sequence, *timestamp);
                    receiver.push(now, Packet { payload_type: payload_type % 3, sequence, timestamp, payload });
                    for _ in 0..300 {
                        if receiver.poll(now).is_none() {
                            break;
                        }
                    }
                }
            }
        }
    }
}
