//! Metrics of the media plane, one flat list. Names and labels are a contract with dashboards and the autoscaler.

use std::sync::LazyLock;

use prometheus::{Counter, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use service_kit::config::MediaTransport;
use service_kit::metrics::{counter, counter_vec, float_counter, gauge, gauge_vec, histogram, histogram_vec};

use crate::call::registry::transport_name;

/// Makes what this node will count exist at 0, so that a rate can be taken from the first event on.
pub fn declare(transports: &[MediaTransport]) {
    for transport in transports.iter().copied().map(transport_name) {
        SESSIONS_ACTIVE.with_label_values(&[transport]);
        for reason in ["full", "draining", "not_recordable"] {
            SESSIONS_REJECTED.with_label_values(&[transport, reason]);
        }
        FRAME_LATENESS.with_label_values(&[transport]);
        FRAMES_DROPPED.with_label_values(&[transport]);
        PROTOCOL_ERRORS.with_label_values(&[transport]);
    }
    for stage in ["endpointing", "stt", "llm", "tts", "overhead", "total"] {
        TURN_LATENCY.with_label_values(&[stage]);
    }
    INTERRUPTIONS.with_label_values(&["interrupted"]);
    for gauge in [
        &OUTBOX_DEPTH_BYTES,
        &OUTBOX_OLDEST_UNACKED_SECONDS,
        &PIPELINE_QUEUE_DEPTH,
    ] {
        LazyLock::force(gauge);
    }
    for reason in ["limit", "disk"] {
        OUTBOX_REFUSES.with_label_values(&[reason]);
    }
    for kind in ["started", "turn", "audio", "mark", "ended"] {
        OUTBOX_LOST_EVENTS.with_label_values(&[kind]);
    }
    LazyLock::force(&DRAINING);
    LazyLock::force(&OUTBOX_FLUSH_SECONDS);
    LazyLock::force(&PIPELINE_BACKPRESSURE_SECONDS);
    for outcome in ["returned", "lost", "passed_on"] {
        PHONE_STREAM_CUTS.with_label_values(&[outcome]);
    }
    for outcome in ["taken", "not_taken"] {
        PHONE_TRANSFERS.with_label_values(&[outcome]);
    }
    if transports.contains(&MediaTransport::WebRtc) {
        for state in ["connecting", "connected", "disconnected", "failed", "closed"] {
            WEBRTC_CONNECTIONS.with_label_values(&[state]);
        }
        for reason in ["timeout", "failed", "closed", "vanished"] {
            WEBRTC_CONNECTION_FAILURES.with_label_values(&[reason]);
        }
        for counter in [&WEBRTC_BYTES_SENT, &WEBRTC_BYTES_RECEIVED, &WEBRTC_RECONNECTIONS] {
            LazyLock::force(counter);
        }
        LazyLock::force(&WEBRTC_CONNECTIONS_ACTIVE);
    }
}

/// Connected sessions. Label: transport.
pub static SESSIONS_ACTIVE: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "voxray_sessions_active",
        "Sessions whose media is connected.",
        &["transport"],
    )
});

/// Sessions this node can carry of each transport it serves, if it carries no others: all share its cores, so that it is
/// the same number for each of them and their sum means nothing. Label: transport.
pub static SESSIONS_CAPACITY: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "voxray_sessions_capacity",
        "Sessions this node can carry, shared by the transports that it serves.",
        &["transport"],
    )
});

/// 1 from when this node takes no new sessions until it is gone.
pub static DRAINING: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "voxray_draining",
        "1 while this node drains: it takes no new sessions, and ends when its calls have ended.",
    )
});

/// Sessions turned away. Labels: transport, reason (`full`, `draining`, `transport_not_served`, `already_connected`,
/// `not_recordable`).
pub static SESSIONS_REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_sessions_rejected_total",
        "Sessions turned away.",
        &["transport", "reason"],
    )
});

/// Bytes of archive events on this node's disk.
pub static OUTBOX_DEPTH_BYTES: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "outbox_depth_bytes",
        "Bytes of archive events kept on disk until the archiver has them safe.",
    )
});

/// Age of the oldest archive event that is not durable in the archive.
pub static OUTBOX_OLDEST_UNACKED_SECONDS: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "outbox_oldest_unacked_seconds",
        "Age of the oldest archive event that the archiver has not acknowledged as durable.",
    )
});

/// How long the disk took to flush a file of the outbox: what a power loss costs is that and 100 ms.
pub static OUTBOX_FLUSH_SECONDS: LazyLock<Histogram> = LazyLock::new(|| {
    histogram(
        "outbox_flush_seconds",
        "Time that the disk took to flush a file of the outbox.",
    )
});

/// 1 while new recorded calls are refused. Label: reason (`limit`: `outbox.max_bytes`; `disk`).
pub static OUTBOX_REFUSES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    gauge_vec(
        "outbox_refuses_calls",
        "1 while new recorded calls are refused for lack of room in the outbox.",
        &["reason"],
    )
});

/// Archive events of running calls that neither disk nor memory took. Label: kind (`started`, `turn`, `audio`, `ended`;
/// `mark`: what stands for lost audio).
pub static OUTBOX_LOST_EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "outbox_lost_events_total",
        "Archive events of running calls that were lost for lack of room.",
        &["kind"],
    )
});

/// How late an outgoing 20 ms frame left. Label: transport.
pub static FRAME_LATENESS: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "voxray_frame_lateness_seconds",
        "How late outgoing 20 ms frames left.",
        &["transport"],
    )
});

/// Outgoing frames that a far end did not read in time. Label: transport.
pub static FRAMES_DROPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_frames_dropped_total",
        "Outgoing messages dropped because the far end did not read.",
        &["transport"],
    )
});

/// Frames between sockets and pipelines, over all calls.
pub static PIPELINE_QUEUE_DEPTH: LazyLock<IntGauge> = LazyLock::new(|| {
    gauge(
        "voxray_pipeline_queue_depth",
        "Frames waiting between sockets and pipelines, over all calls.",
    )
});

/// Time that sockets were not read because their pipeline was full.
pub static PIPELINE_BACKPRESSURE_SECONDS: LazyLock<Counter> = LazyLock::new(|| {
    float_counter(
        "voxray_pipeline_backpressure_seconds_total",
        "Seconds that sockets were not read because their pipeline was full.",
    )
});

/// Latency of answered turns, by stage; `total` is from the end of caller speech to the first agent audio sent, and the
/// others add up to it: `endpointing` until the turn was judged over, `stt` from then to the transcript, `llm` from the
/// request to the first text, `tts` from the request to the first audio, `overhead` the rest (the first sentence being
/// completed, tools, our own queues).
pub static TURN_LATENCY: LazyLock<HistogramVec> = LazyLock::new(|| {
    histogram_vec(
        "voxray_turn_latency_seconds",
        "Latency of answered turns by stage.",
        &["stage"],
    )
});

/// Times a caller spoke over the agent. Label: outcome.
pub static INTERRUPTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_interruptions_total",
        "Times a caller cut the agent off.",
        &["outcome"],
    )
});

/// Sockets refused for their token. Label: reason (`missing`, `malformed`, `forged`, `expired`, `used`, `foreign`,
/// `ended`).
pub static TOKENS_REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_socket_tokens_refused_total",
        "Sockets refused for their token: missing, malformed, forged, expired, used before, foreign (for another kind of socket or another call), or of a session that was ended.",
        &["reason"],
    )
});

/// Messages that break a socket's protocol. Label: transport.
pub static PROTOCOL_ERRORS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_protocol_errors_total",
        "Messages that break the protocol of their socket.",
        &["transport"],
    )
});

/// Pieces of caller audio that came twice or too late to be heard. Label: provider.
pub static PHONE_FRAMES_LATE: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_phone_frames_late_total",
        "Pieces of caller audio that came twice or too late to be heard.",
        &["provider"],
    )
});

/// Phone streams that were cut by the network. Label: outcome (`returned`, `lost`; `passed_on` counts where a stream of
/// another node's call came back, and that node counts what becomes of it).
pub static PHONE_STREAM_CUTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_phone_stream_cuts_total",
        "Phone streams that were cut and came back in time, or did not; and those that came back to another node and were passed on.",
        &["outcome"],
    )
});

/// What became of callers who were put through. Label: outcome (`taken` by somebody, or `not_taken`: refused, not answered,
/// or not possible; the caller stayed with the agent or came back).
pub static PHONE_TRANSFERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "voxray_phone_transfers_total",
        "Callers who were put through to somebody else and were taken, or were not and went on with the agent.",
        &["outcome"],
    )
});

/// States that peer connections have come to. Label: state.
pub static WEBRTC_CONNECTIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "webrtc_peer_connections_total",
        "States that WebRTC peer connections have come to.",
        &["state"],
    )
});

/// Peer connections that exist.
pub static WEBRTC_CONNECTIONS_ACTIVE: LazyLock<IntGauge> =
    LazyLock::new(|| gauge("webrtc_peer_connections_active", "WebRTC peer connections that exist."));

/// Bytes of RTP sent.
pub static WEBRTC_BYTES_SENT: LazyLock<IntCounter> =
    LazyLock::new(|| counter("webrtc_bytes_sent_total", "Bytes of RTP sent to WebRTC clients."));

/// Bytes received on the port.
pub static WEBRTC_BYTES_RECEIVED: LazyLock<IntCounter> =
    LazyLock::new(|| counter("webrtc_bytes_received_total", "Bytes received on the WebRTC port."));

/// Connections that did not come about or broke. Label: reason (`timeout`, `failed`, `closed`, `vanished`).
pub static WEBRTC_CONNECTION_FAILURES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    counter_vec(
        "webrtc_connection_failures_total",
        "WebRTC connections that did not come about or broke.",
        &["reason"],
    )
});

/// ICE restarts and peer connections made anew in a session.
pub static WEBRTC_RECONNECTIONS: LazyLock<IntCounter> = LazyLock::new(|| {
    counter(
        "webrtc_reconnection_attempts_total",
        "ICE restarts, and peer connections made anew in a running session.",
    )
});
