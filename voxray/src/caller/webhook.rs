//! The provider's webhook, as Twilio sends it: form fields in, TwiML out.
//!
//! <https://www.twilio.com/docs/voice/twiml/stream>, <https://www.twilio.com/docs/usage/webhooks/webhooks-security>

use std::sync::LazyLock;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};

use super::CallError;

/// Made once: reading the system's certificates takes long enough to be heard in the calls that are already running.
/// It keeps no connections, which would end with the runtime they were opened on.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    // The command has done this at its start; a program that only places calls has not.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap_or_default()
});

/// Where the webhook's answer sends the media stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTarget {
    /// WebSocket URL.
    pub url: String,
    /// `<Parameter>` elements, handed back in the stream's `start` message.
    pub parameters: Vec<(String, String)>,
}

/// Calls `{base}/telephony/twilio` and reads the TwiML.
pub async fn request_stream(
    base_url: &str,
    fields: &[(&str, &str)],
    auth_token: Option<&str>,
) -> Result<StreamTarget, CallError> {
    let url = format!("{}/telephony/twilio", base_url.trim_end_matches('/'));
    let mut request = CLIENT.post(&url).form(fields);
    if let Some(token) = auth_token {
        request = request.header("X-Twilio-Signature", sign(&url, fields, token));
    }
    let unreachable = |error: reqwest::Error| CallError::Unreachable {
        url: url.clone(),
        source: error.without_url(),
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let body = response.text().await.map_err(unreachable)?;
    if !status.is_success() {
        return Err(CallError::Webhook(format!("{url} answered {status}: {body}")));
    }
    parse_twiml(&body)
}

/// Base64 of HMAC-SHA1 over the URL and the fields sorted by name.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn sign(url: &str, fields: &[(&str, &str)], auth_token: &str) -> String {
    let mut sorted = fields.to_vec();
    sorted.sort_unstable();
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(auth_token.as_bytes()).expect("HMAC takes any key length");
    mac.update(url.as_bytes());
    for (name, value) in sorted {
        mac.update(name.as_bytes());
        mac.update(value.as_bytes());
    }
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

fn parse_twiml(xml: &str) -> Result<StreamTarget, CallError> {
    let document =
        roxmltree::Document::parse(xml).map_err(|error| CallError::Webhook(format!("not TwiML: {error}: {xml}")))?;
    let Some(stream) = document.descendants().find(|node| node.has_tag_name("Stream")) else {
        let said: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name("Say"))
            .filter_map(|n| n.text())
            .collect();
        return Err(CallError::Refused(if said.is_empty() {
            xml.to_owned()
        } else {
            said.join(" ")
        }));
    };
    let url = stream.attribute("url").unwrap_or_default().to_owned();
    let parameters = stream
        .children()
        .filter(|node| node.has_tag_name("Parameter"))
        .filter_map(|node| Some((node.attribute("name")?.to_owned(), node.attribute("value")?.to_owned())))
        .collect();
    Ok(StreamTarget { url, parameters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_url_and_parameters_are_read() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?><Response><Connect>
            <Stream url="wss://a/telephony/ws/t"><Parameter name="campaign" value="x &amp; y"/></Stream></Connect></Response>"#;
        let target = parse_twiml(xml).unwrap();
        assert_eq!(target.url, "wss://a/telephony/ws/t");
        assert_eq!(target.parameters, [("campaign".to_owned(), "x & y".to_owned())]);
    }

    #[test]
    fn a_spoken_refusal_is_reported_in_its_words() {
        let error = parse_twiml("<Response><Say>All lines are busy.</Say><Hangup/></Response>").unwrap_err();
        assert!(error.to_string().contains("All lines are busy."));
    }
}
