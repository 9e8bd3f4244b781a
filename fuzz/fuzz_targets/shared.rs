//! What every target does with its input: messages divided by the byte FF, which no UTF-8 text has; binary messages begin
//! with a zero. `media-svc/core/tests/wire/corpus.rs` reads seeds in the same way.

use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Channels, Frame, Inbound, MediaFormat, Outbound, Provider, Start};

/// Reads the input as both sides of a stream of this provider would.
pub fn replay(provider: Provider, input: &[u8]) {
    let start = Start {
        provider,
        stream_id: "stream".to_owned(),
        call_id: "call".to_owned(),
        account_id: None,
        parameters: [].into(),
        format: MediaFormat::ULAW_8K,
        channels: Channels::Caller,
    };
    let mut stream = Inbound::new(Some(provider));
    let mut outbound = Outbound::new(&start);
    let mut far_end = FarEnd::new(start);
    let mut sent = Vec::new();
    for message in input.split(|byte| *byte == 0xFF) {
        let frame = match message.split_first() {
            Some((0, bytes)) => Frame::Binary(bytes),
            Some(_) | None => match std::str::from_utf8(message) {
                Ok(text) => Frame::Text(text),
                Err(_) => Frame::Binary(message),
            },
        };
        if let Ok(read) = stream.read(frame)
            && let Some(answer) = read.answer
        {
            outbound.answer(answer, &mut sent);
        }
        let _ = far_end.read(frame);
    }
}
