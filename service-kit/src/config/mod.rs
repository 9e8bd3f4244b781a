//! The one configuration schema of all services, and how it is loaded: file, then environment, then flags.
//!
//! Everything is parsed and checked before any port is bound; every problem is reported at once.

mod build;
mod connections;
mod docs;
mod ice;
mod keys;
mod listeners;
mod load;
mod recording;
mod schema;
mod secret;
mod sources;
mod store;
mod transcripts;
mod unsupported;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

pub use connections::{ConnectionLimits, Otlp};
pub use docs::{json_schema, json_schema_text, markdown};
pub use ice::IceServer;
pub use load::{ConfigError, Loaded, Problem, Profile, Sources, load, reload};
pub use recording::{AudioFormat, RecordingTag, S3Encryption};
pub use schema::{Key, Kind, SCHEMA, find};
pub use secret::{Secret, Secrets};
pub use store::{RedisTls, Store, StoreKind};
pub use transcripts::{Redact, TranscriptDriver, Transcripts};

use crate::networks::Networks;

/// The whole effective configuration. Cheap to clone behind an `Arc`; secrets can be re-read while it lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// Public listener, CORS, body limit.
    pub http: Http,
    /// Log level and format.
    pub log: Log,
    /// Where traces go.
    pub otlp: Otlp,
    /// `GET /metrics` answers 204 when false.
    pub metrics_enabled: bool,
    /// Where this process is, for placement.
    pub zone: Option<String>,
    /// What clients may connect with.
    pub transport: ClientTransport,
    /// WebRTC settings handed to clients and used by media nodes.
    pub webrtc: WebRtc,
    /// Where sessions, nodes, idempotency keys and tokens live.
    pub store: Store,
    /// Buffers between transport and pipeline.
    pub pipeline: Pipeline,
    /// Providers, models, voice, prompt.
    pub agent: Agent,
    /// Voice activity, end of turn, interruptions.
    pub turn: TurnTaking,
    /// Phone providers.
    pub telephony: Telephony,
    /// What one client may start.
    pub limits: Limits,
    /// The media node.
    pub media: Media,
    /// Recording of calls.
    pub recording: Recording,
    /// S3 endpoint.
    pub s3: S3,
    /// Transcript rows.
    pub transcripts: Transcripts,
    /// The node's durable queue of archive events.
    pub outbox: Outbox,
    /// The archiver's listener.
    pub archiver: Archiver,
    /// How services find and trust each other.
    pub links: Links,
    /// Folder for everything kept on local disk by default (`data_dir`).
    pub data_dir: PathBuf,
    /// API keys and tokens; re-read on SIGHUP.
    pub secrets: Arc<Secrets>,
}

/// Public listener.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address to bind.
    pub host: IpAddr,
    /// Port to bind; 0 = any free one.
    pub port: u16,
    /// Where operators are served; `None` = on the public listener.
    pub admin: Option<SocketAddr>,
    /// Certificate and key when TLS is on.
    pub tls: Option<Tls>,
    /// Origins that are reflected; empty = no CORS and no origin check.
    pub cors_allowed_origins: Vec<String>,
    /// Largest accepted body in bytes; 0 = no limit.
    pub max_request_body_bytes: usize,
    /// What a client may take up, and for how long.
    pub connections: ConnectionLimits,
    /// `telephony.trusted_proxies`: peers who speak for others, and whose `X-Forwarded-*` headers are believed.
    pub trusted_proxies: Networks,
}

/// PEM files of the public listener; re-read when they change.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificate chain.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}

/// Log output.
#[derive(Debug, Clone)]
pub struct Log {
    /// `debug`, `info`, `warn`, `error`.
    pub level: tracing::Level,
    /// One JSON object a line.
    pub json: bool,
}

/// Client transports that are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTransport {
    /// `/ws` only.
    WebSocket,
    /// WebRTC only.
    SmallWebRtc,
    /// Both.
    Both,
}

/// WebRTC settings.
#[derive(Debug, Clone)]
pub struct WebRtc {
    /// STUN and TURN servers.
    pub ice_servers: Vec<IceServer>,
    /// Session limit in seconds after the first inbound audio; 0 = none.
    pub max_duration_secs: f64,
}

/// Buffers on the hot path.
#[derive(Debug, Clone, Copy)]
pub struct Pipeline {
    /// Frames between transport and pipeline; when full the socket is not read.
    pub input_queue_cap: usize,
    /// Window in milliseconds in which socket writes are batched; 0 = off.
    pub ws_write_coalesce_ms: u64,
    /// Most frames in a batch.
    pub ws_write_coalesce_max_frames: usize,
}

/// What the agent is made of.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Speech-to-text provider (`local`, `openai`, …).
    pub stt_provider: String,
    /// Language-model provider.
    pub llm_provider: String,
    /// Text-to-speech provider.
    pub tts_provider: String,
    /// Language model; `None` = the provider's default.
    pub model: Option<String>,
    /// Speech-to-text model.
    pub stt_model: Option<String>,
    /// BCP 47 language hint for recognition.
    pub stt_language: Option<String>,
    /// Text-to-speech model.
    pub tts_model: Option<String>,
    /// Voice.
    pub tts_voice: Option<String>,
    /// System prompt; `{{name}}` is replaced from the session's body.
    pub system_prompt: Option<String>,
    /// First sentence; `Some("")` = the caller speaks first.
    pub greeting: Option<String>,
    /// JSON facts file of the `local` language model.
    pub local_facts_file: Option<PathBuf>,
    /// `<provider>.base_url`, keyed by provider name.
    pub base_urls: std::collections::BTreeMap<String, String>,
}

/// Voice activity and turn taking. Defaults live in the schema.
#[derive(Debug, Clone)]
pub struct TurnTaking {
    /// How the end of a turn is found.
    pub detection: TurnDetection,
    /// Silence that ends a turn, seconds.
    pub stop_secs: f64,
    /// Audio kept from before speech was detected, milliseconds.
    pub pre_speech_ms: u64,
    /// Longest turn before it is closed anyway, seconds.
    pub max_duration_secs: f64,
    /// Speech probability that counts as voice, 0–1.
    pub vad_confidence: f64,
    /// Voice needed before speech has started, seconds.
    pub vad_start_secs: f64,
    /// Silence needed before speech has stopped, seconds.
    pub vad_stop_secs: f64,
    /// Volume below which nothing counts as voice, 0–1.
    pub vad_min_volume: f64,
    /// Seconds after which a turn ends when nothing at all arrives any more (a muted microphone sends nothing).
    pub user_turn_stop_timeout_secs: f64,
    /// Seconds of caller silence after which the agent asks whether they are there; 0 = never.
    pub user_idle_timeout_secs: f64,
    /// Whether the caller may cut the agent off.
    pub allow_interruptions: bool,
    /// What it takes to cut the agent off.
    pub interruption_strategy: InterruptionStrategy,
    /// Words needed with `min_words`.
    pub min_words: u32,
}

/// End-of-turn detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnDetection {
    /// The client decides.
    None,
    /// A stretch of silence.
    Silence,
    /// Silence, stretched or shrunk by a model.
    Smart,
}

/// What interrupts the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptionStrategy {
    /// Any voice.
    None,
    /// At least `min_words` recognised words.
    MinWords,
    /// A keyword.
    Keyword,
}

/// Phone providers.
#[derive(Debug, Clone)]
pub struct Telephony {
    /// `runner_transport`: the provider that `POST /` serves; empty accepts each on its own path only.
    pub runner_transport: String,
    /// Public host name of this deployment, as providers call it.
    pub proxy_host: Option<String>,
    /// Base URL given to providers and clients for media (`wss://…`), may hold `{node}`.
    pub media_public_url: Option<String>,
    /// Whether webhook signatures are checked when the secret is set.
    pub verify_signatures: bool,
    /// What callers hear when nobody takes their call.
    pub busy_message: String,
    /// Where the provider asks for another document instead.
    pub busy_redirect_url: Option<String>,
    /// Numbers that outbound calls may come from; empty = any.
    pub outbound_from: Vec<String>,
    /// Telnyx public key, 32 bytes; checked at start.
    pub telnyx_public_key: Option<Vec<u8>>,
    /// Secret in the URLs that Exotel calls.
    pub exotel_webhook_secret: Option<Secret>,
    /// Twilio account SID.
    pub twilio_account_sid: Option<String>,
    /// Client secret of the Genesys AudioHook integration, in base64 as Genesys shows it.
    pub genesys_client_secret: Option<Secret>,
    /// Accounts at the providers' APIs.
    pub accounts: PhoneAccounts,
    /// Longest wait for an answer of a provider's API, seconds, each attempt.
    pub request_timeout_secs: f64,
    /// Where the agent may transfer calls to; the first is the default.
    pub transfer_to: Vec<String>,
    /// How long a transferred call rings, seconds.
    pub transfer_ring_secs: u32,
    /// What becomes of a caller whom nobody takes.
    pub transfer_not_taken: TransferNotTaken,
    /// Whether a machine that answers an outbound call is told from a person.
    pub machine_detection: bool,
    /// What is said to an answering machine; `None` = nothing, the call ends.
    pub voicemail_message: Option<String>,
}

/// What becomes of a caller whose transfer nobody takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferNotTaken {
    /// Back to the agent.
    Agent,
    /// `telephony.busy_message`, and the end.
    Goodbye,
}

/// Accounts at the phone providers' APIs; tokens are among the secrets.
#[derive(Debug, Clone, Default)]
pub struct PhoneAccounts {
    /// Telnyx Voice API application (connection) that places calls.
    pub telnyx_connection_id: Option<String>,
    /// Plivo auth id.
    pub plivo_auth_id: Option<String>,
    /// Exotel account SID.
    pub exotel_account_sid: Option<String>,
    /// Exotel API key.
    pub exotel_api_key: Option<String>,
    /// Exotel API host of the account's region.
    pub exotel_subdomain: String,
    /// Exotel flow that answers outbound calls.
    pub exotel_app_id: Option<String>,
    /// Vonage application id.
    pub vonage_application_id: Option<String>,
    /// PEM private key of the Vonage application.
    pub vonage_private_key: Option<Secret>,
}

/// What one client may start; 0 = no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Live sessions of one API key.
    pub sessions_per_key: u32,
    /// Starts of one API key in a minute.
    pub starts_per_minute: u32,
    /// Starts from one address in a minute.
    pub starts_per_minute_per_address: u32,
}

impl Limits {
    /// Whether anything is limited: then no session may begin that is not counted.
    pub fn any(self) -> bool {
        let Self {
            sessions_per_key,
            starts_per_minute,
            starts_per_minute_per_address,
        } = self;
        [sessions_per_key, starts_per_minute, starts_per_minute_per_address]
            .iter()
            .any(|most| *most > 0)
    }
}

/// A media node.
#[derive(Debug, Clone)]
pub struct Media {
    /// Name of this node; default: host name and a random suffix.
    pub node_id: Option<String>,
    /// Most sessions; 0 = by cores.
    pub max_sessions: usize,
    /// Whether the node lowers its capacity to what it can carry.
    pub measure_capacity: bool,
    /// What the agent says before it ends a call that outlasts the drain.
    pub drain_message: Option<String>,
    /// Longest wait for running calls on shutdown, seconds.
    pub drain_timeout_secs: u64,
    /// Longest wait for the archive to take what is left in the outbox, seconds.
    pub flush_timeout_secs: u64,
    /// What this node serves.
    pub transports: Vec<MediaTransport>,
    /// Port of the gRPC control listener; 0 = any free one.
    pub control_port: u16,
    /// UDP port of WebRTC media; 0 = any free one.
    pub udp_port: u16,
    /// Public addresses told to WebRTC clients; empty = the machine's own.
    pub nat_ips: Vec<IpAddr>,
    /// Seconds without any message after which a phone socket is dead.
    pub socket_silence_secs: f64,
    /// Threads for local speech models; 0 = by cores.
    pub speech_threads: usize,
}

/// What a pool of media nodes may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaTransport {
    /// `/telephony/ws`
    Telephony,
    /// `/ws`
    WebSocket,
    /// WebRTC
    WebRtc,
}

/// Recording.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Whether calls are recorded.
    pub enable: bool,
    /// S3 bucket; `None` = the local folder.
    pub bucket: Option<String>,
    /// Local folder used when there is no bucket.
    pub folder: PathBuf,
    /// Key prefix.
    pub base_path: String,
    /// File format.
    pub format: AudioFormat,
    /// 1 = mono mix, 2 = stereo (caller left, agent right).
    pub channels: u8,
    /// Whether what is taken out of transcripts is silent in recordings.
    pub mute_redacted: bool,
    /// Parallel uploads.
    pub worker_count: usize,
    /// Upload jobs waiting or at work; a full queue holds senders back.
    pub queue_cap: usize,
    /// Quick retries before a job goes back to the durable queue.
    pub max_retries: u32,
    /// Tags of stored objects.
    pub tags: Vec<RecordingTag>,
    /// An upload that nobody has worked on for this many seconds is closed or aborted.
    pub upload_max_age_secs: u64,
}

/// S3 endpoint; credentials come from the AWS standard chain.
#[derive(Debug, Clone)]
pub struct S3 {
    /// Endpoint of an S3-compatible store; `None` = AWS.
    pub endpoint: Option<String>,
    /// The same as clients reach it; `None` = as [`endpoint`](Self::endpoint).
    pub public_endpoint: Option<String>,
    /// Region.
    pub region: String,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`.
    pub force_path_style: bool,
    /// Encryption asked for with every object.
    pub encryption: S3Encryption,
    /// KMS key; `None` = the account's.
    pub kms_key_id: Option<String>,
}

/// The durable queue between calls and archive.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Its folder.
    pub dir: PathBuf,
    /// Limit on disk in bytes; when reached, new recorded calls are refused.
    pub max_bytes: u64,
}

/// The archiver's own listener.
#[derive(Debug, Clone)]
pub struct Archiver {
    /// gRPC port; 0 = any free one.
    pub port: u16,
    /// Folder for recordings in the making.
    pub spool_dir: PathBuf,
    /// Days after which transcript and recording of a call are deleted; 0 = never.
    pub retention_days: u32,
    /// Without a stream for this many seconds a media node counts as dead.
    pub node_timeout_secs: f64,
}

/// PEM files of mutual TLS between services; read at start.
#[derive(Debug, Clone)]
pub struct PeerTlsFiles {
    /// Certificate chain that this service shows, as server and as client.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Authority that has signed the peers' certificates.
    pub ca_file: PathBuf,
}

/// Addresses and trust between services.
#[derive(Debug, Clone)]
pub struct Links {
    /// Where media nodes send archive events, and where they are read back from (`http://archiver:9091`).
    pub archiver_url: Option<String>,
    /// Where this media node can be reached for control (`http://10.0.0.7:9090`); default: its bound address.
    pub media_control_url: Option<String>,
    /// `host:port` or URL under which this media node's sockets are reached when `media_public_url` is not set.
    pub media_advertise_url: Option<String>,
    /// Shared secret on all internal gRPC; also signs stream tokens.
    pub service_token: Secret,
    /// Certificates of mutual TLS on all internal gRPC; `None` = plain HTTP/2.
    pub tls: Option<PeerTlsFiles>,
}
