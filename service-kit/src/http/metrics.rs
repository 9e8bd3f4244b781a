//! The `http_*` metrics.

use std::sync::LazyLock;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::metrics::{counter, counter_vec, gauge, gauge_vec, histogram_vec};

/// Label of requests that match no route: scanners must not make new time series.
pub(super) const UNMATCHED: &str = "unmatched";

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "http_requests_total",
        "HTTP requests answered.",
        &["method", "route", "status_code"],
    )
});
static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "http_request_duration_seconds",
        "Time from request head to response head, in seconds.",
        &["method", "route", "status_code"],
    )
});
static ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "http_errors_total",
        "HTTP requests answered with 4xx or 5xx.",
        &["method", "route", "error_type"],
    )
});
static TIMEOUTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "http_timeout_total",
        "HTTP requests that took too long.",
        &["method", "route"],
    )
});
static ACTIVE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "http_active_connections",
        "Open WebSockets and WebRTC sessions.",
        &["route"],
    )
});

static OPEN: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "http_connections_open",
        "Connections to the public listener, idle ones and WebSockets included.",
    )
});
static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "http_connections_refused_total",
        "Connections closed at once because limits.max_connections were open, or limits.max_connections_per_address from theirs.",
    )
});

/// Counts one connection of the public listener until it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection(());

impl OpenConnection {
    pub(super) fn begin() -> Self {
        OPEN.inc();
        Self(())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        OPEN.dec();
    }
}

/// Counts one connection that was closed because there were too many.
pub(crate) fn record_refused() {
    REFUSED.inc();
}

/// Counts one answered request.
pub(super) fn record(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let method = method_label(method);
    REQUESTS.with_label_values(&[method, route, status.as_str()]).inc();
    DURATION
        .with_label_values(&[method, route, status.as_str()])
        .observe(took.as_secs_f64());
    let error_type = if status.is_server_error() {
        "5xx"
    } else if status.is_client_error() {
        "4xx"
    } else {
        return;
    };
    ERRORS.with_label_values(&[method, route, error_type]).inc();
}

/// Counts one request that was given up.
pub(super) fn record_timeout(method: &Method, route: &str) {
    TIMEOUTS.with_label_values(&[method_label(method), route]).inc();
}

/// Makes the gauges of all live routes exist, so that an autoscaler reads 0 before the first call; and what usually
/// stays at 0.
pub(super) fn announce() {
    LazyLock::force(&OPEN);
    LazyLock::force(&REFUSED);
    LazyLock::force(&TIMEOUTS);
    LazyLock::force(&ERRORS);
    for route in [LiveRoute::Ws, LiveRoute::TelephonyWs, LiveRoute::WebRtc] {
        route.gauge();
    }
}

/// Methods are chosen by clients: unknown ones share a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// Routes whose connections live long, as labelled in `http_active_connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveRoute {
    /// `/ws`
    Ws,
    /// `/telephony/ws`
    TelephonyWs,
    /// `/webrtc`
    WebRtc,
}

impl LiveRoute {
    fn gauge(self) -> IntGauge {
        let label = match self {
            Self::Ws => "/ws",
            Self::TelephonyWs => "/telephony/ws",
            Self::WebRtc => "/webrtc",
        };
        ACTIVE.with_label_values(&[label])
    }
}

/// Counts one open socket or peer connection in `http_active_connections` until it is dropped. The autoscaler of the
/// media pool reads that gauge: hold this for exactly the connection's life.
#[derive(Debug)]
#[must_use = "the connection is counted only while this is held"]
pub struct ActiveConnection {
    gauge: IntGauge,
}

impl ActiveConnection {
    /// Starts counting a connection.
    pub fn open(route: LiveRoute) -> Self {
        let gauge = route.gauge();
        gauge.inc();
        Self { gauge }
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
