//! Audio over RTP (RFC 3550) without sockets: order, loss, codecs, telephone keys. Time is an argument.

mod jitter;
mod keys;
mod receiver;
mod sender;

pub use jitter::{Arrival, Frame, JitterBuffer, JitterReport, LONGEST_WAIT, Playout, SHORTEST_WAIT};
pub use keys::KeyReader;
pub use receiver::{AudioReceiver, Heard, Packet, RECEIVE_RATE_HZ};
pub use sender::{AudioSender, Outgoing, SEND_RATE_HZ};

use crate::audio::opus;

/// What audio is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// Opus (RFC 7587).
    Opus,
    /// G.711 µ-law (RFC 3551, section 4.5.14).
    Pcmu,
    /// G.711 A-law.
    Pcma,
}

impl AudioCodec {
    /// Ticks of its RTP clock in a second.
    pub fn clock_hz(self) -> u32 {
        match self {
            Self::Opus => opus::CLOCK_HZ,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }

    /// Duration of a payload in clock units; `None` when it is no payload of this codec.
    pub fn duration(self, payload: &[u8]) -> Option<u32> {
        match self {
            Self::Opus => opus::duration(payload),
            Self::Pcmu | Self::Pcma => u32::try_from(payload.len()).ok().filter(|&length| length > 0),
        }
    }
}
