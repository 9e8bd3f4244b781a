//! What a client of a listener may take up, and where traces go.

use std::time::Duration;

use super::sources::Values;

/// What clients of a listener may take up, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectionLimits {
    /// Most open connections; 0 = no limit.
    pub max_connections: usize,
    /// From the connection to the head of its first request, TLS handshake included.
    pub header_timeout: Duration,
    /// From the head of a request to the end of its body.
    pub body_timeout: Duration,
    /// Longest time a route may take.
    pub request_timeout: Duration,
    /// From the end of an answer to the head of the next request.
    pub idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    /// The usual time-outs and any number of connections: for listeners that only this deployment reaches.
    fn default() -> Self {
        Self {
            max_connections: 0,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
        }
    }
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// OTLP gRPC collector; `None` = no traces.
    pub endpoint: Option<String>,
    /// Part of the calls that are traced, 0–1.
    pub sample_ratio: f64,
}

pub(super) fn limits(v: &Values) -> ConnectionLimits {
    let seconds = |key| Duration::from_secs_f64(v.float(key));
    ConnectionLimits {
        max_connections: v.number("limits.max_connections"),
        header_timeout: seconds("limits.header_timeout_secs"),
        body_timeout: seconds("limits.body_timeout_secs"),
        request_timeout: seconds("limits.request_timeout_secs"),
        idle_timeout: seconds("limits.idle_timeout_secs"),
    }
}

pub(super) fn otlp(v: &Values) -> Otlp {
    Otlp {
        endpoint: v.text("otlp.endpoint"),
        sample_ratio: v.float("otlp.sample_ratio"),
    }
}
