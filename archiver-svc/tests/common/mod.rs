//! An archiver on port 0 with SQLite and a folder, and a node that talks to it.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "every test file uses a part of it, and panics are how a test fails"
)]

mod call;

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archiver_svc::{Archiver, Options, Row, TranscriptStore};
use futures_util::FutureExt as _;
use service_kit::config::{self, Config, Secret};
use service_kit::exit::Fatal;
use service_kit::grpc::AttachToken;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use voxray_proto::archive::archive_service_client::ArchiveServiceClient;
use voxray_proto::archive::{Event, Hello, IngestRequest, IngestResponse, ingest_request, ingest_response};

pub use call::{Call, assert_rows};

pub const TOKEN: &str = "a token of the tests";

/// Folders and configuration that outlive an archiver.
pub struct Place {
    pub dir: TempDir,
    pub config: Config,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        Self { dir, config }
    }

    pub async fn start(&self) -> Running {
        self.try_start(Options::default())
            .await
            .unwrap_or_else(|fatal| panic!("{fatal}"))
    }

    pub async fn try_start(&self, options: Options) -> Result<Running, Fatal> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (scope, shutdown) = (TaskScope::root("test"), Shutdown::new());
        let config = Arc::new(self.config.clone());
        let archiver = Archiver::start_with(config, listener, scope.clone(), shutdown.clone(), options).await?;
        Ok(Running {
            address: archiver.address(),
            transcripts: archiver.transcripts(),
            archiver,
            shutdown,
            scope,
        })
    }

    pub fn recording(&self, session: &str) -> PathBuf {
        self.config
            .recording
            .folder
            .join(format!("recordings/2026/03/04/{session}.wav"))
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub archiver: Archiver,
    pub transcripts: Option<Arc<dyn TranscriptStore>>,
    pub shutdown: Shutdown,
    pub scope: TaskScope,
}

impl Running {
    pub async fn rows(&self, session: &str) -> Vec<Row> {
        self.transcripts.as_ref().unwrap().rows(session).await.unwrap()
    }

    /// Ends it in the middle of whatever it does.
    pub async fn kill(self) {
        self.shutdown.hurry_now();
        self.archiver.stopped().await;
        self.scope.join().await;
    }
}

/// A media node's side of the stream.
pub struct Node {
    requests: mpsc::Sender<IngestRequest>,
    responses: Streaming<IngestResponse>,
    pub received: HashMap<String, u64>,
    pub durable: HashMap<String, u64>,
}

impl Node {
    pub async fn connect(address: SocketAddr, node_id: &str) -> Self {
        let mut node = Self::without_hello(address, TOKEN).await.unwrap();
        node.hello(node_id).await;
        node
    }

    pub async fn without_hello(address: SocketAddr, token: &str) -> Result<Self, Status> {
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect()
            .await
            .unwrap();
        let service = InterceptedService::new(channel, AttachToken::new(&Secret::new(token)));
        let (requests, outgoing) = mpsc::channel(1024);
        let stream = ReceiverStream::new(outgoing);
        let responses = ArchiveServiceClient::new(service).ingest(stream).await?.into_inner();
        Ok(Self {
            requests,
            responses,
            received: HashMap::new(),
            durable: HashMap::new(),
        })
    }

    pub async fn hello(&mut self, node_id: &str) {
        let message = ingest_request::Message::Hello(Hello {
            node_id: node_id.to_owned(),
        });
        self.requests
            .send(IngestRequest { message: Some(message) })
            .await
            .unwrap();
    }

    pub async fn send(&mut self, event: &Event) {
        let message = Some(ingest_request::Message::Event(event.clone()));
        self.requests.send(IngestRequest { message }).await.unwrap();
    }

    pub async fn send_all(&mut self, events: &[Event]) {
        for event in events {
            self.send(event).await;
        }
    }

    /// Reads answers until this event of this session is acknowledged durable.
    pub async fn until_durable(&mut self, session: &str, sequence: u64) {
        while self.durable.get(session).is_none_or(|at| *at < sequence) {
            self.read().await.unwrap();
        }
    }

    pub async fn until_received(&mut self, session: &str, sequence: u64) {
        while self.received.get(session).is_none_or(|at| *at < sequence) {
            self.read().await.unwrap();
        }
    }

    /// Reads answers until the archiver ends the stream, and returns why.
    pub async fn until_closed(&mut self) -> Status {
        loop {
            if let Err(status) = self.read().await {
                return status;
            }
        }
    }

    /// Takes the answers that have come by now.
    pub async fn read_what_is_there(&mut self) {
        tokio::task::yield_now().await;
        while let Some(Ok(())) = self.read().now_or_never() {}
    }

    async fn read(&mut self) -> Result<(), Status> {
        let next = self.responses.message().await?;
        match next.ok_or_else(|| Status::ok("ended"))?.message.unwrap() {
            ingest_response::Message::Received(ack) => self.received.insert(ack.session_id, ack.sequence),
            ingest_response::Message::Durable(ack) => self.durable.insert(ack.session_id, ack.sequence),
        };
        Ok(())
    }
}

/// Value of a metric without labels, or of one with exactly these (`name{kind="turn"}`); 0 when absent.
pub fn metric(name: &str) -> f64 {
    let text = service_kit::metrics::render();
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value).unwrap_or(0.0)
}

/// Lets the runtime work until something outside of this test's reach has happened.
pub async fn until(mut happened: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(std::time::Duration::from_millis(5));
    while !happened() {
        look.tick().await;
    }
}

/// SQLite and a folder below `dir`.
pub fn config(dir: &Path) -> Config {
    Config {
        otlp: config::Otlp {
            ca_file: None,
            headers: Vec::new(),
            endpoint: None,
            sample_ratio: 1.0,
        },
        http: config::Http {
            connections: config::ConnectionLimits::default(),
            trusted_proxies: service_kit::networks::Networks::default(),
            host: [127, 0, 0, 1].into(),
            port: 0,
            admin: None,
            tls: None,
            cors_allowed_origins: Vec::new(),
            max_request_body_bytes: 262_144,
        },
        log: config::Log {
            level: tracing::Level::INFO,
            json: false,
        },
        metrics_enabled: true,
        transport: config::ClientTransport::Both,
        webrtc: config::WebRtc {
            ice_servers: Vec::new(),
            max_duration_secs: 0.0,
        },
        store: config::Store {
            kind: config::StoreKind::Memory,
            session_ttl_secs: 3600,
        },
        pipeline: config::Pipeline {
            input_queue_cap: 256,
            ws_write_coalesce_ms: 0,
            ws_write_coalesce_max_frames: 10,
        },
        agent: config::Agent {
            stt_provider: "local".to_owned(),
            llm_provider: "local".to_owned(),
            tts_provider: "local".to_owned(),
            model: None,
            stt_model: None,
            stt_language: None,
            tts_model: None,
            tts_voice: None,
            system_prompt: None,
            greeting: None,
            local_facts_file: None,
            base_urls: BTreeMap::new(),
        },
        turn: config::TurnTaking {
            detection: config::TurnDetection::Silence,
            stop_secs: 0.8,
            pre_speech_ms: 300,
            max_duration_secs: 60.0,
            vad_confidence: 0.5,
            vad_start_secs: 0.1,
            vad_stop_secs: 0.2,
            vad_min_volume: 0.0,
            user_turn_stop_timeout_secs: 5.0,
            user_idle_timeout_secs: 0.0,
            allow_interruptions: true,
            interruption_strategy: config::InterruptionStrategy::None,
            min_words: 1,
        },
        telephony: config::Telephony {
            runner_transport: String::new(),
            proxy_host: None,
            media_public_url: None,
            verify_signatures: true,
            busy_message: String::new(),
            busy_redirect_url: None,
            outbound_from: Vec::new(),
            telnyx_public_key: None,
            exotel_webhook_secret: None,
            twilio_account_sid: None,
            accounts: config::PhoneAccounts {
                exotel_subdomain: "api.exotel.com".to_owned(),
                ..config::PhoneAccounts::default()
            },
            request_timeout_secs: 5.0,
            transfer_to: Vec::new(),
            transfer_ring_secs: 30,
            transfer_not_taken: config::TransferNotTaken::Agent,
            machine_detection: false,
            voicemail_message: None,
            genesys_client_secret: None,
        },
        limits: config::Limits::default(),
        zone: None,
        media: config::Media {
            measure_capacity: false,
            drain_message: None,
            udp_port: 0,
            nat_ips: Vec::new(),
            node_id: None,
            max_sessions: 0,
            drain_timeout_secs: 3600,
            flush_timeout_secs: 20,
            transports: Vec::new(),
            control_port: 0,
            socket_silence_secs: 30.0,
            speech_threads: 0,
        },
        recording: config::Recording {
            enable: true,
            bucket: None,
            folder: dir.join("recorded"),
            base_path: "recordings/".to_owned(),
            format: config::AudioFormat::Wav,
            channels: 2,
            mute_redacted: false,
            worker_count: 2,
            queue_cap: 32,
            max_retries: 3,
            tags: Vec::new(),
            upload_max_age_secs: 86_400,
        },
        s3: config::S3 {
            endpoint: None,
            public_endpoint: None,
            region: "us-east-1".to_owned(),
            force_path_style: true,
            encryption: config::S3Encryption::None,
            kms_key_id: None,
        },
        transcripts: config::Transcripts {
            enable: true,
            driver: config::TranscriptDriver::Sqlite,
            dsn: Secret::new(format!("sqlite://{}", dir.join("db/transcripts.db").display())),
            table_name: "call_transcripts".to_owned(),
            extended: false,
            redact: Vec::new(),
            redact_patterns: Vec::new(),
        },
        outbox: config::Outbox {
            dir: dir.join("outbox"),
            max_bytes: 1 << 30,
        },
        archiver: config::Archiver {
            port: 0,
            spool_dir: dir.join("spool"),
            node_timeout_secs: 30.0,
            retention_days: 0,
        },
        links: config::Links {
            archiver_url: None,
            media_control_url: None,
            media_advertise_url: None,
            service_token: Secret::new(TOKEN),
            tls: None,
        },
        data_dir: dir.to_owned(),
        secrets: Arc::default(),
    }
}
