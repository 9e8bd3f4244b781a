//! Requests as phone providers make them.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;

/// A form as Twilio posts it.
pub fn form(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let pairs: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("host", "voice.example.com")
        .extension(ConnectInfo(SocketAddr::from(([10, 0, 0, 7], 4711))))
        .body(Body::from(pairs.join("&")))
        .unwrap()
}

pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}
