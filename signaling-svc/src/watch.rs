//! Keeps `/ready` and `media_nodes{state}` in step with the session store.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus::IntGaugeVec;
use service_kit::health::Readiness;
use service_kit::shutdown::Shutdown;
use session_store::NodeRecord;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// How often the store is asked: half of a node's heartbeat, so that a change is seen within three seconds.
const INTERVAL: Duration = Duration::from_secs(1);

const STORE: &str = "session_store";
const NODES: &str = "media_nodes";
const DRAINING: &str = "signaling";

static MEDIA_NODES: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    service_kit::metrics::gauge_vec(
        "media_nodes",
        "Media nodes that are alive, by state: accepting, full, draining.",
        &["state"],
    )
});

/// Refreshes until cancelled; not ready any more as soon as draining is asked for.
pub async fn run(app: Arc<App>, readiness: Readiness, cancelled: CancellationToken, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = false;
    loop {
        tokio::select! {
            () = cancelled.cancelled() => return,
            () = shutdown.draining(), if !draining => {
                draining = true;
                readiness.not_ok(DRAINING, "draining: this instance is being stopped");
            }
            _ = ticks.tick() => refresh(&app, &readiness).await,
        }
    }
}

/// Asks the store once.
pub async fn refresh(app: &App, readiness: &Readiness) {
    let nodes = match app.store.nodes().await {
        Ok(nodes) => nodes,
        Err(error) => {
            readiness.not_ok(STORE, error.to_string());
            return;
        }
    };
    readiness.ok(STORE);
    let states: Vec<_> = nodes.iter().map(state).collect();
    for label in ["accepting", "full", "draining"] {
        let count = states.iter().filter(|state| **state == label).count();
        MEDIA_NODES
            .with_label_values(&[label])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    if states.contains(&"accepting") {
        readiness.ok(NODES);
    } else if nodes.is_empty() {
        readiness.not_ok(
            NODES,
            "no media node has registered: start one (`voxray media`) with the same session store",
        );
    } else {
        readiness.not_ok(
            NODES,
            "no media node accepts sessions: all of them are full or draining",
        );
    }
    app.nodes.forget_others(&nodes);
}

fn state(node: &NodeRecord) -> &'static str {
    if node.draining {
        "draining"
    } else if node.has_room() {
        "accepting"
    } else {
        "full"
    }
}
