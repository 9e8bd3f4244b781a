//! Vonage: an NCCO (<https://developer.vonage.com/en/voice/voice-api/ncco-reference>, sections `connect`, `talk` and
//! `notify`; "Voice API webhooks reference" for the fields; "WebSockets", section on fallback options; checked 2026-11-23).

use serde_json::{Map, Value, json};

use super::{Stream, that_fit};

/// Call id, caller, called.
pub const FACTS: [&str; 3] = ["uuid", "from", "to"];

/// What a GET of Vonage brings besides what the operator wrote into its URL.
const OWN_FIELDS: [&str; 8] = [
    "to",
    "from",
    "from_user",
    "endpoint_type",
    "uuid",
    "conversation_uuid",
    "region_url",
    "custom_data",
];

/// Most bytes of `headers`: Vonage keeps them short.
const MAX_HEADERS_BYTES: usize = 512;

/// Whether a name in the query is Vonage's own.
pub fn is_own_field(name: &str) -> bool {
    OWN_FIELDS.contains(&name) || name.starts_with("SipHeader_")
}

/// `connect` to a WebSocket with 16 kHz audio. Parameters go into `headers`, which come back in `websocket:connected`. By
/// itself Vonage opens a socket that was cut no second time: with `eventType: synchronous` it asks what to do.
pub fn connect(stream: Stream<'_>) -> Value {
    let parameters = that_fit(stream.parameters, MAX_HEADERS_BYTES, |_, _| true);
    let headers: Map<_, _> = parameters.map(|(name, value)| (name.clone(), json!(value))).collect();
    let mut socket = json!({ "type": "websocket", "uri": stream.url, "content-type": "audio/l16;rate=16000" });
    let mut connect = Map::from_iter([("action".to_owned(), json!("connect"))]);
    if let Some(fields) = socket.as_object_mut()
        && !headers.is_empty()
    {
        fields.insert("headers".to_owned(), Value::Object(headers));
    }
    connect.insert("endpoint".to_owned(), json!([socket]));
    let called = stream.called.trim_start_matches('+');
    if !called.is_empty() {
        connect.insert("from".to_owned(), json!(called));
    }
    if !stream.fallback.is_empty() {
        connect.insert("eventType".to_owned(), json!("synchronous"));
        connect.insert("eventUrl".to_owned(), json!([stream.fallback]));
    }
    json!([connect])
}

/// Says one sentence with Vonage's own voice; the call ends with the document.
pub fn say(sentence: &str) -> Value {
    json!([{ "action": "talk", "text": sentence }])
}

/// Asks another URL for a document.
pub fn ask(url: &str) -> Value {
    json!([{ "action": "notify", "payload": { "reason": "busy" }, "eventUrl": [url], "eventMethod": "POST" }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_document_has_vonages_shape() {
        let parameters = [("plan".to_owned(), "gold".to_owned())];
        let stream = Stream {
            url: "wss://h/telephony/ws/t",
            parameters: &parameters,
            called: "+15552223333",
            fallback: "https://h/telephony/vonage/stream/s",
        };
        assert_eq!(
            connect(stream),
            json!([{
                "action": "connect",
                "from": "15552223333",
                "eventType": "synchronous",
                "eventUrl": ["https://h/telephony/vonage/stream/s"],
                "endpoint": [{
                    "type": "websocket", "uri": "wss://h/telephony/ws/t", "content-type": "audio/l16;rate=16000",
                    "headers": { "plan": "gold" },
                }],
            }])
        );
    }
}
