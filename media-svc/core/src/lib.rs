//! The media plane without I/O, clock or runtime: the conversation, audio arithmetic and wire formats.
//!
//! Time is an argument everywhere: a [`Time`] is the duration since the call began, so a call can be driven by tests
//! in virtual time and replayed from its inputs.

pub mod audio;
pub mod conversation;
pub mod dialogue;
pub mod mute;
pub mod recorder;
pub mod redact;
pub mod rtp;
pub mod text;
pub mod wire;

/// Time since the call began.
pub type Time = std::time::Duration;
