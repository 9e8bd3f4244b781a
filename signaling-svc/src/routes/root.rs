//! `GET /`: where to go from here.

use axum::response::{Html, IntoResponse, Response};
use http::HeaderMap;
use http::header::ACCEPT;
use serde::Serialize;
use service_kit::http::Data;
use utoipa::ToSchema;

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

const URLS: [UsefulUrl; 11] = [
    url("GET", "/health", "is the process alive"),
    url("GET", "/ready", "can it take calls"),
    url("GET", "/metrics", "Prometheus metrics"),
    url("GET", "/swagger/", "the API, to try out"),
    url("GET", "/openapi.json", "the API, for tools"),
    url("GET", "/sessions", "live sessions"),
    url("GET", "/archive/sessions", "archived calls of today"),
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

/// Names the useful URLs: a page for browsers, JSON for everyone else.
#[utoipa::path(get, path = "/", tag = "service", responses((status = 200, description = "`data`, or a page", body = Index)))]
pub async fn index(headers: HeaderMap) -> Response {
    let wants_html = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if wants_html {
        Html(page()).into_response()
    } else {
        Data(Index {
            name: "voxray",
            version: env!("CARGO_PKG_VERSION"),
            urls: URLS.to_vec(),
        })
        .into_response()
    }
}

fn page() -> String {
    let rows: String = URLS
        .iter()
        .map(|UsefulUrl { method, path, what }| match *method {
            "GET" => format!("<tr><td>{method}</td><td><a href=\"{path}\">{path}</a></td><td>{what}</td></tr>\n"),
            _ => format!("<tr><td>{method}</td><td>{path}</td><td>{what}</td></tr>\n"),
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Voxray</title>\n\
         <style>body{{font-family:system-ui,sans-serif;margin:3rem}}td{{padding:.2rem 1rem .2rem 0}}</style></head>\n\
         <body><h1>Voxray {}</h1><p>Real-time voice agents. Point a phone number at <code>/telephony/twilio</code> (or your provider), \
         or connect a client:</p>\n<table>\n{rows}</table></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}
