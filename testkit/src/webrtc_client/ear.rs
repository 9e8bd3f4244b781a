//! What the client hears of the agent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media_core::audio::goertzel;
use media_core::audio::opus::OpusError;
use media_core::rtp::{AudioCodec, AudioReceiver, Heard, Packet, RECEIVE_RATE_HZ};
use webrtc::track::track_remote::TrackRemote;

use super::{FRAME, KEYS_TYPE};

/// Samples of [`FRAME`].
const FRAME_SAMPLES: usize = RECEIVE_RATE_HZ as usize / 50;
/// Quieter than this is no voice, dB below full scale.
const VOICE_DB: f64 = -30.0;
/// What of the sound is the voice's tone.
const VOICE_SHARE: f64 = 0.8;

/// Everything heard and not looked at yet.
#[derive(Debug, Default)]
pub struct Ear(Mutex<Vec<i16>>);

impl Ear {
    /// Hears a track until it ends.
    ///
    /// # Errors
    /// The codec cannot be decoded.
    pub async fn listen(
        self: Arc<Self>,
        track: Arc<TrackRemote>,
        codec: AudioCodec,
        payload_type: u8,
    ) -> Result<(), OpusError> {
        let mut receiver = AudioReceiver::new(codec, payload_type, vec![KEYS_TYPE])?;
        let started = Instant::now();
        while let Ok((packet, _)) = track.read_rtp().await {
            let packet = Packet {
                payload_type: packet.header.payload_type,
                sequence: packet.header.sequence_number,
                timestamp: packet.header.timestamp,
                payload: packet.payload,
            };
            receiver.push(started.elapsed(), packet);
            while let Some(heard) = receiver.poll(started.elapsed()) {
                if let Heard::Audio(samples) = heard {
                    self.lock().extend(samples);
                }
            }
        }
        Ok(())
    }

    /// How long a tone of this pitch was heard since the last time.
    pub fn tone_heard(&self, pitch_hz: f64) -> Duration {
        let heard = std::mem::take(&mut *self.lock());
        let frames = heard.chunks_exact(FRAME_SAMPLES).filter(|frame| {
            goertzel::level_db(frame) > VOICE_DB && goertzel::share(frame, pitch_hz, RECEIVE_RATE_HZ) > VOICE_SHARE
        });
        FRAME * u32::try_from(frames.count()).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<i16>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
