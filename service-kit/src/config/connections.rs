//! What a client of a listener may take up, and where traces go.

use std::path::PathBuf;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataKey};

use super::Secret;
use super::sources::{Merged, Values};

/// What clients of a listener may take up, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectionLimits {
    /// Most open connections; 0 = no limit.
    pub max_connections: usize,
    /// Most open connections from one address, other than a trusted proxy's; 0 = no limit.
    pub max_connections_per_address: usize,
    /// From the connection to the end of the TLS handshake, and from there to the head of the first request.
    pub header_timeout: Duration,
    /// From the head of a request to the end of its body.
    pub body_timeout: Duration,
    /// Longest time a route may take.
    pub request_timeout: Duration,
    /// From the end of an answer to the head of the next request.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub write_timeout: Duration,
}

impl Default for ConnectionLimits {
    /// The usual time-outs and any number of connections: for listeners that only this deployment reaches.
    fn default() -> Self {
        Self {
            max_connections: 0,
            max_connections_per_address: 0,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(60),
        }
    }
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// OTLP gRPC collector; `None` = no traces.
    pub endpoint: Option<String>,
    /// Authority of the collector's certificate, where that is not a public one.
    pub ca_file: Option<PathBuf>,
    /// Metadata of every request to it: names of gRPC metadata, and values that can be sent.
    pub headers: Vec<(String, Secret)>,
    /// Part of the calls that are traced, 0–1.
    pub sample_ratio: f64,
}

pub(super) fn limits(v: &Values) -> ConnectionLimits {
    let seconds = |key| Duration::from_secs_f64(v.float(key));
    ConnectionLimits {
        max_connections: v.number("limits.max_connections"),
        max_connections_per_address: v.number("limits.max_connections_per_address"),
        header_timeout: seconds("limits.header_timeout_secs"),
        body_timeout: seconds("limits.body_timeout_secs"),
        request_timeout: seconds("limits.request_timeout_secs"),
        idle_timeout: seconds("limits.idle_timeout_secs"),
        write_timeout: seconds("limits.write_timeout_secs"),
    }
}

pub(super) fn otlp(merged: &mut Merged) -> Otlp {
    let headers = merged.values.list("otlp.headers");
    let headers = headers.iter().enumerate().filter_map(|(index, text)| {
        let header = header(text);
        if header.is_none() {
            // Neither name nor value is shown: what has no `=` may be all secret.
            let message = format!(
                "number {} of the list is no header; allowed: name=value with a name of small letters, digits, - _ and ., \
                 neither -bin at its end nor grpc- before it, and a value of visible ASCII",
                index + 1
            );
            merged.problem("otlp.headers", message);
        }
        header
    });
    let headers = headers.collect();
    let endpoint = merged.values.text("otlp.endpoint");
    let is_tls = endpoint.as_ref().is_some_and(|url| url.starts_with("https:"));
    if merged.values.is_set("otlp.ca_file") && !is_tls && !merged.is_broken("otlp.endpoint") {
        merged.problem(
            "otlp.ca_file",
            "does nothing without an otlp.endpoint that begins with https://",
        );
    }
    let v = &merged.values;
    Otlp {
        endpoint,
        ca_file: v.text("otlp.ca_file").map(PathBuf::from),
        headers,
        sample_ratio: v.float("otlp.sample_ratio"),
    }
}

/// `name=value` as gRPC metadata.
fn header(text: &str) -> Option<(String, Secret)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = MetadataKey::<Ascii>::from_bytes(name.as_bytes()).is_ok() && !name.starts_with("grpc-");
    let is_value = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    (is_name && is_value).then(|| (name.to_owned(), Secret::new(value)))
}
