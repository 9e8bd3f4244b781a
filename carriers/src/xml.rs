//! The XML documents that steer a call at Twilio and Plivo.

use crate::{Provider, WayBack};

/// `<Response><Dial>…` that connects the caller with `to`, or `None` where the provider speaks no XML. With a way back the
/// provider asks there what to do when nobody takes the caller (`action`), and says there when somebody does (Twilio
/// `statusCallback`, Plivo `callbackUrl`).
///
/// Twilio: [TwiML Voice: `<Dial>`](https://www.twilio.com/docs/voice/twiml/dial), `<Number>` and `<Sip>` below it. Plivo:
/// [The Dial element](https://www.plivo.com/docs/voice/xml/dial), `<Number>` and `<User>`. Checked 2026-11-23.
pub fn dial_document(provider: Provider, to: &str, way_back: Option<&WayBack>) -> Option<String> {
    let noun = match (provider, to.starts_with("sip")) {
        (Provider::Twilio | Provider::Plivo, false) => "Number",
        (Provider::Twilio, true) => "Sip",
        (Provider::Plivo, true) => "User",
        (Provider::Telnyx | Provider::Exotel | Provider::Vonage, _) => return None,
    };
    let to = escaped(to);
    let (mut of_dial, mut of_noun) = (String::new(), String::new());
    if let Some(WayBack { url, ring_secs }) = way_back {
        let url = escaped(url);
        of_dial = format!(r#" timeout="{ring_secs}" action="{url}" method="POST""#);
        match provider {
            Provider::Twilio => {
                of_noun =
                    format!(r#" statusCallback="{url}" statusCallbackEvent="answered" statusCallbackMethod="POST""#);
            }
            Provider::Plivo => of_dial.push_str(&format!(r#" callbackUrl="{url}" callbackMethod="POST""#)),
            Provider::Telnyx | Provider::Exotel | Provider::Vonage => {}
        }
    }
    Some(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Response><Dial{of_dial}><{noun}{of_noun}>{to}</{noun}></Dial></Response>"#
    ))
}

/// `<Response><Connect><Stream url="…"/></Connect></Response>`.
///
/// [TwiML Voice: `<Stream>`](https://www.twilio.com/docs/voice/twiml/stream). Checked 2026-11-23.
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
        let dialled = |provider, to| dial_document(provider, to, None).unwrap_or_default();
        assert!(dialled(Provider::Twilio, "+1").contains("<Dial><Number>+1</Number></Dial>"));
        assert!(dialled(Provider::Twilio, "sip:a@b").contains("<Dial><Sip>sip:a@b</Sip></Dial>"));
        assert!(dialled(Provider::Plivo, "sip:a@b").contains("<Dial><User>sip:a@b</User></Dial>"));
        assert_eq!(dial_document(Provider::Vonage, "+1", None), None);
    }

    #[test]
    fn a_way_back_is_named_in_each_providers_own_attributes() {
        let way_back = WayBack {
            url: "https://h/a?b&c".to_owned(),
            ring_secs: 25,
        };
        let dialled = |provider| dial_document(provider, "+1", Some(&way_back)).unwrap_or_default();
        assert!(
            dialled(Provider::Twilio).contains(
                r#"<Dial timeout="25" action="https://h/a?b&amp;c" method="POST"><Number statusCallback="https://h/a?b&amp;c" statusCallbackEvent="answered" statusCallbackMethod="POST">+1</Number>"#
            )
        );
        assert!(
            dialled(Provider::Plivo).contains(
                r#"<Dial timeout="25" action="https://h/a?b&amp;c" method="POST" callbackUrl="https://h/a?b&amp;c" callbackMethod="POST"><Number>+1</Number>"#
            )
        );
    }
}
