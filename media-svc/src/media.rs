//! A media node, put together.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use carriers::Carriers;
use media_core::conversation::Notice;
use media_core::redact::{Kind, Redactor};
use service_kit::config::{self, Config};
use service_kit::exit::Fatal;
use service_kit::grpc::{self, PeerTls};
use service_kit::health::Readiness;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use session_store::Store;
use tokio::sync::{Mutex, broadcast, watch};
use tokio::time::Instant;

use crate::archive::{ArchiveSink, Outbox, Uplink, UplinkTiming};
use crate::call::registry::{Calls, capacity_at_start};
use crate::node::{Bound, Drained, Node, Registration};
use crate::providers::Agent;
use crate::transport::{self, Gate, HeldStreams, Overdue, Relays, Timeouts, WebRtc};
use crate::{control, speech};

/// Sockets a media node listens on.
pub struct MediaListeners {
    /// Where callers' sockets arrive; bound and served by the process, which may share it with other services.
    pub public: SocketAddr,
    /// gRPC `MediaControl`, bound.
    pub control: TcpListener,
}

/// A running media node.
pub struct Media {
    gate: Arc<Gate>,
    readiness: Readiness,
    node: Mutex<Option<Node>>,
    uplink: Uplink,
    shutdown: Shutdown,
    speech: Option<Arc<speech::SpeechEngine>>,
}

impl Media {
    /// Opens the outbox, registers the node, and is ready to carry calls of this agent.
    ///
    /// # Errors
    /// The outbox folder is in use or cannot be written.
    pub async fn start(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        agent: Agent,
        listeners: MediaListeners,
        scope: TaskScope,
        shutdown: Shutdown,
    ) -> Result<Self, Fatal> {
        let timeouts = Timeouts::default();
        Self::start_with(config, store, agent, listeners, scope, shutdown, timeouts).await
    }

    /// [`start`](Self::start) with other than the usual [`Timeouts`] of sockets.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        agent: Agent,
        listeners: MediaListeners,
        scope: TaskScope,
        shutdown: Shutdown,
        timeouts: Timeouts,
    ) -> Result<Self, Fatal> {
        let (control_address, control_listener) =
            grpc::incoming(listeners.control, &config.http.connections, "media.control_port")?;
        let registration = Registration::new(
            &config,
            Bound {
                public: listeners.public,
                control: control_address,
            },
        );
        let node_id = registration.node_id.clone();
        let carriers = Carriers::from_config(&config)?;
        let peer_tls = PeerTls::load(&config.links)?;
        let outbox = Arc::new(Outbox::open(&config.outbox)?);
        let uplink = Uplink::start(&scope, outbox.clone(), &config.links, &node_id, UplinkTiming::default())?;
        let webrtc = WebRtc::open(&config, timeouts.rtc, &scope)?;
        crate::metrics::declare(&config.media.transports);
        let capacity = match config.media.max_sessions {
            0 => capacity_at_start(agent.speech.is_some()),
            limit => limit,
        };
        let calls = Calls::new(&scope, capacity, &config.media.transports);
        let archived = config.recording.enable || config.transcripts.enable;
        let refusal = outbox.refusal();
        let archive = archived.then_some(outbox as Arc<dyn ArchiveSink>);
        let node = Node::start(registration, store.clone(), calls.clone(), &scope);
        let readiness = Readiness::new();
        watch_readiness(&scope, &calls, &readiness);
        if archive.is_some() {
            watch_outbox(&scope, refusal, &readiness);
        }
        let overdue = Overdue::new(Arc::clone(&store), Arc::clone(&node_id), calls.clone(), &scope);
        let gate = Arc::new(Gate {
            overdue,
            archive,
            redactor: redactor(&config.transcripts),
            config,
            node_id,
            store,
            calls,
            providers: agent.providers,
            carriers,
            scope,
            store_restores: node.restores(),
            timeouts,
            held: HeldStreams::default(),
            relays: Relays::default(),
            webrtc,
        });
        control::serve(
            control_listener,
            control::Control {
                calls: gate.calls.clone(),
                archive: gate.archive.clone(),
                node_id: Arc::clone(&gate.node_id),
                webrtc: gate.webrtc.is_some().then(|| Arc::clone(&gate)),
                tasks: gate.scope.child("control requests"),
            },
            &gate.config.links.service_token,
            peer_tls.server()?,
            &gate.scope,
        );
        Ok(Self {
            gate,
            readiness,
            node: Mutex::new(Some(node)),
            uplink,
            shutdown,
            speech: agent.speech,
        })
    }

    /// `/ws` and `/telephony/ws`, without conventions applied.
    pub fn router(&self) -> Router {
        transport::router(self.gate.clone())
    }

    /// Not ready while full or draining.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// What happens in all calls from now on.
    pub fn events(&self) -> broadcast::Receiver<(Arc<str>, Notice)> {
        self.gate.calls.events()
    }

    /// Local speech, when a configured provider uses it.
    pub fn speech(&self) -> Option<&Arc<speech::SpeechEngine>> {
        self.speech.as_ref()
    }

    /// Calls and reservations.
    pub fn sessions(&self) -> usize {
        self.gate.calls.load().sessions
    }

    /// Leaves the fleet as [`Node::drain`] says; a second call does nothing. Sockets are let in meanwhile, to be passed on
    /// to other nodes: [`finish_relays`](Self::finish_relays) waits for those.
    pub async fn drain(&self) -> Option<Drained> {
        let node = self.node.lock().await.take()?;
        Some(node.drain(&self.shutdown, &self.uplink).await)
    }

    /// Waits for the sockets that are passed on to other nodes, as long as calls are waited for. To be called when the
    /// public listener is closed: as long as a balancer finds it, there are always more of them.
    pub async fn finish_relays(&self) {
        let since = self.gate.calls.load().draining_since.unwrap_or_else(Instant::now);
        let limit = Duration::from_secs(self.gate.config.media.drain_timeout_secs);
        tokio::select! {
            () = self.gate.relays.wait_empty() => {}
            () = tokio::time::sleep_until(since + limit) => {}
            () = self.shutdown.hurried() => {}
        }
    }
}

fn redactor(transcripts: &config::Transcripts) -> Option<Arc<Redactor>> {
    let kinds = transcripts.redact.iter().map(|kind| match kind {
        config::Redact::Card => Kind::Card,
        config::Redact::Phone => Kind::Phone,
        config::Redact::Email => Kind::Email,
    });
    Redactor::new(kinds.collect(), transcripts.redact_patterns.clone()).map(Arc::new)
}

fn watch_readiness(scope: &TaskScope, calls: &Calls, readiness: &Readiness) {
    const DRAINING: &str = "draining";
    const SESSIONS: &str = "sessions";
    let (readiness, mut changes, watched) = (readiness.clone(), calls.load_changes(), scope.clone());
    scope.spawn("readiness", async move {
        loop {
            let load = *changes.borrow_and_update();
            if load.is_draining() {
                readiness.not_ok(DRAINING, "this node takes no new sessions");
            }
            if load.is_full() {
                readiness.not_ok(SESSIONS, format!("all {} slots are taken", load.capacity));
            } else {
                readiness.ok(SESSIONS);
            }
            tokio::select! {
                () = watched.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    });
}

/// A node that cannot record gets no new callers: it would only send them away.
fn watch_outbox(scope: &TaskScope, mut refusal: watch::Receiver<Option<String>>, readiness: &Readiness) {
    const OUTBOX: &str = "outbox";
    let (readiness, watched) = (readiness.clone(), scope.clone());
    scope.spawn("outbox readiness", async move {
        loop {
            match refusal.borrow_and_update().clone() {
                Some(why) => readiness.not_ok(OUTBOX, why),
                None => readiness.ok(OUTBOX),
            }
            tokio::select! {
                () = watched.cancelled() => return,
                changed = refusal.changed() => if changed.is_err() { return },
            }
        }
    });
}
