//! The XML documents that steer a call at Twilio and Plivo.

use crate::Provider;

/// `<Response><Dial>…` that connects the caller with `to`, or `None` where the provider speaks no XML.
///
/// Twilio: [TwiML Voice: `<Dial>`](https://www.twilio.com/docs/voice/twiml/dial), `<Number>` and `<Sip>`. Plivo:
/// [The Dial element](https://www.plivo.com/docs/voice/xml/dial), `<Number>` and `<User>`. Read November 2026.
pub fn dial_document(provider: Provider, to: &str) -> Option<String> {
    let noun = match (provider, to.starts_with("sip")) {
        (Provider::Twilio | Provider::Plivo, false) => "Number",
        (Provider::Twilio, true) => "Sip",
        (Provider::Plivo, true) => "User",
        (Provider::Telnyx | Provider::Exotel | Provider::Vonage, _) => return None,
    };
    let to = escaped(to);
    Some(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Response><Dial><{noun}>{to}</{noun}></Dial></Response>"#
    ))
}

/// `<Response><Connect><Stream url="…"/></Connect></Response>`.
///
/// [TwiML Voice: `<Stream>`](https://www.twilio.com/docs/voice/twiml/stream). Read November 2026.
pub(crate) fn twilio_stream(url: &str) -> String {
    let url = escaped(url);
    format!(r#"<?xml version="1.0" encoding="UTF-8"?><Response><Connect><Stream url="{url}"/></Connect></Response>"#)
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_cannot_be_broken_out_of() {
        let document = twilio_stream(r#"wss://a/b?x="><Hangup/>&y"#);
        assert!(
            document.contains(r#"url="wss://a/b?x=&quot;&gt;&lt;Hangup/&gt;&amp;y""#),
            "{document}"
        );
    }

    #[test]
    fn numbers_and_sip_addresses_are_dialled_by_their_own_nouns() {
        let dialled = |provider, to| dial_document(provider, to).unwrap_or_default();
        assert!(dialled(Provider::Twilio, "+1").contains("<Dial><Number>+1</Number></Dial>"));
        assert!(dialled(Provider::Twilio, "sip:a@b").contains("<Dial><Sip>sip:a@b</Sip></Dial>"));
        assert!(dialled(Provider::Plivo, "sip:a@b").contains("<Dial><User>sip:a@b</User></Dial>"));
        assert_eq!(dial_document(Provider::Vonage, "+1"), None);
    }
}
