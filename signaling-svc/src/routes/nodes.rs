//! `GET /nodes`: the media nodes, as they report themselves.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use service_kit::http::{ApiError, Data};
use session_store::{NodeLatency, NodeRecord};
use utoipa::ToSchema;

use crate::app::App;
use crate::error::store_error;

/// The media nodes that have reported within the last seconds, by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeList {
    nodes: Vec<NodeView>,
}

/// A media node as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    node: String,
    /// Sessions it can carry.
    capacity: u32,
    /// Sessions it carries or holds reserved.
    sessions: u32,
    /// It takes no new sessions and finishes those it has.
    draining: bool,
    /// `telephony`, `websocket`, `webrtc`.
    transports: Vec<String>,
    /// Release.
    version: String,
    /// Where it is (`zone`); absent when it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// Absent from nodes of older releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<LatencyView>,
}

/// How quick a node was in the last minutes, to within 8 %.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyView {
    /// The time looked back on.
    window_seconds: u32,
    /// Answered turns in that time; without any, the next three mean nothing.
    turns: u32,
    /// From the end of a caller's speech to the first audio of the answer: median.
    turn_p50_ms: u32,
    /// 95th percentile.
    turn_p95_ms: u32,
    /// 99th percentile.
    turn_p99_ms: u32,
    /// How late outgoing 20 ms audio frames left: 99th percentile.
    frame_late_p99_ms: f64,
}

/// Lists the media nodes with their load.
#[utoipa::path(get, path = "/nodes", tag = "nodes",
    responses((status = 200, description = "`data.nodes`", body = NodeList),
        (status = 503, description = "The session store does not answer")))]
pub async fn list(State(app): State<Arc<App>>) -> Result<Data<NodeList>, ApiError> {
    let mut records = app.store.nodes().await.map_err(store_error)?;
    records.sort_by(|a, b| a.node_id.cmp(&b.node_id));
    Ok(Data(NodeList {
        nodes: records.into_iter().map(NodeView::from).collect(),
    }))
}

impl From<NodeRecord> for NodeView {
    fn from(record: NodeRecord) -> Self {
        Self {
            node: record.node_id,
            capacity: record.capacity,
            sessions: record.sessions,
            draining: record.draining,
            transports: record.transports,
            version: record.version,
            zone: record.zone,
            latency: record.latency.map(LatencyView::from),
        }
    }
}

impl From<NodeLatency> for LatencyView {
    fn from(latency: NodeLatency) -> Self {
        Self {
            window_seconds: latency.window_secs,
            turns: latency.turns,
            turn_p50_ms: latency.turn_p50_ms,
            turn_p95_ms: latency.turn_p95_ms,
            turn_p99_ms: latency.turn_p99_ms,
            frame_late_p99_ms: f64::from(latency.frame_late_p99_us) / 1000.0,
        }
    }
}
