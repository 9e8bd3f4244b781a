//! Exotel: the Voicebot applet asks a URL by GET where its WebSocket is
//! (<https://developer.exotel.com/docs/agentstream/stream-voicebot-applet>, and "Passthru applet" for the fields; checked
//! 2026-11-23).
//!
//! Exotel signs nothing: a secret in the URL (`?secret=`, `exotel.webhook_secret`) tells its requests from anybody's.
//! The applet takes no document that speaks: when no node takes a call it is answered with HTTP 503, and the flow goes on
//! with its next applet.

use serde_json::{Value, json};

use super::{Stream, that_fit};

/// Call id, caller, called.
pub const FACTS: [&str; 3] = ["CallSid", "CallFrom", "CallTo"];

/// Field of the query that brings back what `POST /calls` gave Exotel.
pub const REFERENCE: &str = "CustomField";

/// Most parameters in the socket's URL.
const MAX_PARAMETERS: usize = 3;
/// Longest parameters together, in characters.
const MAX_PARAMETERS_CHARS: usize = 256;

/// Whether a name in the query is Exotel's own.
pub fn is_own_field(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) || matches!(name, "flow_id" | "tenant_id" | "digits")
}

/// The socket's URL, under Exotel's key and under the one that the first Voxray used. Up to three parameters go into its
/// query and come back in the stream's `custom_parameters`.
pub fn connect(stream: Stream<'_>) -> Value {
    // Encoding makes a character three at most.
    let parameters = that_fit(stream.parameters, MAX_PARAMETERS_CHARS / 3, |_, _| true).take(MAX_PARAMETERS);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    let query = query.finish();
    let separator = if query.is_empty() { "" } else { "?" };
    let url = format!("{}{separator}{query}", stream.url);
    json!({ "url": url, "websocketUrl": url })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_socket_twice_with_three_parameters_at_most() {
        let parameters = [
            ("plan", "gold"),
            ("n", "ä &"),
            ("long", &"x".repeat(80)),
            ("c", "3"),
            ("d", "4"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let stream = Stream {
            url: "wss://h/telephony/ws/t",
            parameters: &parameters,
            called: "",
            fallback: "",
        };
        let url = "wss://h/telephony/ws/t?plan=gold&n=%C3%A4+%26&c=3";
        assert_eq!(connect(stream), json!({ "url": url, "websocketUrl": url }));
    }
}
