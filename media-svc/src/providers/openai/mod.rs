//! OpenAI and every server that speaks its API (vLLM, Ollama, LiteLLM, …): set `openai.base_url`.
//!
//! Follows <https://platform.openai.com/docs/api-reference> (chat completions, audio transcriptions, audio speech).

mod answer;
mod client;
mod error;
mod llm;
mod stt;
mod tools;
mod tts;
mod upload;

pub use client::OpenAi;
pub use llm::OpenAiLlm;
pub use stt::OpenAiStt;
pub use tts::OpenAiTts;
