//! Twilio: TwiML (<https://www.twilio.com/docs/voice/twiml>, `/connect`, `/stream` and `/redirect` below it, and
//! "Voice webhooks: request parameters"; checked 2026-11-23).

use std::fmt::Write;

use super::xml::{escape, response};
use super::{Stream, that_fit};

/// Call id, caller, called.
pub const FACTS: [&str; 3] = ["CallSid", "From", "To"];

/// Twilio refuses a custom parameter whose name and value together are longer, in characters.
const MAX_PARAMETER_CHARS: usize = 500;

/// `<Connect><Stream>`: a bidirectional stream. Twilio takes no query string in its URL. Parameters come back in the
/// stream's `start` message. When the stream has ended Twilio asks `action` what is next.
pub fn connect(stream: Stream<'_>) -> String {
    let action = if stream.fallback.is_empty() {
        String::new()
    } else {
        format!(r#" action="{}""#, escape(stream.fallback))
    };
    response(&connect_verb(stream, &action, ""))
}

/// The verb, with more attributes; Telnyx reads this form too.
pub(super) fn connect_verb(stream: Stream<'_>, of_connect: &str, of_stream: &str) -> String {
    let mut verbs = format!(
        r#"<Connect{of_connect}><Stream url="{}"{of_stream}>"#,
        escape(stream.url)
    );
    let short = |name: &str, value: &str| name.chars().count() + value.chars().count() <= MAX_PARAMETER_CHARS;
    for (name, value) in that_fit(stream.parameters, usize::MAX, short) {
        // Writing to a String does not fail.
        let _ = write!(
            verbs,
            r#"<Parameter name="{}" value="{}"/>"#,
            escape(name),
            escape(value)
        );
    }
    verbs.push_str("</Stream></Connect>");
    verbs
}

/// Says one sentence with Twilio's own voice and hangs up.
pub fn say_and_hang_up(sentence: &str) -> String {
    response(&format!("<Say>{}</Say><Hangup/>", escape(sentence)))
}

/// Ends the call.
pub fn hang_up() -> String {
    response("<Hangup/>")
}

/// Asks another URL for a document.
pub fn redirect(url: &str) -> String {
    response(&redirect_verb(url))
}

/// The verb; nothing when there is nobody to ask. Telnyx and Plivo read this form too.
pub(super) fn redirect_verb(url: &str) -> String {
    if url.is_empty() {
        return String::new();
    }
    format!("<Redirect>{}</Redirect>", escape(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream<'a>(url: &'a str, parameters: &'a [(String, String)]) -> Stream<'a> {
        Stream {
            url,
            parameters,
            called: "",
            fallback: "",
        }
    }

    #[test]
    fn a_stream_document_has_twilios_shape() {
        let parameters = [("name".to_owned(), "Zoë".to_owned())];
        assert_eq!(
            connect(stream("wss://media.example.com/telephony/ws/abc.def", &parameters)),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Connect>\
             <Stream url=\"wss://media.example.com/telephony/ws/abc.def\">\
             <Parameter name=\"name\" value=\"Zoë\"/></Stream></Connect></Response>"
        );
    }

    #[test]
    fn what_is_next_when_the_stream_has_ended_is_asked() {
        let asking = Stream {
            fallback: "https://h/s?a&b",
            ..stream("wss://h", &[])
        };
        let xml = connect(asking);
        assert!(
            xml.contains(r#"<Connect action="https://h/s?a&amp;b"><Stream url="wss://h">"#),
            "{xml}"
        );
    }

    #[test]
    fn nothing_a_caller_sends_breaks_out_of_its_attribute() {
        let parameters = [("a\"><Dial>".to_owned(), "&'\u{1}\n\u{ffff}x".to_owned())];
        let xml = connect(stream("wss://h/\"", &parameters));
        assert!(xml.contains(r#"url="wss://h/&quot;""#), "{xml}");
        assert!(
            xml.contains(r#"name="a&quot;&gt;&lt;Dial&gt;" value="&amp;&apos;&#10;x"/>"#),
            "{xml}"
        );
    }

    #[test]
    fn a_parameter_too_long_for_twilio_is_left_out() {
        let parameters = [
            ("long".to_owned(), "x".repeat(497)),
            ("fits".to_owned(), "x".repeat(496)),
        ];
        let xml = connect(stream("wss://h", &parameters));
        assert!(!xml.contains("long") && xml.contains("fits"));
    }

    #[test]
    fn an_apology_is_spoken_and_the_call_hung_up() {
        assert_eq!(
            say_and_hang_up("Sorry & goodbye."),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Say>Sorry &amp; goodbye.</Say><Hangup/></Response>"
        );
    }
}
