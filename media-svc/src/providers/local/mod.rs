//! Providers that need no key and no network: Moonshine hears, Pico speaks.

mod stt;
mod tts;

pub use stt::LocalStt;
pub use tts::LocalTts;
