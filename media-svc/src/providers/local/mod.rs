//! Providers that need no key and no network: Moonshine hears, Pico speaks.

mod llm;
mod stt;
mod tts;

pub use llm::LocalLlm;
pub use stt::LocalStt;
pub use tts::LocalTts;
