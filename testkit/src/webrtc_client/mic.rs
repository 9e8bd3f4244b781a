//! What the client sends: speech and keys on one track, at the pace of speech.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use media_core::rtp::{AudioCodec, AudioSender, SEND_RATE_HZ};
use webrtc::rtp::packet::Packet;
use webrtc::rtp_transceiver::rtp_codec::{RTCRtpCodecParameters, RTPCodecType};
use webrtc::track::track_local::{TrackLocal, TrackLocalContext, TrackLocalWriter};

use super::{FRAME, KEYS_TYPE};

/// Packets of one key, the last of them with its end.
const KEY_PACKETS: u16 = 8;
/// From this packet of a key on, it is said to be over (RFC 4733, 2.5.1.4: three times).
const KEY_ENDS: u16 = 5;

/// Speaks and presses keys.
pub struct Mic {
    track: Arc<Track>,
    codec: AudioCodec,
    sender: AudioSender,
    started: Instant,
}

impl Mic {
    /// Over a track of this codec.
    pub fn new(codec: AudioCodec, parameters: RTCRtpCodecParameters) -> anyhow::Result<Self> {
        Ok(Self {
            track: Arc::new(Track {
                parameters,
                binding: Mutex::default(),
            }),
            codec,
            sender: AudioSender::new(codec, 1).context("the client cannot speak this codec")?,
            started: Instant::now(),
        })
    }

    /// For the peer connection.
    pub fn track(&self) -> Arc<dyn TrackLocal + Send + Sync> {
        Arc::clone(&self.track) as _
    }

    /// Plays samples at 24 kHz; a key (its event code, RFC 4733) is pressed instead of the first frames.
    pub async fn play(&mut self, samples: &[i16], key: Option<u8>) -> anyhow::Result<()> {
        let frame_ticks = self.codec.clock_hz() / 50;
        let frame_samples = usize::try_from(SEND_RATE_HZ / 50)?;
        let mut tick = tokio::time::interval(FRAME);
        for (number, frame) in (0_u16..).zip(samples.chunks(frame_samples)) {
            tick.tick().await;
            let outgoing = self.sender.packet(self.started.elapsed(), frame)?;
            let mut packet = Packet::default();
            packet.header.version = 2;
            packet.header.sequence_number = outgoing.sequence;
            packet.header.timestamp = outgoing.timestamp;
            packet.header.marker = outgoing.marker;
            packet.header.payload_type = self.track.parameters.payload_type;
            packet.payload = outgoing.payload;
            if let Some(key) = key.filter(|_| number < KEY_PACKETS) {
                let [high, low] = ((number + 1) * u16::try_from(frame_ticks)?).to_be_bytes();
                let end = u8::from(number >= KEY_ENDS) << 7;
                packet.header.timestamp = outgoing.timestamp.wrapping_sub(u32::from(number) * frame_ticks);
                packet.header.payload_type = KEYS_TYPE;
                packet.payload = Bytes::from(vec![key, end | 10, high, low]);
            }
            self.track.send(packet).await;
        }
        Ok(())
    }

    /// Nothing is said for so long.
    pub async fn silence(&mut self, length: Duration) -> anyhow::Result<()> {
        let samples = usize::try_from(u128::from(SEND_RATE_HZ) * length.as_millis() / 1_000)?;
        self.play(&vec![0; samples], None).await
    }
}

type Binding = (u32, Arc<dyn TrackLocalWriter + Send + Sync>);

/// Unlike the library's own track it leaves the payload type alone, for keys go over it as well.
struct Track {
    parameters: RTCRtpCodecParameters,
    binding: Mutex<Option<Binding>>,
}

impl Track {
    async fn send(&self, mut packet: Packet) {
        let bound = self.binding.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some((ssrc, stream)) = bound else { return };
        packet.header.ssrc = ssrc;
        // A connection that is gone takes nothing.
        let _ = stream.write_rtp(&packet).await;
    }

    fn bind_to(&self, binding: Option<Binding>) {
        *self.binding.lock().unwrap_or_else(PoisonError::into_inner) = binding;
    }
}

#[async_trait]
impl TrackLocal for Track {
    async fn bind(&self, context: &TrackLocalContext) -> webrtc::error::Result<RTCRtpCodecParameters> {
        self.bind_to(Some((context.ssrc(), context.write_stream())));
        Ok(self.parameters.clone())
    }
    async fn unbind(&self, _: &TrackLocalContext) -> webrtc::error::Result<()> {
        self.bind_to(None);
        Ok(())
    }
    fn id(&self) -> &str {
        "mic"
    }
    fn rid(&self) -> Option<&str> {
        None
    }
    fn stream_id(&self) -> &str {
        "client"
    }
    fn kind(&self) -> RTPCodecType {
        RTPCodecType::Audio
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
