//! XML documents as Twilio, Telnyx and Plivo read them.

use std::borrow::Cow;

/// Wraps verbs into a document.
pub fn response(verbs: &str) -> String {
    format!(r#"<?xml version="1.0" encoding="UTF-8"?><Response>{verbs}</Response>"#)
}

/// For text and for attributes in double quotes. Characters that XML 1.0 does not allow at all are dropped.
pub fn escape(text: &str) -> Cow<'_, str> {
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
    fn nothing_that_is_sent_breaks_out_of_its_place() {
        assert_eq!(escape("a\"><Dial>"), "a&quot;&gt;&lt;Dial&gt;");
        assert_eq!(escape("&'\u{1}\n\u{ffff}x"), "&amp;&apos;&#10;x");
        assert!(matches!(escape("Zoë"), Cow::Borrowed("Zoë")));
    }
}
