//! archiver-svc: takes what was said and heard from the media nodes over gRPC, and puts transcripts into SQL and
//! recordings into S3 or a local folder.
//!
//! It owns nothing durable. An event is acknowledged *durable* only when its row is committed and its audio stored;
//! until then the node keeps it and sends it again, to this archiver or another one.

mod backoff;
mod ingest;
mod metrics;
mod query;
mod recordings;
mod register;
mod transcripts;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use service_kit::config::Config;
use service_kit::exit::Fatal;
use service_kit::grpc::{self, Incoming, PeerTls, RequireToken};
use service_kit::health::Readiness;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::{AbortOnDrop, TaskScope};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use voxray_proto::archive::archive_query_server::ArchiveQueryServer;
use voxray_proto::archive::archive_service_server::ArchiveServiceServer;

use crate::ingest::{Archive, FinishedSessions, IngestService, Nodes};
use crate::query::QueryService;
use crate::recordings::{RecordingStore, Recordings, SpoolDir, UploadQueue};
use crate::register::Register;
pub use crate::transcripts::{
    Batch, End, Erasure, Latency, Page, Row, SessionRow, Start, StoreError, Timing, TranscriptStore,
};

/// How often what is too old is erased.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// Largest message: one second of 48 kHz stereo is 192 000 bytes.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes a node may have on the way before it waits for us to read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// What may differ from the usual.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Without a stream for this long a node counts as dead; `None` = `archiver.node_timeout_secs`.
    pub node_dead_after: Option<Duration>,
    /// How often what is too old is erased; `None` = [`RETENTION_INTERVAL`].
    pub retention_interval: Option<Duration>,
    /// Signs S3 requests; `None` = the AWS standard chain (environment, profile, role).
    pub s3_credentials: Option<aws_sdk_s3::config::Credentials>,
    /// Length of a part of a recording in a local folder, bytes, a multiple of 4; `None` = 1 MiB.
    pub folder_part_bytes: Option<u64>,
}

/// A running archiver.
pub struct Archiver {
    address: SocketAddr,
    readiness: Readiness,
    transcripts: Option<Arc<dyn TranscriptStore>>,
    stopped: CancellationToken,
}

impl Archiver {
    /// Checks SQL, the object store and the spool folder, then serves `listener` until `shutdown` asks to drain.
    ///
    /// Draining ends the nodes' streams (they reconnect elsewhere and send again) and finishes the uploads that are
    /// queued; hurrying stops at once. In one process with a media node, drain that first.
    ///
    /// # Errors
    /// Whatever stands in the way at start, with what to do about it: a bad DSN or missing credentials
    /// ([`service_kit::exit::CONFIG`]), a database, bucket or S3 that refuses ([`service_kit::exit::UNAVAILABLE`]), a folder that cannot be
    /// written ([`service_kit::exit::CANNOT_CREATE`]). Later outages are waited out.
    pub async fn start(
        config: Arc<Config>,
        listener: TcpListener,
        scope: TaskScope,
        shutdown: Shutdown,
    ) -> Result<Self, Fatal> {
        Self::start_with(config, listener, scope, shutdown, Options::default()).await
    }

    /// [`start`](Self::start) with other than the usual [`Options`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(
        config: Arc<Config>,
        listener: TcpListener,
        scope: TaskScope,
        shutdown: Shutdown,
        options: Options,
    ) -> Result<Self, Fatal> {
        metrics::declare();
        let server = PeerTls::load(&config.links)?.server()?;
        let transcripts = transcripts::open(&config).await?;
        let store = RecordingStore::open(&config, options.s3_credentials, options.folder_part_bytes).await?;
        let recordings = match store.map(Arc::new) {
            Some(store) => Some(Recordings {
                store,
                spools: SpoolDir::open(&config.archiver.spool_dir)?,
            }),
            None => None,
        };
        let (address, incoming) = grpc::incoming(listener, &config.http.connections, "archiver.port")?;
        let register = Register {
            transcripts: transcripts.clone(),
            recordings: recordings.as_ref().map(|recordings| Arc::clone(&recordings.store)),
        };
        let finished = Arc::new(FinishedSessions::default());
        let archive = Arc::new(Archive {
            transcripts: transcripts.clone(),
            recordings,
            register: register.clone(),
            queue: Arc::new(UploadQueue::new(config.recording.queue_cap)),
            id: uuid::Uuid::new_v4().to_string(),
            finished: Arc::clone(&finished),
            shutdown: shutdown.clone(),
        });
        let node_timeout = Duration::from_secs_f64(config.archiver.node_timeout_secs);
        let dead_after = options.node_dead_after.unwrap_or(node_timeout);
        let readiness = Readiness::new();
        readiness.ok("archiver");
        let stopped = CancellationToken::new();
        let run = Run {
            config,
            archive,
            register,
            retention_interval: options.retention_interval.unwrap_or(RETENTION_INTERVAL),
            nodes: Arc::new(Nodes::new(dead_after, finished)),
            scope: scope.clone(),
            shutdown,
            readiness: readiness.clone(),
            stopped: stopped.clone(),
            server,
        };
        scope.spawn("archiver", run.run(incoming));
        Ok(Self {
            address,
            readiness,
            transcripts,
            stopped,
        })
    }

    /// Address of the gRPC listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether nodes should connect here.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Reads rows back; `None` when transcripts are off.
    pub fn transcripts(&self) -> Option<Arc<dyn TranscriptStore>> {
        self.transcripts.clone()
    }

    /// Resolves when everything has ended after a shutdown.
    pub async fn stopped(self) {
        self.stopped.cancelled().await;
    }
}

struct Run {
    config: Arc<Config>,
    archive: Arc<Archive>,
    register: Register,
    retention_interval: Duration,
    nodes: Arc<Nodes>,
    scope: TaskScope,
    shutdown: Shutdown,
    readiness: Readiness,
    stopped: CancellationToken,
    server: Server,
}

impl Run {
    async fn run(self, incoming: Incoming) {
        // Whatever way this ends, nobody waits for ever.
        let _stopped = self.stopped.clone().drop_guard();
        let streams = self.scope.child("streams");
        let writers = self.scope.child("writers");
        let uploads = self.scope.child("uploads");
        let _uploaders = self.start_uploaders(&uploads);
        let _sweeper = self.start_sweeper();
        let closing = self.scope.child("closing");
        let housekeeping = (self.start_housekeeping(closing.clone()), self.start_retention());
        let stop_now = async {
            tokio::select! {
                () = self.shutdown.hurried() => {}
                () = self.scope.cancelled() => {}
            }
        };
        let orderly = async {
            let note_drain = async {
                self.shutdown.draining().await;
                self.nodes.note_drain();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = self.serve(incoming, streams.clone(), writers.clone()) => {}
                () = note_drain => {}
            }
            self.nodes.note_drain();
            self.readiness.not_ok("archiver", "shutting down");
            streams.join().await;
            drop(housekeeping);
            for node in self.nodes.take_gone() {
                self.archive.close_dead(&node).await;
            }
            closing.join().await;
            self.nodes.close_rows();
            writers.join().await;
            self.archive.queue.close();
            uploads.join().await;
        };
        tokio::select! {
            () = orderly => tracing::info!("archiver stopped; everything acknowledged is stored"),
            () = stop_now => tracing::warn!("archiver stopped at once; nodes send again what was not acknowledged"),
        }
        streams.cancel();
        writers.cancel();
        if let Some(recordings) = &self.archive.recordings {
            recordings.spools.release();
        }
        if let Some(transcripts) = &self.archive.transcripts {
            transcripts.close().await;
        }
    }

    async fn serve(&self, incoming: Incoming, streams: TaskScope, writers: TaskScope) {
        let ingest = IngestService::new(
            Arc::clone(&self.archive),
            Arc::clone(&self.nodes),
            streams,
            writers,
            self.shutdown.clone(),
        );
        let service = ArchiveServiceServer::new(ingest).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let token = RequireToken::new(&self.config.links.service_token);
        let service = InterceptedService::new(service, token.clone());
        let readers = self.scope.child("readers");
        let query = QueryService::new(self.register.clone(), readers, self.shutdown.clone());
        let query = InterceptedService::new(ArchiveQueryServer::new(query), token);
        let served = self
            .server
            .clone()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
            .add_service(service)
            .add_service(query)
            .serve_with_incoming_shutdown(incoming, self.shutdown.draining())
            .await;
        if let Err(error) = served {
            tracing::error!(error = recordings::chain(&error), "the archiver's listener failed");
        }
    }

    fn start_uploaders(&self, scope: &TaskScope) -> Vec<AbortOnDrop> {
        let Some(recordings) = &self.archive.recordings else {
            return Vec::new();
        };
        (0..self.config.recording.worker_count.max(1))
            .map(|_| {
                let uploader = recordings::run_uploader(
                    Arc::clone(&recordings.store),
                    self.register.clone(),
                    Arc::clone(&self.archive.queue),
                    self.config.recording.max_retries,
                    self.shutdown.clone(),
                );
                // Each in a scope of its own: a panic over one recording must not end the others.
                scope.child("uploader").spawn_owned("recording upload", uploader)
            })
            .collect()
    }

    fn start_retention(&self) -> AbortOnDrop {
        let keep = query::keep_retention(
            self.register.clone(),
            self.config.archiver.retention_days,
            self.retention_interval,
            self.shutdown.clone(),
        );
        self.scope.child("retention").spawn_owned("archive retention", keep)
    }

    fn start_sweeper(&self) -> Option<AbortOnDrop> {
        let recordings = self.archive.recordings.as_ref()?;
        let sweeper = recordings::run_sweeper(
            Arc::clone(&recordings.store),
            self.register.clone(),
            Arc::clone(&recordings.spools),
            Duration::from_secs(self.config.recording.upload_max_age_secs),
            self.shutdown.clone(),
        );
        Some(self.scope.child("sweeper").spawn_owned("sweeping uploads", sweeper))
    }

    fn start_housekeeping(&self, closing: TaskScope) -> AbortOnDrop {
        let (archive, nodes) = (Arc::clone(&self.archive), Arc::clone(&self.nodes));
        self.scope
            .child("housekeeping")
            .spawn_owned("archive housekeeping", async move {
                let mut tick = tokio::time::interval(ingest::HOUSEKEEPING);
                loop {
                    tick.tick().await;
                    metrics::update_lag();
                    for node in nodes.take_dead() {
                        let archive = Arc::clone(&archive);
                        // A full queue must not keep the rest of this loop waiting.
                        closing.spawn(
                            "closing a node's recordings",
                            async move { archive.close_dead(&node).await },
                        );
                    }
                }
            })
    }
}
