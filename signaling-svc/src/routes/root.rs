//! `GET /`: the console page, or where to go from here.

use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::ACCEPT;
use serde::Serialize;
use service_kit::http::Data;
use utoipa::ToSchema;

use super::console;

/// Name, release and useful URLs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Index {
    name: &'static str,
    version: &'static str,
    urls: Vec<UsefulUrl>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsefulUrl {
    method: &'static str,
    path: &'static str,
    what: &'static str,
}

const URLS: [UsefulUrl; 13] = [
    url("GET", "/console/", "the console page: talk, calls, nodes"),
    url("GET", "/health", "is the process alive"),
    url("GET", "/ready", "can it take calls"),
    url("GET", "/metrics", "Prometheus metrics"),
    url("GET", "/swagger/", "the API, to try out"),
    url("GET", "/openapi.json", "the API, for tools"),
    url("GET", "/sessions", "live sessions"),
    url("GET", "/archive/sessions", "archived calls of today"),
    url("GET", "/nodes", "media nodes and their load"),
    url("POST", "/start", "start a session"),
    url("POST", "/webrtc/offer", "start a WebRTC session with an offer"),
    url(
        "POST",
        "/telephony/{provider}",
        "webhook for a phone number at twilio, telnyx, plivo, exotel or vonage",
    ),
    url("POST", "/calls", "place a phone call"),
];

const fn url(method: &'static str, path: &'static str, what: &'static str) -> UsefulUrl {
    UsefulUrl { method, path, what }
}

/// The console page for browsers; the useful URLs as JSON for everyone else.
#[utoipa::path(get, path = "/", tag = "service", responses((status = 200, description = "`data`, or a page", body = Index)))]
pub async fn index(headers: HeaderMap) -> Response {
    let wants_html = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if wants_html {
        console::page(&headers)
    } else {
        Data(Index {
            name: "voxray",
            version: env!("CARGO_PKG_VERSION"),
            urls: URLS.to_vec(),
        })
        .into_response()
    }
}
