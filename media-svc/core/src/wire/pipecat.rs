//! Frames of pipecat's WebSocket clients (`/ws?format=protobuf`): protobuf bytes to and from typed frames.
//!
//! The message types are those of pipecat's `frames.proto`. Clients send audio and messages; of what is sent to them
//! they use the same two and reject nothing else.

use prost::Message as _;
use voxray_proto::pipecat::{
    AudioRawFrame, Frame, InterruptionFrame, MessageFrame, TextFrame, TranscriptionFrame, frame,
};

use crate::audio::pcm::{self, OddLength};

/// Longest frame that is read, in bytes: more than five seconds of 48 kHz stereo.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// What a client sends, or what it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PipecatFrame {
    /// Mono audio; stereo is mixed down on arrival.
    Audio {
        /// Samples.
        samples: Vec<i16>,
        /// Their rate.
        sample_rate_hz: u32,
    },
    /// A JSON message, RTVI for all known clients.
    Message(String),
    /// Plain text.
    Text(String),
    /// Recognised speech.
    Transcription {
        /// What was said.
        text: String,
        /// By whom.
        user_id: String,
        /// When, ISO 8601.
        timestamp: String,
    },
    /// Speech was cut off.
    Interruption,
    /// A frame of a kind this version does not know.
    Unknown,
}

/// Bytes that are not a usable frame.
#[derive(Debug, thiserror::Error)]
pub enum PipecatError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("a frame of {bytes} bytes is larger than the {MAX_FRAME_BYTES} allowed: send audio in shorter pieces")]
    Oversized {
        /// Its length.
        bytes: usize,
    },
    /// Not protobuf.
    #[error("not a pipecat frame: {0}")]
    NotProtobuf(#[source] prost::DecodeError),
    /// Audio must be mono or stereo.
    #[error("audio with {channels} channels: send one or two")]
    Channels {
        /// How many there were.
        channels: u32,
    },
    /// Audio without a rate cannot be played.
    #[error("audio without a sample rate: set sample_rate")]
    NoSampleRate,
    /// The audio does not end with a whole sample of every channel.
    #[error("audio is not s16le: {0}")]
    Samples(#[source] OddLength),
}

/// Reads one binary message.
///
/// # Errors
/// [`PipecatError`]
pub fn read(bytes: &[u8]) -> Result<PipecatFrame, PipecatError> {
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(PipecatError::Oversized { bytes: bytes.len() });
    }
    let frame = Frame::decode(bytes).map_err(PipecatError::NotProtobuf)?;
    Ok(match frame.frame {
        Some(frame::Frame::Audio(audio)) => read_audio(&audio)?,
        Some(frame::Frame::Message(message)) => PipecatFrame::Message(message.data),
        Some(frame::Frame::Text(text)) => PipecatFrame::Text(text.text),
        Some(frame::Frame::Transcription(TranscriptionFrame {
            text,
            user_id,
            timestamp,
            ..
        })) => PipecatFrame::Transcription {
            text,
            user_id,
            timestamp,
        },
        Some(frame::Frame::Interruption(_)) => PipecatFrame::Interruption,
        None => PipecatFrame::Unknown,
    })
}

/// A frame of mono audio.
pub fn audio_frame(samples: &[i16], sample_rate_hz: u32) -> Vec<u8> {
    encode(frame::Frame::Audio(AudioRawFrame {
        id: 0,
        name: "audio".to_owned(),
        audio: pcm::to_s16le(samples).into(),
        sample_rate: sample_rate_hz,
        num_channels: 1,
        pts: None,
    }))
}

/// A frame that carries a JSON message.
pub fn message_frame(json: impl Into<String>) -> Vec<u8> {
    encode(frame::Frame::Message(MessageFrame { data: json.into() }))
}

/// A frame of plain text.
pub fn text_frame(text: impl Into<String>) -> Vec<u8> {
    encode(frame::Frame::Text(TextFrame {
        id: 0,
        name: "text".to_owned(),
        text: text.into(),
    }))
}

/// A frame of recognised speech; `timestamp` is ISO 8601.
pub fn transcription_frame(
    text: impl Into<String>,
    user_id: impl Into<String>,
    timestamp: impl Into<String>,
) -> Vec<u8> {
    encode(frame::Frame::Transcription(TranscriptionFrame {
        id: 0,
        name: "transcription".to_owned(),
        text: text.into(),
        user_id: user_id.into(),
        timestamp: timestamp.into(),
    }))
}

/// A frame that says that speech was cut off.
pub fn interruption_frame() -> Vec<u8> {
    encode(frame::Frame::Interruption(InterruptionFrame {
        id: 0,
        name: "interruption".to_owned(),
    }))
}

fn read_audio(audio: &AudioRawFrame) -> Result<PipecatFrame, PipecatError> {
    if audio.sample_rate == 0 {
        return Err(PipecatError::NoSampleRate);
    }
    let samples = pcm::from_s16le(&audio.audio).map_err(PipecatError::Samples)?;
    let samples = match audio.num_channels {
        1 => samples,
        2 if samples.len() % 2 == 0 => pcm::stereo_to_mono(&samples),
        2 => {
            return Err(PipecatError::Samples(OddLength {
                bytes: audio.audio.len(),
            }));
        }
        channels => return Err(PipecatError::Channels { channels }),
    };
    Ok(PipecatFrame::Audio {
        samples,
        sample_rate_hz: audio.sample_rate,
    })
}

fn encode(frame: frame::Frame) -> Vec<u8> {
    Frame { frame: Some(frame) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn audio(bytes: Vec<u8>, sample_rate: u32, num_channels: u32) -> Vec<u8> {
        let frame = AudioRawFrame {
            audio: bytes.into(),
            sample_rate,
            num_channels,
            ..AudioRawFrame::default()
        };
        encode(frame::Frame::Audio(frame))
    }

    #[test]
    fn the_bytes_are_those_of_the_published_field_numbers() {
        // Frame{4: MessageFrame{1: "{}"}} and Frame{2: AudioRawFrame{2: "audio", 3: 01 00, 4: 24000, 5: 1}}.
        assert_eq!(message_frame("{}"), [0x22, 4, 0x0A, 2, b'{', b'}']);
        assert_eq!(
            audio_frame(&[1], 24_000),
            [
                0x12, 17, 0x12, 5, b'a', b'u', b'd', b'i', b'o', 0x1A, 2, 1, 0, 0x20, 0xC0, 0xBB, 1, 0x28, 1
            ]
        );
    }

    #[test]
    fn mono_is_kept_and_stereo_is_mixed() {
        let mono = PipecatFrame::Audio {
            samples: vec![1, 2],
            sample_rate_hz: 16_000,
        };
        assert_eq!(read(&audio(vec![1, 0, 2, 0], 16_000, 1)).unwrap(), mono);
        let mixed = PipecatFrame::Audio {
            samples: vec![2],
            sample_rate_hz: 44_100,
        };
        assert_eq!(read(&audio(vec![1, 0, 3, 0], 44_100, 2)).unwrap(), mixed);
    }

    #[test]
    fn unusable_audio_has_its_errors() {
        assert!(matches!(
            read(&audio(vec![1], 16_000, 1)),
            Err(PipecatError::Samples(_))
        ));
        assert!(matches!(
            read(&audio(vec![1, 0], 16_000, 2)),
            Err(PipecatError::Samples(_))
        ));
        assert!(matches!(
            read(&audio(vec![1, 0], 0, 1)),
            Err(PipecatError::NoSampleRate)
        ));
        assert!(matches!(
            read(&audio(vec![1, 0], 16_000, 3)),
            Err(PipecatError::Channels { channels: 3 })
        ));
        assert!(matches!(
            read(&audio(vec![1, 0], 16_000, 0)),
            Err(PipecatError::Channels { channels: 0 })
        ));
    }

    #[test]
    fn junk_and_too_much_are_refused() {
        assert!(matches!(read(b"\xFFhello"), Err(PipecatError::NotProtobuf(_))));
        assert!(matches!(
            read(&vec![0; MAX_FRAME_BYTES + 1]),
            Err(PipecatError::Oversized { .. })
        ));
    }

    #[test]
    fn a_frame_from_the_future_is_unknown() {
        assert_eq!(read(&[]).unwrap(), PipecatFrame::Unknown);
        assert_eq!(read(&[0x4A, 1, 7]).unwrap(), PipecatFrame::Unknown);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn frames_survive_the_way_through_bytes(
            samples: Vec<i16>, sample_rate_hz in 1..200_000_u32, a: String, b: String, c: String,
        ) {
            let through = |bytes: Vec<u8>| read(&bytes).unwrap();
            prop_assert_eq!(through(message_frame(a.clone())), PipecatFrame::Message(a.clone()));
            prop_assert_eq!(through(text_frame(a.clone())), PipecatFrame::Text(a.clone()));
            prop_assert_eq!(through(interruption_frame()), PipecatFrame::Interruption);
            prop_assert_eq!(through(audio_frame(&samples, sample_rate_hz)), PipecatFrame::Audio { samples, sample_rate_hz });
            let frame = transcription_frame(a.clone(), b.clone(), c.clone());
            prop_assert_eq!(through(frame), PipecatFrame::Transcription { text: a, user_id: b, timestamp: c });
        }
    }
}
