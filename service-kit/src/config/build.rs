//! From checked values to the typed [`Config`], and what has to go together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::connections;
use super::listeners;
use super::load::{Problem, Profile};
use super::recording;
use super::schema::{SCHEMA, find};
use super::sources::{Merged, Values};
use super::store;
use super::transcripts;
use super::value::Value;
use super::{
    Agent, Archiver, ClientTransport, Config, InterruptionStrategy, Limits, Links, Log, Media, MediaTransport, Outbox,
    PeerTlsFiles, PhoneAccounts, Pipeline, Recording, S3, Secret, Secrets, Telephony, TransferNotTaken, TurnDetection,
    TurnTaking, WebRtc,
};

/// Makes the configuration; problems go to `merged`, and the result is used only when there are none.
pub(super) fn build(merged: &mut Merged, profile: Profile) -> Config {
    let (api_keys, server_api_keys) = reloadable(&merged.values);
    let http = listeners::build(merged);
    let store = store::build(merged);
    let transcripts = transcripts::build(merged, profile);
    let service_token = service_token(merged, profile);
    let peer_tls = peer_tls(merged, profile);
    check_origins(merged);
    let tags = recording::check(merged);
    check_turns(merged);
    check_nat_ips(merged);
    check_outbound_from(merged);
    let telnyx_public_key = telnyx_public_key(merged);
    let otlp = connections::otlp(merged);
    warn(merged, profile);

    let v = &merged.values;
    Config {
        http,
        log: Log {
            level: log_level(v),
            json: v.flag("json_logs"),
        },
        otlp,
        metrics_enabled: v.flag("metrics_enabled"),
        zone: v.text("zone"),
        transport: match v.word("transport").as_str() {
            "smallwebrtc" => ClientTransport::SmallWebRtc,
            "both" => ClientTransport::Both,
            _ => ClientTransport::WebSocket,
        },
        webrtc: WebRtc {
            ice_servers: match v.get("webrtc_ice_servers") {
                Some(Value::IceServers(servers)) => servers.clone(),
                Some(_) | None => Vec::new(),
            },
            max_duration_secs: v.float("rtc_max_duration_secs"),
        },
        store,
        pipeline: Pipeline {
            input_queue_cap: v.number("pipeline_input_queue_cap"),
            ws_write_coalesce_ms: v.number("ws_write_coalesce_ms"),
            ws_write_coalesce_max_frames: v.number("ws_write_coalesce_max_frames"),
        },
        agent: agent(v),
        turn: turn(v),
        telephony: Telephony {
            runner_transport: v.word("runner_transport"),
            proxy_host: v.text("proxy_host"),
            media_public_url: v.text("media_public_url"),
            verify_signatures: v.flag("telephony.verify_signatures"),
            busy_message: v.word("telephony.busy_message"),
            busy_redirect_url: v.text("telephony.busy_redirect_url"),
            outbound_from: v.list("telephony.outbound_from"),
            telnyx_public_key,
            exotel_webhook_secret: v.text("exotel.webhook_secret").map(Secret::new),
            twilio_account_sid: v.text("twilio.account_sid"),
            genesys_client_secret: v.text("genesys.client_secret").map(Secret::new),
            accounts: phone_accounts(v),
            request_timeout_secs: v.float("telephony.request_timeout_secs"),
            transfer_to: v.list("telephony.transfer_to"),
            transfer_ring_secs: v.number("telephony.transfer_ring_secs"),
            transfer_not_taken: match v.word("telephony.transfer_not_taken").as_str() {
                "goodbye" => TransferNotTaken::Goodbye,
                _ => TransferNotTaken::Agent,
            },
            machine_detection: v.flag("outbound.machine_detection"),
            voicemail_message: v.text("outbound.voicemail_message"),
        },
        limits: Limits {
            sessions_per_key: v.number("limits.sessions_per_key"),
            starts_per_minute: v.number("limits.starts_per_minute"),
            starts_per_minute_per_address: v.number("limits.starts_per_minute_per_address"),
        },
        media: media(v),
        recording: Recording {
            enable: v.flag("recording.enable"),
            bucket: v.text("recording.bucket"),
            folder: v.path("recording.folder"),
            base_path: v.word("recording.base_path"),
            format: recording::format(v),
            channels: if v.word("recording.channels") == "mono" { 1 } else { 2 },
            mute_redacted: v.flag("recording.mute_redacted"),
            worker_count: v.number("recording.worker_count"),
            queue_cap: v.number("recording.queue_cap"),
            max_retries: v.number("recording.max_retries"),
            tags,
            upload_max_age_secs: v.number("recording.upload_max_age_secs"),
        },
        s3: S3 {
            endpoint: v.text("s3.endpoint"),
            public_endpoint: v.text("s3.public_endpoint"),
            region: v.word("s3.region"),
            force_path_style: v.flag("s3.force_path_style"),
            encryption: recording::encryption(v),
            kms_key_id: v.text("s3.kms_key_id"),
        },
        transcripts,
        outbox: Outbox {
            dir: v.path("outbox.dir"),
            max_bytes: v.number("outbox.max_bytes"),
        },
        archiver: Archiver {
            port: v.number("archiver.port"),
            spool_dir: v.path("archiver.spool_dir"),
            retention_days: v.number("archive.retention_days"),
            node_timeout_secs: v.float("archiver.node_timeout_secs"),
        },
        links: Links {
            archiver_url: v.text("archiver_url"),
            media_control_url: v.text("media_control_url").map(here),
            media_advertise_url: v.text("media_advertise_url").map(here),
            service_token,
            tls: peer_tls,
        },
        data_dir: v.path("data_dir"),
        secrets: Arc::new(Secrets::new(api_keys, server_api_keys)),
    }
}

/// The keys that SIGHUP reads again: provider name to key, and the keys of this server.
pub(super) fn reloadable(values: &Values) -> (BTreeMap<String, Secret>, Vec<Secret>) {
    let api_keys = SCHEMA.iter().filter_map(|key| {
        let provider = key.path.strip_prefix("api_keys.")?;
        Some((provider.to_owned(), Secret::new(values.text(&key.path)?)))
    });
    let server_api_keys = values.list("server_api_key").into_iter().map(Secret::new);
    (api_keys.collect(), server_api_keys.collect())
}

/// Typed access. Kinds were checked when the values were read and keys with defaults always have one, so the
/// fall-backs here are reached only by a mistyped path, which the test of the defaults would show.
impl Values {
    pub(super) fn text(&self, path: &str) -> Option<String> {
        debug_assert!(find(path).is_some(), "no such key: {path}");
        match self.get(path) {
            Some(Value::Text(text)) => Some(text.clone()),
            Some(_) | None => None,
        }
    }

    pub(super) fn word(&self, path: &str) -> String {
        self.text(path).unwrap_or_default()
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(self.word(path))
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        debug_assert!(find(path).is_some(), "no such key: {path}");
        matches!(self.get(path), Some(Value::Bool(true)))
    }

    pub(super) fn number<N: TryFrom<i64> + Default>(&self, path: &str) -> N {
        debug_assert!(find(path).is_some(), "no such key: {path}");
        match self.get(path) {
            Some(Value::Int(number)) => N::try_from(*number).unwrap_or_default(),
            Some(_) | None => N::default(),
        }
    }

    pub(super) fn float(&self, path: &str) -> f64 {
        debug_assert!(find(path).is_some(), "no such key: {path}");
        match self.get(path) {
            Some(Value::Float(number)) => *number,
            Some(_) | None => 0.0,
        }
    }

    pub(super) fn list(&self, path: &str) -> Vec<String> {
        debug_assert!(find(path).is_some(), "no such key: {path}");
        match self.get(path) {
            Some(Value::List(items)) => items.clone(),
            Some(_) | None => Vec::new(),
        }
    }
}

impl Merged {
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    /// Whether a key already has a problem: a second one that follows from it would only confuse.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }
}

/// All three files or none; addresses of peers have to say the same.
fn peer_tls(merged: &mut Merged, profile: Profile) -> Option<PeerTlsFiles> {
    const KEYS: [&str; 3] = [
        "internal_tls.cert_file",
        "internal_tls.key_file",
        "internal_tls.ca_file",
    ];
    let files = KEYS.map(|key| merged.values.text(key));
    let wanted = files.iter().any(Option::is_some);
    for (key, file) in KEYS.into_iter().zip(&files) {
        match file {
            Some(_) if profile == Profile::SingleProcess => {
                merged.problem(key, "one process alone has no peers; remove it");
            }
            Some(path) if !PathBuf::from(path).is_file() => merged.problem(key, format!("{path:?} is not a file")),
            None if wanted && !merged.is_broken(key) => {
                merged.problem(key, "needed with the other two internal_tls files");
            }
            Some(_) | None => {}
        }
    }
    let scheme = if wanted { "https://" } else { "http://" };
    for key in ["archiver_url", "media_control_url"] {
        let url = merged.values.text(key);
        if url.is_some_and(|url| !url.starts_with(scheme)) && profile != Profile::SingleProcess {
            let why = if wanted { "with" } else { "without" };
            merged.problem(key, format!("must begin with {scheme} {why} internal_tls"));
        }
    }
    wanted.then(|| PeerTlsFiles {
        cert_file: merged.values.path(KEYS[0]),
        key_file: merged.values.path(KEYS[1]),
        ca_file: merged.values.path(KEYS[2]),
    })
}

/// A URL of this node with the name of its host in place of `{host}`, so that replicas can share one configuration.
fn here(url: String) -> String {
    match crate::ids::host_name() {
        Some(host) => url.replace("{host}", &host),
        None => url,
    }
}

/// The level that SIGHUP reads again.
pub(super) fn log_level(v: &Values) -> tracing::Level {
    match v.word("log_level").as_str() {
        "debug" => tracing::Level::DEBUG,
        "warn" => tracing::Level::WARN,
        "error" => tracing::Level::ERROR,
        _ => tracing::Level::INFO,
    }
}

fn service_token(merged: &mut Merged, profile: Profile) -> Secret {
    match (merged.values.text("service_token"), profile) {
        (Some(token), _) => Secret::new(token),
        // Nobody else needs to know it.
        (None, Profile::SingleProcess) => Secret::new(format!(
            "{}{}",
            uuid::Uuid::new_v4().simple(),
            uuid::Uuid::new_v4().simple()
        )),
        (None, Profile::Service | Profile::Archiver) => {
            if !merged.is_broken("service_token") {
                merged.problem("service_token", "set service_token to the same secret in all services");
            }
            Secret::default()
        }
    }
}

fn check_origins(merged: &mut Merged) {
    for origin in merged.values.list("cors_allowed_origins") {
        let host = origin
            .trim_end_matches('/')
            .split_once("://")
            .filter(|(scheme, _)| !scheme.is_empty());
        if !host.is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@'])) {
            merged.problem(
                "cors_allowed_origins",
                format!("{origin:?} is not an origin; allowed: scheme://host or scheme://host:port, never * or a path"),
            );
        }
    }
}

/// What clients are told to send media to has to be an address: they look no names up.
fn check_nat_ips(merged: &mut Merged) {
    for ip in merged.values.list("media.nat_ips") {
        if ip.trim().parse::<std::net::IpAddr>().is_err() {
            merged.problem("media.nat_ips", format!("{ip:?} is no IP address"));
        }
    }
}

fn check_turns(merged: &mut Merged) {
    let (stop, max) = (
        merged.values.float("turn_stop_secs"),
        merged.values.float("turn_max_duration_secs"),
    );
    if stop >= max && !merged.is_broken("turn_max_duration_secs") && !merged.is_broken("turn_stop_secs") {
        merged.problem(
            "turn_stop_secs",
            format!("{stop} is not less than turn_max_duration_secs ({max})"),
        );
    }
}

fn telnyx_public_key(merged: &mut Merged) -> Option<Vec<u8>> {
    let text = merged.values.text("telnyx.public_key")?;
    let key = crate::signatures::telnyx::public_key(&text).ok();
    if key.is_none() {
        merged.problem(
            "telnyx.public_key",
            "is not a public key; allowed: the 44 characters (32 bytes of base64) of the portal's Keys & Credentials page",
        );
    }
    key
}

fn check_outbound_from(merged: &mut Merged) {
    for number in merged.values.list("telephony.outbound_from") {
        if !crate::phone::is_e164(&number) {
            merged.problem(
                "telephony.outbound_from",
                format!(
                    "{number:?} is not a phone number; allowed: + and 7 to 15 digits (E.164), such as +15550001111"
                ),
            );
        }
    }
}

fn warn(merged: &mut Merged, profile: Profile) {
    if !merged.values.flag("telephony.verify_signatures") {
        let warning = "telephony.verify_signatures is false: anyone who knows the URL can start calls";
        merged.warnings.push(warning.to_owned());
    }
    let is_local = !merged.values.is_set("recording.bucket");
    if profile == Profile::Archiver && merged.values.flag("recording.enable") && is_local {
        let warning = "recording.bucket is unset: recordings stay in recording.folder of the archiver's own disk";
        merged.warnings.push(warning.to_owned());
    }
    let kept = merged.values.flag("recording.enable") && !merged.values.flag("recording.mute_redacted");
    if kept && recording::redacts(&merged.values) {
        let warning = "transcripts.redact does not mute recordings: what it takes out of the text can be heard; set recording.mute_redacted to true, or recording.enable to false, where that must not be";
        merged.warnings.push(warning.to_owned());
    }
}

fn agent(v: &Values) -> Agent {
    let provider = |key| v.text(key).unwrap_or_else(|| v.word("provider"));
    let base_urls = SCHEMA.iter().filter_map(|key| {
        let name = key.path.strip_suffix(".base_url")?;
        Some((name.to_owned(), v.text(&key.path)?))
    });
    Agent {
        stt_provider: provider("stt_provider"),
        llm_provider: provider("llm_provider"),
        tts_provider: provider("tts_provider"),
        model: v.text("model"),
        stt_model: v.text("stt_model"),
        stt_language: v.text("stt_language"),
        tts_model: v.text("tts_model"),
        tts_voice: v.text("tts_voice"),
        system_prompt: v.text("system_prompt"),
        greeting: v.text("greeting"),
        local_facts_file: v.text("local.facts_file").map(PathBuf::from),
        base_urls: base_urls.collect(),
    }
}

fn turn(v: &Values) -> TurnTaking {
    TurnTaking {
        detection: match v.word("turn_detection").as_str() {
            "none" => TurnDetection::None,
            "smart" => TurnDetection::Smart,
            _ => TurnDetection::Silence,
        },
        stop_secs: v.float("turn_stop_secs"),
        pre_speech_ms: v.number("turn_pre_speech_ms"),
        max_duration_secs: v.float("turn_max_duration_secs"),
        vad_confidence: v.float("vad_confidence"),
        vad_start_secs: v.float("vad_start_secs"),
        vad_stop_secs: v.float("vad_stop_secs"),
        vad_min_volume: v.float("vad_min_volume"),
        user_turn_stop_timeout_secs: v.float("user_turn_stop_timeout_secs"),
        user_idle_timeout_secs: v.float("user_idle_timeout_secs"),
        allow_interruptions: v.flag("allow_interruptions"),
        interruption_strategy: match v.word("interruption_strategy").as_str() {
            "min_words" => InterruptionStrategy::MinWords,
            "keyword" => InterruptionStrategy::Keyword,
            _ => InterruptionStrategy::None,
        },
        min_words: v.number("min_words"),
    }
}

fn phone_accounts(v: &Values) -> PhoneAccounts {
    PhoneAccounts {
        telnyx_connection_id: v.text("telnyx.connection_id"),
        plivo_auth_id: v.text("plivo.auth_id"),
        exotel_account_sid: v.text("exotel.account_sid"),
        exotel_api_key: v.text("exotel.api_key"),
        exotel_subdomain: v.word("exotel.subdomain"),
        exotel_app_id: v.text("exotel.app_id"),
        vonage_application_id: v.text("vonage.application_id"),
        vonage_private_key: v.text("vonage.private_key").map(Secret::new),
    }
}

fn media(v: &Values) -> Media {
    let transports = v
        .list("media.transports")
        .into_iter()
        .filter_map(|name| match name.as_str() {
            "telephony" => Some(MediaTransport::Telephony),
            "websocket" => Some(MediaTransport::WebSocket),
            "webrtc" => Some(MediaTransport::WebRtc),
            _ => None,
        });
    Media {
        node_id: v.text("media.node_id"),
        max_sessions: v.number("media.max_sessions"),
        measure_capacity: v.flag("media.measure_capacity"),
        drain_message: v.text("media.drain_message").filter(|message| !message.is_empty()),
        drain_timeout_secs: v.number("media.drain_timeout_secs"),
        flush_timeout_secs: v.number("media.flush_timeout_secs"),
        transports: transports.collect(),
        control_port: v.number("media.control_port"),
        udp_port: v.number("media.udp_port"),
        nat_ips: v
            .list("media.nat_ips")
            .iter()
            .filter_map(|ip| ip.trim().parse().ok())
            .collect(),
        socket_silence_secs: v.float("media.socket_silence_secs"),
        speech_threads: v.number("media.speech_threads"),
    }
}
