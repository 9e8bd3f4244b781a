//! Telnyx: TeXML (<https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/stream> and the pages of
//! `Connect`, `Say`, `Hangup` and `Redirect` beside it; "TeXML call answered" of the API reference for the fields; checked 2026-11-23).
//!
//! A number belongs to a TeXML application: webhooks of a Voice API application are events, which no document answers.

use super::Stream;
use super::twilio;
use super::xml::response;

/// Call id (the call control id), caller, called.
pub const FACTS: [&str; 3] = ["CallSid", "From", "To"];

/// µ-law asked for both ways, so that neither side depends on what the caller's network speaks; where Telnyx cannot
/// transcode it says what it sends in the stream's `media_format`. Without `rtp` it takes MP3 files from us.
const ATTRIBUTES: &str = r#" bidirectionalMode="rtp" codec="PCMU" bidirectionalCodec="PCMU""#;

/// `<Connect><Stream>`: a bidirectional stream. Parameters come back in the stream's `start` message. What stands behind it
/// is done when the stream has ended.
pub fn connect(stream: Stream<'_>) -> String {
    let connect = twilio::connect_verb(stream, "", ATTRIBUTES);
    response(&[connect, twilio::redirect_verb(stream.fallback)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_document_has_telnyxs_shape() {
        let parameters = [("plan".to_owned(), "gold".to_owned())];
        let stream = Stream {
            url: "wss://h/telephony/ws/t",
            parameters: &parameters,
            called: "",
            fallback: "https://h/s",
        };
        assert_eq!(
            connect(stream),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Connect>\
             <Stream url=\"wss://h/telephony/ws/t\" bidirectionalMode=\"rtp\" codec=\"PCMU\" bidirectionalCodec=\"PCMU\">\
             <Parameter name=\"plan\" value=\"gold\"/></Stream></Connect><Redirect>https://h/s</Redirect></Response>"
        );
    }
}
