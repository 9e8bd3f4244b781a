//! The Prometheus registry of the process, and how services declare their metrics.
//!
//! Metrics are process-wide statics made by the functions below. Declaring the same name twice with the same shape
//! gives the same metric, so that the three services can share one process. `process_*` comes with the registry.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts,
};

/// Latency buckets in seconds, 5 ms to 10 s.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
];

/// A labelled counter.
pub fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    declare(name, || IntCounterVec::new(Opts::new(name, help), labels))
}

/// A counter without labels.
pub fn counter(name: &str, help: &str) -> IntCounter {
    declare(name, || IntCounter::new(name, help))
}

/// A labelled counter of fractions (seconds).
pub fn float_counter_vec(name: &str, help: &str, labels: &[&str]) -> CounterVec {
    declare(name, || CounterVec::new(Opts::new(name, help), labels))
}

/// A counter of fractions (seconds) without labels.
pub fn float_counter(name: &str, help: &str) -> Counter {
    declare(name, || Counter::new(name, help))
}

/// A labelled gauge.
pub fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    declare(name, || IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A gauge without labels.
pub fn gauge(name: &str, help: &str) -> IntGauge {
    declare(name, || IntGauge::new(name, help))
}

/// A labelled gauge of fractions (seconds).
pub fn float_gauge_vec(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    declare(name, || GaugeVec::new(Opts::new(name, help), labels))
}

/// A gauge of fractions (seconds) without labels.
pub fn float_gauge(name: &str, help: &str) -> Gauge {
    declare(name, || Gauge::new(name, help))
}

/// A labelled latency histogram in seconds.
pub fn histogram_vec(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    declare(name, || HistogramVec::new(latency(name, help), labels))
}

/// A latency histogram in seconds without labels.
pub fn histogram(name: &str, help: &str) -> Histogram {
    declare(name, || Histogram::with_opts(latency(name, help)))
}

/// Says which service this process is: `voxray_build_info{service,version}` and `voxray_up`. In a shared process every
/// service says so.
pub fn announce(service: &str, version: &str) {
    let labels = ["service", "version"];
    gauge_vec("voxray_build_info", "Version of each service in this process.", &labels)
        .with_label_values(&[service, version])
        .set(1);
    gauge("voxray_up", "1 while the process runs.").set(1);
}

/// Everything registered so far in the Prometheus text format.
pub fn render() -> String {
    prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::gather())
        .unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics could not be written");
            String::new()
        })
}

fn latency(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec())
}

/// What has been declared, by name. Clones of a metric share their values.
static DECLARED: Mutex<BTreeMap<String, Box<dyn Any + Send>>> = Mutex::new(BTreeMap::new());

#[expect(
    clippy::expect_used,
    reason = "a metric declared in the code with a bad name is a bug found by any test"
)]
fn declare<M: Collector + Clone + 'static>(name: &str, make: impl FnOnce() -> prometheus::Result<M>) -> M {
    let mut declared = DECLARED.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = declared.get(name).map(|earlier| earlier.downcast_ref::<M>().cloned());
    if let Some(Some(earlier)) = earlier {
        return earlier;
    }
    let metric = make().expect("valid metric declaration");
    if let Err(error) = prometheus::default_registry().register(Box::new(metric.clone())) {
        tracing::error!(name, %error, "this metric was declared before with another shape; it will not be exported");
    } else {
        declared.insert(name.to_owned(), Box::new(metric.clone()));
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declaring_a_name_twice_gives_the_same_metric() {
        let first = counter_vec("test_twice_total", "Declared twice.", &["kind"]);
        let second = counter_vec("test_twice_total", "Declared twice.", &["kind"]);

        first.with_label_values(&["a"]).inc();
        second.with_label_values(&["a"]).inc();

        assert_eq!(first.with_label_values(&["a"]).get(), 2);
        assert!(render().contains("test_twice_total{kind=\"a\"} 2"));
    }

    #[test]
    fn declaring_a_name_with_another_shape_leaves_the_first_in_place() {
        let first = counter("test_shape_total", "A counter.");
        let second = gauge("test_shape_total", "A gauge.");

        first.inc();
        second.set(7);

        assert!(render().contains("test_shape_total 1"));
    }

    #[test]
    fn a_process_says_what_it_is_and_how_it_does() {
        announce("media", "1.2.3");
        announce("archiver", "1.2.3");

        let text = render();
        for line in [
            "voxray_up 1",
            "voxray_build_info{service=\"media\",version=\"1.2.3\"} 1",
            "voxray_build_info{service=\"archiver\",version=\"1.2.3\"} 1",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
