//! Plivo: Plivo XML (<https://docs.plivo.com/docs/voice/xml/audiostream>, "XML request" for the fields, and the pages of
//! `Speak`, `Hangup` and `Redirect`; checked 2026-11-23).

use super::twilio::redirect_verb;
use super::xml::{escape, response};
use super::{Stream, that_fit};

/// Call id, caller, called.
pub const FACTS: [&str; 3] = ["CallUUID", "From", "To"];

/// Longest `extraHeaders`, in bytes.
const MAX_EXTRA_HEADERS_BYTES: usize = 512;

/// `<Stream>`: bidirectional, µ-law, and what stands behind it is done when the stream has ended. Parameters go into `extraHeaders`, which
/// takes letters and digits only; the others stay with the session.
pub fn connect(stream: Stream<'_>) -> String {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let headers: Vec<_> = that_fit(stream.parameters, MAX_EXTRA_HEADERS_BYTES, move |name, value| {
        plain(name) && plain(value)
    })
    .map(|(name, value)| format!("{name}={value}"))
    .collect();
    let headers = match headers.as_slice() {
        [] => String::new(),
        some => format!(r#" extraHeaders="{}""#, some.join(",")),
    };
    response(&format!(
        r#"<Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000"{headers}>{}</Stream>{}"#,
        escape(stream.url),
        redirect_verb(stream.fallback)
    ))
}

/// Says one sentence with Plivo's own voice and hangs up.
pub fn say_and_hang_up(sentence: &str) -> String {
    response(&format!("<Speak>{}</Speak><Hangup/>", escape(sentence)))
}

/// Ends the call.
pub fn hang_up() -> String {
    response("<Hangup/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_document_has_plivos_shape_and_only_headers_that_plivo_takes() {
        let parameters = [("plan", "gold"), ("name", "Zoë"), ("", "x"), ("n", "1")];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let stream = Stream {
            url: "wss://h/telephony/ws/t?a&b",
            parameters: &parameters,
            called: "",
            fallback: "https://h/s",
        };
        assert_eq!(
            connect(stream),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Stream bidirectional=\"true\" keepCallAlive=\"true\" \
             contentType=\"audio/x-mulaw;rate=8000\" extraHeaders=\"plan=gold,n=1\">wss://h/telephony/ws/t?a&amp;b\
             </Stream><Redirect>https://h/s</Redirect></Response>"
        );
    }
}
