//! Metrics of the media plane, one flat list. Names and labels are a contract with dashboards and the autoscaler.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGaugeVec};
use service_kit::metrics::{counter_vec, gauge_vec};

/// Connected sessions. Label: transport.
pub static SESSIONS_ACTIVE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "voxray_sessions_active",
        "Sessions whose media is connected.",
        &["transport"],
    )
});

/// Sessions this node can carry, over all transports together: they share the same cores.
pub static SESSIONS_CAPACITY: LazyLock<IntGaugeVec> =
    LazyLock::new(|| gauge_vec("voxray_sessions_capacity", "Sessions this node can carry.", &[]));

/// Sessions turned away. Labels: transport, reason (`full`, `draining`, `transport_not_served`, `already_connected`).
pub static SESSIONS_REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_sessions_rejected_total",
        "Sessions turned away.",
        &["transport", "reason"],
    )
});

/// Bytes of archive events on this node's disk.
pub static OUTBOX_DEPTH_BYTES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "outbox_depth_bytes",
        "Bytes of archive events kept on disk until the archiver has them safe.",
        &[],
    )
});

/// Age of the oldest archive event that is not durable in the archive.
pub static OUTBOX_OLDEST_UNACKED_SECONDS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "outbox_oldest_unacked_seconds",
        "Age of the oldest archive event that the archiver has not acknowledged as durable.",
        &[],
    )
});
