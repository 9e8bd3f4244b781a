//! The table of keys: a row each with type, default, other names and meaning.

use super::schema::Key;
use super::schema::Kind::{self, Bool, Choice, ChoiceList, Float, IceServers, Int, List, Path, Text, Url};

const PORT: Kind = Int { min: 0, max: 65_535 };
const COUNT: Kind = Int { min: 0, max: 1_000_000 };
/// A minute has this many milliseconds, the unit in which rates are kept.
const RATE: Kind = Int { min: 0, max: 60_000 };
const AT_LEAST_ONE: Kind = Int { min: 1, max: 1_000_000 };
const BYTES: Kind = Int { min: 0, max: i64::MAX };
/// Seconds, up to a day.
const SECONDS: Kind = Float {
    min: 0.0,
    max: 86_400.0,
};
/// Whole seconds, up to a year.
const WHOLE_SECONDS: Kind = Int {
    min: 0,
    max: 31_536_000,
};
/// Time-outs of connections, in seconds.
const PATIENCE: Kind = Float { min: 0.05, max: 3600.0 };
const FRACTION: Kind = Float { min: 0.0, max: 1.0 };
const HTTP_SCHEMES: &[&str] = &["http", "https"];
const SOCKET_SCHEMES: &[&str] = &["wss", "ws", "https", "http"];

/// Schemes of `<provider>.base_url`; providers that speak over sockets take `ws` and `wss`.
pub(super) const PROVIDER_SCHEMES: &[&str] = &["https", "http", "wss", "ws"];

/// A provider of speech, language or telephony that has a key.
pub(super) struct Provider {
    /// As in `api_keys.<name>`.
    pub(super) name: &'static str,
    /// The variables its own tools read.
    pub(super) key_env: &'static [&'static str],
    /// What the key is called there.
    pub(super) key_meaning: &'static str,
}

const fn provider(name: &'static str, key_env: &'static [&'static str], key_meaning: &'static str) -> Provider {
    Provider {
        name,
        key_env,
        key_meaning,
    }
}

/// Names are known before the provider can be chosen, so that a key for it can be kept in the same file.
#[rustfmt::skip]
pub(super) const PROVIDERS: &[Provider] = &[
    provider("openai", &["OPENAI_API_KEY"], "OpenAI API key."),
    provider("anthropic", &["ANTHROPIC_API_KEY"], "Anthropic API key."),
    provider("google", &["GOOGLE_API_KEY", "GEMINI_API_KEY"], "Google AI API key."),
    provider("groq", &["GROQ_API_KEY"], "Groq API key."),
    provider("mistral", &["MISTRAL_API_KEY"], "Mistral API key."),
    provider("deepgram", &["DEEPGRAM_API_KEY"], "Deepgram API key."),
    provider("assemblyai", &["ASSEMBLYAI_API_KEY"], "AssemblyAI API key."),
    provider("elevenlabs", &["ELEVENLABS_API_KEY"], "ElevenLabs API key."),
    provider("cartesia", &["CARTESIA_API_KEY"], "Cartesia API key."),
    provider("twilio", &["TWILIO_AUTH_TOKEN"], "Twilio auth token: checks webhook signatures, ends calls."),
    provider("telnyx", &["TELNYX_API_KEY"], "Telnyx API key."),
    provider("plivo", &["PLIVO_AUTH_TOKEN"], "Plivo auth token."),
    provider("exotel", &["EXOTEL_API_TOKEN"], "Exotel API token."),
    provider("vonage", &["VONAGE_SIGNATURE_SECRET"], "Vonage signature secret: checks webhook signatures."),
    provider("genesys", &["GENESYS_API_KEY"], "Genesys AudioHook API key."),
];

/// Every key that does not depend on a provider's name.
#[rustfmt::skip]
pub(super) const FIXED: &[Key] = &[
    // Public listener
    Key::new("host", Text, "Address to listen on: an IP address or `localhost`.").or("0.0.0.0").env(&["HOST"]),
    Key::new("port", PORT, "Public port; 0 = any free one.").or("8080").env(&["PORT"]),
    Key::new("admin.host", Text, "Address of the operators' listener, an IP address or `localhost`; unset = `host`."),
    Key::new("admin.port", PORT, "Port of a listener for operators, plain HTTP: metrics, health and admin routes. These, but for health, are then not on the public port; unset = they are, and admin routes answer this machine alone or who has a `server_api_key`."),
    Key::new("tls_enable", Bool, "Serve HTTPS and WSS; needs both files.").or("false"),
    Key::new("tls_cert_file", Path, "Certificate chain in PEM; read again when it changes."),
    Key::new("tls_key_file", Path, "Private key in PEM; read again when it changes."),
    Key::new("log_level", Choice(&["debug", "info", "warn", "error"]), "Least level that is logged; dependencies log from warn.").or("info"),
    Key::new("json_logs", Bool, "Log one JSON object a line instead of text.").or("false"),
    Key::new("cors_allowed_origins", List, "Web origins (`https://app.example.com`) that may call this server and open WebSockets; empty = no CORS headers and no origin check.").or("").env(&["VOXRAY_CORS_ORIGINS"]),
    Key::new("max_request_body_bytes", BYTES, "Largest accepted request body in bytes; 0 = no limit.").or("262144").env(&["VOXRAY_MAX_BODY_BYTES"]),
    Key::new("server_api_key", List, "Keys that clients of this server must present one of; unset = none needed.").hidden(),
    Key::new("metrics_enabled", Bool, "Whether `GET /metrics` answers.").or("true"),
    // Clients
    Key::new("transport", Choice(&["websocket", "smallwebrtc", "both"]), "What clients may connect with.").or("both"),
    Key::new("webrtc_ice_servers", IceServers, "STUN and TURN servers, handed to clients and used by media nodes; with `secret` (coturn's `static-auth-secret`) every client gets credentials of its own, good for a day.").or("stun:stun.l.google.com:19302").hidden(),
    Key::new("rtc_max_duration_secs", SECONDS, "Longest session in seconds after the first inbound audio; 0 = no limit.").or("0"),
    Key::new("session_store", Choice(&["memory", "redis"]), "Where sessions, nodes and tokens live: in this process, or shared by all.").or("memory"),
    Key::new("redis_url", Url(&["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"]), "Redis, needed with `session_store` redis: one server (`redis://[user:password@]host:6379[/db]`), Sentinel (`redis+sentinel://host:26379,host:26379/primary[/db][?sentinel_password=…]`) or Cluster (`redis+cluster://host:6379,host:6379`); `rediss` is TLS.").hidden(),
    Key::new("redis_ca_file", Path, "Authority in PEM that the certificates of Redis have to be signed by, with `rediss`; unset = the usual public ones."),
    Key::new("redis_cert_file", Path, "Certificate chain in PEM that this service shows to Redis and its sentinels, with `rediss`, where they want one (`tls-auth-clients`); read at start."),
    Key::new("redis_key_file", Path, "Its private key in PEM."),
    Key::new("session_ttl_secs", Int { min: 1, max: 31_536_000 }, "Life of an idle session in seconds.").or("3600"),
    Key::new("pipeline_input_queue_cap", AT_LEAST_ONE, "Frames between transport and pipeline; when full the socket is not read.").or("256"),
    Key::new("ws_write_coalesce_ms", Int { min: 0, max: 1000 }, "Window in milliseconds in which WebSocket writes are batched; 0 = off.").or("0"),
    Key::new("ws_write_coalesce_max_frames", AT_LEAST_ONE, "Most frames in a batch.").or("10"),
    // The agent
    Key::new("provider", Text, "Provider of speech recognition, language model and speech, where the next three say nothing.").or("local"),
    Key::new("stt_provider", Text, "Speech-to-text provider; unset = `provider`."),
    Key::new("llm_provider", Text, "Language-model provider; unset = `provider`."),
    Key::new("tts_provider", Text, "Text-to-speech provider; unset = `provider`."),
    Key::new("model", Text, "Language model; unset = the provider's default."),
    Key::new("stt_model", Text, "Speech-to-text model; unset = the provider's default."),
    Key::new("stt_language", Text, "Language of the callers (BCP 47, `en-US`); unset = the provider's default."),
    Key::new("tts_model", Text, "Text-to-speech model; unset = the provider's default."),
    Key::new("tts_voice", Text, "Voice; unset = the provider's default."),
    Key::new("system_prompt", Text, "What the agent is told about itself; `{{name}}` is replaced from the session's body."),
    Key::new("greeting", Text, "First sentence of the agent; empty = the caller speaks first; unset = the provider's.").may_be_empty(),
    Key::new("local.facts_file", Path, "JSON file of questions and answers for the `local` language model."),
    Key::new("fallback.stt", List, "Speech-to-text providers tried in order when the first fails."),
    Key::new("fallback.llm", List, "Language-model providers tried in order when the first fails."),
    Key::new("fallback.tts", List, "Text-to-speech providers tried in order when the first fails."),
    // Turn taking
    Key::new("turn_detection", Choice(&["none", "silence", "smart"]), "How the end of the caller's turn is found; `silence` is the only way in this release.").or("silence"),
    Key::new("turn_stop_secs", SECONDS, "Silence in seconds that ends the caller's turn.").or("0.7"),
    Key::new("turn_pre_speech_ms", Int { min: 0, max: 5000 }, "Audio kept from before speech was detected, in milliseconds.").or("300"),
    Key::new("turn_max_duration_secs", Float { min: 1.0, max: 3600.0 }, "Longest turn in seconds before it is closed anyway.").or("30"),
    Key::new("vad_type", Choice(&["earshot", "silero"]), "Voice activity detector.").or("earshot"),
    Key::new("vad_confidence", FRACTION, "Speech probability that counts as voice, 0 to 1.").or("0.5").alias(&["vad_threshold"]),
    Key::new("vad_start_secs", SECONDS, "Voice in seconds before speech has started.").or("0.06"),
    Key::new("vad_stop_secs", SECONDS, "Silence in seconds before speech has stopped.").or("0.2"),
    Key::new("vad_min_volume", FRACTION, "Volume below which nothing counts as voice, 0 to 1.").or("0.003"),
    Key::new("user_turn_stop_timeout_secs", SECONDS, "Seconds after which a turn ends when nothing at all arrives any more.").or("1.5"),
    Key::new("user_idle_timeout_secs", SECONDS, "Seconds of silence after which the agent asks whether the caller is there; 0 = never.").or("0"),
    Key::new("allow_interruptions", Bool, "Whether the caller may cut the agent off.").or("true"),
    Key::new("interruption_strategy", Choice(&["none", "min_words", "keyword"]), "What it takes to cut the agent off: any voice, or `min_words` recognised words.").or("none"),
    Key::new("min_words", Int { min: 1, max: 100 }, "Words needed with `interruption_strategy` min_words.").or("1"),
    // Telephony
    Key::new("runner_transport", Choice(&["", "twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"]), "The phone provider that `POST /` serves; empty accepts every provider on its own path only.").or("").may_be_empty(),
    Key::new("proxy_host", Text, "Public host name of this deployment, as phone providers call it."),
    Key::new("media_public_url", Url(SOCKET_SCHEMES), "Base URL that phone providers and clients are told to connect to for media; may hold `{node}`; unset = from `proxy_host`."),
    Key::new("telephony.verify_signatures", Bool, "Check webhook signatures when the provider's secret is set.").or("true"),
    Key::new("telephony.trusted_proxies", List, "Addresses or networks (CIDR) whose `X-Forwarded-*` headers are believed, and whose connections `limits.max_connections_per_address` does not count.").or(""),
    Key::new("telephony.busy_message", Text, "What phone callers hear, in the provider's own voice, when no media node takes their call.").or("We are sorry, we cannot take your call right now. Please call again in a few minutes."),
    Key::new("telephony.busy_redirect_url", Url(HTTP_SCHEMES), "Where the provider asks for another document (a queue, a call centre) when no media node takes a call, instead of `telephony.busy_message`."),
    Key::new("telephony.outbound_from", List, "Numbers (E.164) that `POST /calls` may call from; empty = any the provider lets this account use.").or(""),
    Key::new("telnyx.public_key", Text, "Telnyx public key (base64): checks webhook signatures.").env(&["TELNYX_PUBLIC_KEY"]),
    Key::new("exotel.webhook_secret", Text, "Secret that the URLs Exotel calls carry as `?secret=`: Exotel signs nothing.").hidden().env(&["EXOTEL_WEBHOOK_SECRET"]),
    Key::new("twilio.account_sid", Text, "Twilio account SID, to end calls there.").env(&["TWILIO_ACCOUNT_SID"]),
    Key::new("genesys.client_secret", Text, "Client secret of the Genesys AudioHook integration, in base64: checks the signature of its connections.").hidden().env(&["GENESYS_CLIENT_SECRET"]),
    Key::new("telnyx.connection_id", Text, "Id of the Telnyx Voice API application that outbound calls are placed by.").env(&["TELNYX_CONNECTION_ID"]),
    Key::new("plivo.auth_id", Text, "Plivo auth id.").env(&["PLIVO_AUTH_ID"]),
    Key::new("exotel.account_sid", Text, "Exotel account SID.").env(&["EXOTEL_ACCOUNT_SID"]),
    Key::new("exotel.api_key", Text, "Exotel API key; its token is `api_keys.exotel`.").env(&["EXOTEL_API_KEY"]),
    Key::new("exotel.subdomain", Text, "Exotel's API host: `api.exotel.com` (Singapore) or `api.in.exotel.com` (Mumbai).").or("api.exotel.com").env(&["EXOTEL_SUBDOMAIN"]),
    Key::new("exotel.app_id", Text, "Id of the Exotel flow with the Voicebot applet that answers outbound calls.").env(&["EXOTEL_APP_ID"]),
    Key::new("vonage.application_id", Text, "Vonage application id.").env(&["VONAGE_APPLICATION_ID"]),
    Key::new("vonage.private_key", Text, "Private key of the Vonage application in PEM: signs the requests to Vonage.").hidden().env(&["VONAGE_PRIVATE_KEY"]),
    Key::new("telephony.request_timeout_secs", Float { min: 0.05, max: 60.0 }, "Longest wait in seconds for a phone provider's API, each attempt.").or("5"),
    Key::new("telephony.transfer_to", List, "Phone numbers (E.164) or SIP addresses that the agent may transfer a call to; the first is used when it names none. Empty = the agent cannot transfer."),
    Key::new("telephony.transfer_ring_secs", Int { min: 5, max: 120 }, "Seconds that a transferred call rings before the caller comes back to the agent (Twilio, Telnyx, Plivo, Vonage; needs `proxy_host`).").or("30"),
    Key::new("telephony.transfer_not_taken", Choice(&["agent", "goodbye"]), "What becomes of a caller whose transfer nobody takes: back to the agent, or `telephony.busy_message` and the end of the call.").or("agent"),
    Key::new("outbound.machine_detection", Bool, "Whether outbound calls that are answered by a machine are told from those a person answers.").or("true"),
    Key::new("outbound.voicemail_message", Text, "What is said to an answering machine after its beep; `{{name}}` is replaced from the session's body; unset = the call ends."),
    // Limits
    Key::new("limits.sessions_per_key", COUNT, "Most live sessions started with one API key (without `server_api_key`: by all clients together); 0 = no limit. Where this or one of the next two is set, on media nodes too, `/ws` takes nobody without a token of `/start`.").or("0"),
    Key::new("limits.starts_per_minute", RATE, "Most sessions that one API key may start in a minute, calls it places included; 0 = no limit.").or("0"),
    Key::new("limits.starts_per_minute_per_address", RATE, "Most sessions that may be started from one address in a minute, by phone webhooks that are not checked too; 0 = no limit.").or("0"),
    Key::new("limits.max_connections", COUNT, "Most open connections of the public listener, WebSockets included, and of the internal gRPC listener as many; further ones are closed at once. 0 = no limit.").or("10000"),
    Key::new("limits.max_connections_per_address", COUNT, "Most open connections of the public listener from one address (IPv6: one /64 network), WebSockets included; further ones are closed at once. Everything behind a proxy comes from the proxy's address: list it in `telephony.trusted_proxies`, which are not counted, or leave this off. 0 = no limit.").or("0"),
    Key::new("limits.header_timeout_secs", PATIENCE, "Seconds in which a new connection has to finish its TLS handshake, and as many from there in which it has to send the head of its first request; on the internal gRPC listener, in which it has to send a request with the `service_token`.").or("10"),
    Key::new("limits.body_timeout_secs", PATIENCE, "Seconds in which the whole body of a request has to arrive; then 408.").or("15"),
    Key::new("limits.request_timeout_secs", PATIENCE, "Seconds that a route may take before it answers 503; WebSockets are not limited.").or("30"),
    Key::new("limits.idle_timeout_secs", PATIENCE, "Seconds after which a connection without a further request is closed; longer than the proxy in front keeps its side (nginx: 60).").or("75"),
    Key::new("limits.write_timeout_secs", PATIENCE, "Seconds for which a client may take nothing of what is sent to it; then its connection is closed, and a player that goes on later asks for the rest. Media sockets are given up after 10 s.").or("60"),
    // Media nodes
    Key::new("media.max_sessions", COUNT, "Most sessions on this node; 0 = by cores.").or("0"),
    Key::new("media.measure_capacity", Bool, "Whether a node that sends its audio late or runs out of processor time says that it carries fewer sessions, until it is better; otherwise `media.max_sessions` always counts.").or("true"),
    Key::new("media.drain_timeout_secs", WHOLE_SECONDS, "Longest wait in seconds for running calls on shutdown.").or("3600"),
    Key::new("media.flush_timeout_secs", WHOLE_SECONDS, "Longest wait in seconds, after the last call, for the archive to take what is left in the outbox; what it does not take stays on the disk.").or("20"),
    Key::new("media.drain_message", Text, "What the agent says before it ends a call that outlasts the drain; empty = nothing.").or("I am sorry, this service has to restart. Please call again in a minute. Goodbye.").may_be_empty(),
    Key::new("media.transports", ChoiceList(&["telephony", "websocket", "webrtc"]), "What this pool of media nodes serves.").or("telephony,websocket,webrtc"),
    Key::new("media.udp_port", PORT, "UDP port of all WebRTC media of this node, on `host`; 0 = any free one.").or("50000").or_alone("0"),
    Key::new("media.nat_ips", List, "Public IP addresses of this node, told to WebRTC clients instead of its own; the port must be the same outside."),
    Key::new("media.node_id", Text, "Name of this node; unset = host name and a random suffix."),
    Key::new("media.control_port", PORT, "Port of the gRPC control listener; 0 = any free one.").or("9090"),
    Key::new("media.socket_silence_secs", Float { min: 1.0, max: 3600.0 }, "Seconds without any message after which a phone socket is dead.").or("10"),
    Key::new("media.speech_threads", Int { min: 0, max: 1024 }, "Threads for local speech models; 0 = by cores.").or("0"),
    // Recording
    Key::new("recording.enable", Bool, "Record calls.").or("false").or_alone("true"),
    Key::new("recording.bucket", Text, "S3 bucket; unset = `recording.folder`."),
    Key::new("recording.folder", Path, "Folder used when there is no bucket; `recording.base_path` is made inside it.").or("{data_dir}"),
    Key::new("recording.base_path", Text, "First part of `{base_path}/YYYY/MM/DD/{sessionId}.{format}`.").or("recordings/"),
    Key::new("recording.format", Choice(&["wav", "ogg", "flac"]), "File format. `wav` (16 bit) is stored while the call runs; `flac` and `ogg` (Opus) are encoded and stored when it has ended.").or("wav"),
    Key::new("recording.channels", Choice(&["mono", "stereo"]), "One mixed channel, or the caller left and the agent right.").or("stereo"),
    Key::new("recording.mute_redacted", Bool, "What is taken out of a transcript is silent in the recording too: the words where recognition tells when they were said (`openai` with a `whisper` model), else the whole utterance; of the agent, the whole sentence. Needs `transcripts.redact` or `transcripts.redact_patterns`. Audio then leaves the node when its turn is complete.").or("false"),
    Key::new("recording.worker_count", Int { min: 1, max: 256 }, "Parallel uploads.").or("2"),
    Key::new("recording.queue_cap", AT_LEAST_ONE, "Upload jobs waiting or at work; a full queue holds senders back, it never drops.").or("32"),
    Key::new("recording.max_retries", Int { min: 0, max: 100 }, "Quick retries before a job goes back to the durable queue.").or("3"),
    Key::new("recording.tags", List, "Tags of stored objects, at most 10: any of `session`, `transport`, `provider`, `duration`, `complete`, and fixed `name=value`. Needs the right to tag objects.").or(""),
    Key::new("recording.upload_max_age_secs", Int { min: 3600, max: 31_536_000 }, "An upload that nobody has worked on for this many seconds is closed with what it has, or aborted.").or("86400"),
    Key::new("s3.endpoint", Url(HTTP_SCHEMES), "Endpoint of an S3-compatible store; unset = AWS. Credentials come from the AWS standard chain.").env(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
    Key::new("s3.public_endpoint", Url(HTTP_SCHEMES), "The same store as clients reach it, for the URLs of recordings that are given to them; unset = `s3.endpoint`."),
    Key::new("s3.region", Text, "Region.").or("us-east-1").env(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
    Key::new("s3.force_path_style", Bool, "`http://host/bucket/key` instead of `http://bucket.host/key`; most S3-compatible stores need it.").or("false"),
    Key::new("s3.sse", Choice(&["none", "AES256", "aws:kms"]), "Server-side encryption asked for with every object; `none` leaves it to the bucket.").or("none"),
    Key::new("s3.kms_key_id", Text, "KMS key with `s3.sse` aws:kms; unset = the account's key for S3."),
    // Transcripts
    Key::new("transcripts.enable", Bool, "Write turns to a database.").or("false").or_alone("true"),
    Key::new("transcripts.driver", Choice(&["postgres", "mysql", "sqlite"]), "Kind of database; unset = as `transcripts.dsn` says."),
    Key::new("transcripts.dsn", Url(&["postgres", "postgresql", "mysql", "mariadb", "sqlite"]), "Database URL; `pool_max_conns` in it is honoured.").hidden().or_alone("sqlite://{data_dir}/transcripts.db"),
    Key::new("transcripts.table_name", Text, "Table, made at start when missing; a schema may stand before it (`archive.calls`). `{table_name}_sessions` is made beside it.").or("call_transcripts").alias(&["transcripts.table"]),
    Key::new("transcripts.extended", Bool, "Further columns: `interrupted`, whether the caller cut this turn of the agent off, and `timing`, where a turn lies in the recording and how long an answer took. The console draws them.").or("false").or_alone("true"),
    Key::new("archive.retention_days", Int { min: 0, max: 36_500 }, "Days after which transcript and recording of a call are deleted; 0 = never.").or("0"),
    Key::new("transcripts.redact", ChoiceList(&["card", "phone", "email"]), "What is replaced by `[card]`, `[phone]`, `[email]` before a transcript leaves the media node; recordings are muted with `recording.mute_redacted`."),
    Key::new("transcripts.redact_patterns", List, "Regular expressions (Rust `regex` syntax) whose matches become `[redacted]`; write those with a comma into the file."),
    // Tools
    Key::new("mcp.command", Text, "Command of an MCP server whose tools the agent may call."),
    Key::new("mcp.args", List, "Arguments of that command."),
    Key::new("mcp.tools_filter", List, "The only tools that are offered; empty = all."),
    Key::new("mcp.url", Url(HTTP_SCHEMES), "URL of an MCP server whose tools the agent may call."),
    // Between services, and on disk
    Key::new("zone", Text, "Zone that this process is in (`eu-central-1a`): sessions go to media nodes of the signaling service's own zone while they have room; unset = all nodes are alike."),
    Key::new("archiver_url", Url(HTTP_SCHEMES), "Where media nodes send what is archived, and where it is read back from (`http://archiver:9091`)."),
    Key::new("media_control_url", Url(HTTP_SCHEMES), "Where this media node is reached for control; may hold `{host}`, the name of its host; unset = its bound address."),
    Key::new("media_advertise_url", Url(SOCKET_SCHEMES), "Where this media node's sockets are reached: by other media nodes, and by everyone when `media_public_url` is not set; may hold `{host}`."),
    Key::new("service_token", Text, "The same secret in all services: internal calls carry it, stream tokens are signed with it. One process alone makes its own.").hidden(),
    Key::new("internal_tls.cert_file", Path, "Certificate chain in PEM that this service shows its peers; with the two below, all internal gRPC is mutual TLS."),
    Key::new("internal_tls.key_file", Path, "Its private key in PEM."),
    Key::new("internal_tls.ca_file", Path, "Authority in PEM that the peers' certificates have to be signed by."),
    Key::new("otlp.endpoint", Url(HTTP_SCHEMES), "OpenTelemetry collector that traces are sent to by OTLP gRPC (`http://collector:4317`; `https` is TLS); unset = no traces."),
    Key::new("otlp.ca_file", Path, "Authority in PEM that the collector's certificate has to be signed by, with `https`; unset = the usual public ones."),
    Key::new("otlp.headers", List, "Metadata of every request to the collector, `name=value` each (`authorization=Bearer …`); a value with a comma goes into the configuration file.").hidden(),
    Key::new("otlp.sample_ratio", FRACTION, "Part of the calls that are traced, 0 to 1.").or("1"),
    Key::new("data_dir", Path, "Folder for everything that is kept on local disk by default.").or("./voxray-data"),
    Key::new("outbox.dir", Path, "Folder of the durable queue between calls and archive.").or("{data_dir}/outbox"),
    Key::new("outbox.max_bytes", Int { min: 1_048_576, max: i64::MAX }, "Its limit in bytes; when reached, new recorded calls are refused.").or("4294967296"),
    Key::new("archiver.port", PORT, "gRPC port of the archiver; 0 = any free one.").or("9091"),
    Key::new("archiver.spool_dir", Path, "Folder for recordings in the making.").or("{data_dir}/spool"),
    Key::new("archiver.node_timeout_secs", Float { min: 1.0, max: 3600.0 }, "Seconds without a stream after which a media node counts as dead, and its recordings are closed with what was received.").or("30"),
];
