//! Tools for tests across services.

pub mod wer;
