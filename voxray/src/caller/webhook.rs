//! The providers' webhooks: what they ask, and where their answers send the media stream.
//!
//! <https://www.twilio.com/docs/voice/twiml/stream>, <https://www.twilio.com/docs/usage/webhooks/webhooks-security>,
//! <https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/stream>,
//! <https://docs.plivo.com/docs/voice/xml/audiostream>,
//! <https://developer.exotel.com/docs/agentstream/stream-voicebot-applet>,
//! <https://developer.vonage.com/en/voice/voice-api/ncco-reference>; read 2026-11-22.

use std::sync::LazyLock;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use media_core::wire::telephony::Provider;
use serde_json::Value;

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamTarget {
    /// WebSocket URL.
    pub url: String,
    /// `<Parameter>` elements, handed back in the stream's `start` message.
    pub parameters: Vec<(String, String)>,
    /// Coding that the answer asks for, in the provider's words.
    pub codec: Option<String>,
}

/// Who calls whom in every simulated call.
const FROM: &str = "+15005550006";
const TO: &str = "+15005550001";

/// Asks as this provider does. `token` signs Twilio's webhook and is the secret in Exotel's URL.
pub async fn ask(
    provider: Provider,
    base_url: &str,
    call_id: &str,
    token: Option<&str>,
) -> Result<StreamTarget, CallError> {
    let url = format!("{}/telephony/{}", base_url.trim_end_matches('/'), provider.name());
    match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Genesys => {
            let fields = [
                ("AccountSid", super::ACCOUNT_SID),
                ("CallSid", call_id),
                ("CallStatus", "ringing"),
                ("Direction", "inbound"),
                ("From", FROM),
                ("To", TO),
            ];
            if provider == Provider::Twilio {
                return request_stream(base_url, &fields, token).await;
            }
            parse_twiml(&answer(&url, CLIENT.post(&url).form(&fields)).await?)
        }
        Provider::Plivo => {
            let fields = [
                ("CallUUID", call_id),
                ("CallStatus", "ringing"),
                ("Direction", "inbound"),
                ("Event", "StartApp"),
                ("From", FROM),
                ("To", TO),
            ];
            parse_plivo_xml(&answer(&url, CLIENT.post(&url).form(&fields)).await?)
        }
        Provider::Exotel => {
            let mut fields = vec![
                ("CallSid", call_id),
                ("CallFrom", FROM),
                ("CallTo", TO),
                ("Direction", "incoming"),
            ];
            fields.extend(token.map(|token| ("secret", token)));
            let query = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
            let with_query = format!("{url}?{}", query.collect::<Vec<_>>().join("&"));
            parse_exotel(&answer(&url, CLIENT.get(with_query)).await?)
        }
        Provider::Vonage => {
            let body = serde_json::json!({
                "from": FROM.trim_start_matches('+'),
                "to": TO.trim_start_matches('+'),
                "uuid": call_id,
                "conversation_uuid": format!("CON-{call_id}"),
            });
            parse_ncco(&answer(&url, CLIENT.post(&url).json(&body)).await?)
        }
    }
}

async fn answer(url: &str, request: reqwest::RequestBuilder) -> Result<String, CallError> {
    let unreachable = |error: reqwest::Error| CallError::Unreachable {
        url: url.to_owned(),
        source: error.without_url(),
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let body = response.text().await.map_err(unreachable)?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(CallError::Webhook(format!("{url} answered {status}: {body}")))
    }
}

/// For a query (RFC 3986): everything but what needs no encoding anywhere.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes()
        .map(|byte| {
            if plain(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
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
    parse_twiml(&answer(&url, request).await?)
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
    let codec = stream.attribute("codec").map(str::to_owned);
    Ok(StreamTarget { url, parameters, codec })
}

fn parse_plivo_xml(xml: &str) -> Result<StreamTarget, CallError> {
    let document = roxmltree::Document::parse(xml)
        .map_err(|error| CallError::Webhook(format!("not Plivo XML: {error}: {xml}")))?;
    let Some(stream) = document.descendants().find(|node| node.has_tag_name("Stream")) else {
        return Err(CallError::Refused(xml.to_owned()));
    };
    let headers = stream.attribute("extraHeaders").unwrap_or_default();
    let pairs = headers.split(',').filter_map(|pair| pair.split_once('='));
    Ok(StreamTarget {
        url: stream.text().unwrap_or_default().trim().to_owned(),
        parameters: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        codec: stream.attribute("contentType").map(str::to_owned),
    })
}

fn parse_exotel(json: &str) -> Result<StreamTarget, CallError> {
    let body: Value =
        serde_json::from_str(json).map_err(|error| CallError::Webhook(format!("not JSON: {error}: {json}")))?;
    let url = body.get("url").and_then(Value::as_str);
    let url = url.ok_or_else(|| CallError::Refused(json.to_owned()))?.to_owned();
    // Exotel takes the socket's query out of its URL and sends it as parameters of the start.
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let parameters = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(StreamTarget {
        url,
        parameters,
        codec: None,
    })
}

fn parse_ncco(json: &str) -> Result<StreamTarget, CallError> {
    let body: Value =
        serde_json::from_str(json).map_err(|error| CallError::Webhook(format!("not an NCCO: {error}: {json}")))?;
    let endpoint = body
        .as_array()
        .and_then(|actions| {
            actions
                .iter()
                .find(|action| action.get("action") == Some(&"connect".into()))
        })
        .and_then(|connect| connect.get("endpoint")?.get(0))
        .ok_or_else(|| CallError::Refused(json.to_owned()))?;
    let text = |name: &str| endpoint.get(name).and_then(Value::as_str).map(str::to_owned);
    let headers = endpoint.get("headers").and_then(Value::as_object);
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(StreamTarget {
        url: text("uri").unwrap_or_default(),
        parameters: headers
            .map(|headers| {
                headers
                    .iter()
                    .map(|(name, value)| (name.clone(), plain(value)))
                    .collect()
            })
            .unwrap_or_default(),
        codec: text("content-type"),
    })
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
    fn every_providers_answer_names_the_stream() {
        let plivo = r#"<Response><Stream bidirectional="true" keepCallAlive="true" contentType="audio/x-mulaw;rate=8000"
            extraHeaders="plan=gold,n=1">wss://a/telephony/ws/t?a&amp;b</Stream></Response>"#;
        let plivo = parse_plivo_xml(plivo).unwrap();
        assert_eq!(plivo.url, "wss://a/telephony/ws/t?a&b");
        assert_eq!(plivo.parameters.len(), 2);
        let exotel = parse_exotel(r#"{"url":"wss://a/t?plan=gold","websocketUrl":"wss://a/t?plan=gold"}"#).unwrap();
        assert_eq!(exotel.parameters, [("plan".to_owned(), "gold".to_owned())]);
        let vonage = parse_ncco(
            r#"[{"action":"connect","endpoint":[{"type":"websocket","uri":"wss://a/t","content-type":"audio/l16;rate=16000",
                "headers":{"plan":"gold"}}]}]"#,
        )
        .unwrap();
        assert_eq!((vonage.url.as_str(), vonage.parameters.len()), ("wss://a/t", 1));
        assert!(matches!(
            parse_ncco(r#"[{"action":"talk","text":"Sorry."}]"#),
            Err(CallError::Refused(_))
        ));
        assert_eq!(percent_encoded("+1 a"), "%2B1%20a");
    }

    #[test]
    fn a_spoken_refusal_is_reported_in_its_words() {
        let error = parse_twiml("<Response><Say>All lines are busy.</Say><Hangup/></Response>").unwrap_err();
        assert!(error.to_string().contains("All lines are busy."));
    }
}
