//! A client socket's messages, dialect `protobuf`.
#![no_main]

mod client;

libfuzzer_sys::fuzz_target!(|input: &[u8]| client::replay(media_core::wire::client::Dialect::Protobuf, input));
