//! Providers that speak OpenAI's wire format, against a scripted server over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod call;
mod failures;
mod keys;
mod llm;
mod muted;
mod ollama;
mod stt;
mod support;
mod tts;
