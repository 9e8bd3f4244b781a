//! Audio arithmetic: G.711, resampling, Opus, levels, byte order, tones.

pub mod beep;
pub mod dtmf;
pub mod g711;
pub mod goertzel;
pub mod level;
pub mod opus;
pub mod pcm;
pub mod resample;

/// Sample rate that voice activity detection and speech recognition work at.
pub const RECOGNITION_RATE_HZ: u32 = 16_000;
/// Length of an outgoing audio frame in milliseconds, the packet time of telephony and WebRTC.
pub const FRAME_MS: u32 = 20;
