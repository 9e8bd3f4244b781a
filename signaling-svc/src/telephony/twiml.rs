//! TwiML documents (<https://www.twilio.com/docs/voice/twiml/stream>).

use std::borrow::Cow;
use std::fmt::Write;

/// Twilio refuses a custom parameter whose name and value together are longer, in characters.
const MAX_PARAMETER_CHARS: usize = 500;

const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response>"#;

/// Connects the call to a bidirectional media stream. Parameters come back in the stream's `start` message; those
/// that are too long for Twilio are left out.
pub fn connect_stream(url: &str, parameters: &[(String, String)]) -> String {
    let mut xml = format!(r#"{HEAD}<Connect><Stream url="{}">"#, escape(url));
    for (name, value) in parameters {
        if name.chars().count() + value.chars().count() > MAX_PARAMETER_CHARS {
            tracing::warn!("a custom parameter is longer than Twilio's limit of 500 characters and is left out");
            continue;
        }
        // Writing to a String does not fail.
        let _ = write!(xml, r#"<Parameter name="{}" value="{}"/>"#, escape(name), escape(value));
    }
    xml.push_str("</Stream></Connect></Response>");
    xml
}

/// Says one sentence with Twilio's own voice and hangs up.
pub fn say_and_hang_up(sentence: &str) -> String {
    format!("{HEAD}<Say>{}</Say><Hangup/></Response>", escape(sentence))
}

/// For text and for attributes in double quotes. Characters that XML 1.0 does not allow at all are dropped.
fn escape(text: &str) -> Cow<'_, str> {
    let plain = |c: char| {
        !matches!(c, '&' | '<' | '>' | '"' | '\'') && !matches!(c, '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
    };
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // Written as they are, these would be read back as spaces in an attribute.
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_document_has_twilios_shape() {
        let parameters = [("name".to_owned(), "Zoë".to_owned())];
        assert_eq!(
            connect_stream("wss://media.example.com/telephony/ws/abc.def", &parameters),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Connect>\
             <Stream url=\"wss://media.example.com/telephony/ws/abc.def\">\
             <Parameter name=\"name\" value=\"Zoë\"/></Stream></Connect></Response>"
        );
    }

    #[test]
    fn nothing_a_caller_sends_breaks_out_of_its_attribute() {
        let parameters = [("a\"><Dial>".to_owned(), "&'\u{1}\n\u{ffff}x".to_owned())];
        let xml = connect_stream("wss://h/\"", &parameters);
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
        let xml = connect_stream("wss://h", &parameters);
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
