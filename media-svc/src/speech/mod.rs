//! Local speech: voice activity, recognition and synthesis without a key.
//!
//! - [`models`] gets the recognition weights once and keeps them in a cache folder,
//! - [`vad`] judges every 16 ms of caller audio,
//! - [`engine`] runs recognition and synthesis on a bounded pool of threads that all calls share,
//! - [`utterance`] trims, splits and levels one stretch of caller speech for recognition.

pub mod engine;
pub mod models;
mod moonshine;
mod tts;
pub mod utterance;
pub mod vad;

pub use engine::{Priority, Recognised, SpeechEngine, SpeechError, SpeechStream, Ticket};
pub use models::ModelPaths;
pub use tts::{UnknownVoice, Voice};
