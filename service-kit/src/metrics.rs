//! The Prometheus registry of the process, and how services declare their metrics.
//!
//! Metrics are process-wide statics made by the functions below. Declaring the same name twice with the same shape
//! gives the same metric, so that the three services can share one process.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

/// Latency buckets, 5 ms to 10 s.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
];

/// A labelled counter.
#[expect(
    clippy::expect_used,
    reason = "a metric declared in the code with a bad name is a bug found by any test"
)]
pub fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let metric = IntCounterVec::new(Opts::new(name, help), labels).expect("valid metric declaration");
    register(metric)
}

/// A labelled gauge.
#[expect(
    clippy::expect_used,
    reason = "a metric declared in the code with a bad name is a bug found by any test"
)]
pub fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect("valid metric declaration");
    register(metric)
}

/// A labelled latency histogram in seconds.
#[expect(
    clippy::expect_used,
    reason = "a metric declared in the code with a bad name is a bug found by any test"
)]
pub fn histogram_vec(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
    let metric = HistogramVec::new(options, labels).expect("valid metric declaration");
    register(metric)
}

fn register<M: prometheus::core::Collector + Clone + 'static>(metric: M) -> M {
    if let Err(error) = prometheus::default_registry().register(Box::new(metric.clone())) {
        tracing::error!(%error, "metric declared twice");
    }
    metric
}

/// Everything registered so far in the Prometheus text format.
pub fn render() -> String {
    prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::gather())
        .unwrap_or_default()
}
