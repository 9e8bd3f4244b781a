//! OpenAI and every server that speaks its API (vLLM, Ollama, LiteLLM, …): set `openai.base_url`.
//!
//! Follows <https://platform.openai.com/docs/api-reference> (chat completions, audio transcriptions, audio speech).

mod client;
mod llm;
mod stt;
mod tts;

pub use client::OpenAi;
pub use llm::OpenAiLlm;
pub use stt::OpenAiStt;
pub use tts::OpenAiTts;
