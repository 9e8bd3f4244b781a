//! Vonage's messages.
#![no_main]

mod shared;

libfuzzer_sys::fuzz_target!(|input: &[u8]| shared::replay(media_core::wire::telephony::Provider::Vonage, input));
