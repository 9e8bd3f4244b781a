//! What every client target does with its input: messages divided by the byte FF; binary messages begin with a zero, and
//! in them the byte FE stands for FF. `media-svc/core/tests/wire/client_corpus.rs` reads seeds in the same way.

use media_core::wire::client::{Dialect, Inbound, Session};
use media_core::wire::telephony::Frame;

/// Reads the input as a socket of this dialect would.
pub fn replay(dialect: Dialect, input: &[u8]) {
    let session = Session {
        id: "session".to_owned(),
        version: "0".to_owned(),
        input_rate_hz: 16_000,
        output_rate_hz: 24_000,
    };
    let mut inbound = Inbound::new(dialect, session);
    for message in input.split(|byte| *byte == 0xFF) {
        let _ = match (message.split_first(), std::str::from_utf8(message)) {
            (Some((0, bytes)), _) => {
                let bytes: Vec<u8> = bytes.iter().map(|&byte| if byte == 0xFE { 0xFF } else { byte }).collect();
                inbound.read(Frame::Binary(&bytes))
            }
            (_, Ok(text)) => inbound.read(Frame::Text(text)),
            (_, Err(_)) => inbound.read(Frame::Binary(message)),
        };
    }
}
