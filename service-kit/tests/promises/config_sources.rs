//! Configuration: where values come from.

use std::path::PathBuf;

use crate::common::given::{Given, shown, source_of};
use service_kit::config::{
    ClientTransport, MediaTransport, Problem, Profile, Sources, StoreKind, TranscriptDriver, TurnDetection, load,
    reload,
};

#[test]
fn a_single_process_works_without_any_configuration() {
    let config = Given::new().load().unwrap().config;
    assert_eq!(
        (config.http.host.to_string().as_str(), config.http.port),
        ("0.0.0.0", 8080)
    );
    assert_eq!(config.http.max_request_body_bytes, 262_144);
    assert!(config.recording.enable && config.recording.bucket.is_none());
    assert_eq!(config.recording.folder, PathBuf::from("./voxray-data"));
    assert_eq!(config.recording.base_path, "recordings/");
    assert!(config.transcripts.enable);
    assert_eq!(config.transcripts.driver, TranscriptDriver::Sqlite);
    assert_eq!(config.transcripts.dsn.expose(), "sqlite://./voxray-data/transcripts.db");
    assert_eq!(config.outbox.dir, PathBuf::from("./voxray-data/outbox"));
    assert_eq!(config.outbox.max_bytes, 4 << 30);
    assert_eq!(config.archiver.spool_dir, PathBuf::from("./voxray-data/spool"));
    assert_eq!((config.archiver.port, config.media.control_port), (9091, 9090));
    assert_eq!(config.store.kind, StoreKind::Memory);
    assert_eq!(config.transport, ClientTransport::Both);
    assert_eq!(
        config.media.transports,
        [
            MediaTransport::Telephony,
            MediaTransport::WebSocket,
            MediaTransport::WebRtc
        ]
    );
    assert_eq!(config.turn.detection, TurnDetection::Silence);
    assert_eq!((config.turn.stop_secs, config.turn.pre_speech_ms), (0.7, 300));
    assert_eq!((config.turn.vad_confidence, config.turn.vad_min_volume), (0.5, 0.003));
    assert_eq!(config.agent.stt_provider, "local");
    assert_eq!(config.agent.greeting, None);
    assert!(config.telephony.verify_signatures);
    assert!(config.secrets.server_api_keys().is_empty());
}

#[test]
fn a_single_process_makes_its_own_service_token_and_each_makes_another() {
    let first = Given::new().load().unwrap().config.links.service_token;
    let second = Given::new().load().unwrap().config.links.service_token;
    assert!(first.expose().len() >= 32);
    assert_ne!(first, second);
}

#[test]
fn a_service_needs_the_common_token_and_records_only_when_told() {
    let given = Given::new();
    let problems = load(&given.sources, Profile::Service).unwrap_err().problems;
    let wanted = Problem {
        key: "service_token".to_owned(),
        message: "set service_token to the same secret in all services".to_owned(),
    };
    assert_eq!(problems, [wanted]);

    let given = given.env(&[("VOXRAY_SERVICE_TOKEN", "common")]);
    let config = load(&given.sources, Profile::Service).unwrap().config;
    assert!(!config.recording.enable && !config.transcripts.enable);
}

#[test]
fn only_the_archiver_needs_to_know_the_database() {
    let given = Given::new().flags(&[("transcripts.enable", "true"), ("service_token", "s")]);

    assert!(
        load(&given.sources, Profile::Service)
            .unwrap()
            .config
            .transcripts
            .enable
    );
    let problems = load(&given.sources, Profile::Archiver).unwrap_err().problems;

    let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["transcripts.dsn"]);
}

#[test]
fn later_sources_win_and_are_named() {
    let given = Given::new()
        .file(r#"{"port": 1, "log_level": "warn", "model": "file"}"#)
        .env(&[("VOXRAY_PORT", "2"), ("VOXRAY_LOG_LEVEL", "error")])
        .flags(&[("port", "3")]);
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.http.port, 3);
    assert_eq!(loaded.config.log.level, tracing::Level::ERROR);
    assert_eq!(source_of(&loaded, "port"), "flag");
    assert_eq!(source_of(&loaded, "log_level"), "env VOXRAY_LOG_LEVEL");
    assert!(source_of(&loaded, "model").starts_with("file "));
    assert_eq!(source_of(&loaded, "host"), "default");
}

#[test]
fn nested_dotted_and_commented_keys_may_be_mixed() {
    let text = r#"{"$schema": "x", "_why": "because", "recording": {"enable": false, "_note": 1, "base_path": "a"},
                  "recording.worker_count": 7, "transcripts.table": "rows", "vad_threshold": 0.25, "model": null}"#;
    let config = Given::new().file(text).load().unwrap().config;
    assert!(!config.recording.enable);
    assert_eq!(
        (config.recording.base_path.as_str(), config.recording.worker_count),
        ("a", 7)
    );
    assert_eq!(config.transcripts.table_name, "rows");
    assert_eq!(config.turn.vad_confidence, 0.25);
    assert_eq!(config.agent.model, None);
}

#[test]
fn older_environment_names_work_and_the_documented_one_wins() {
    let given = Given::new().env(&[
        ("PORT", "5000"),
        ("HOST", "127.0.0.1"),
        ("VOXRAY_CORS_ORIGINS", "https://a.example, https://b.example:8443"),
        ("VOXRAY_MAX_BODY_BYTES", "0"),
        ("VOXRAY_TRANSCRIPTS_TABLE", "old_name"),
        ("VOXRAY_RECORDING_WORKER_COUNT", "9"),
        ("VOXRAY_RECORDING_QUEUE_CAP", ""),
    ]);
    let config = given.load().unwrap().config;
    assert_eq!(config.http.port, 5000);
    assert_eq!(
        config.http.cors_allowed_origins,
        ["https://a.example", "https://b.example:8443"]
    );
    assert_eq!(config.http.max_request_body_bytes, 0);
    assert_eq!(config.transcripts.table_name, "old_name");
    assert_eq!((config.recording.worker_count, config.recording.queue_cap), (9, 32));

    let given = given.env(&[("VOXRAY_PORT", "6000")]);
    assert_eq!(given.load().unwrap().config.http.port, 6000);
}

#[test]
fn provider_keys_come_from_their_usual_variables() {
    let given = Given::new()
        .file(r#"{"api_keys": {"deepgram": "from-file"}, "openai.base_url": "http://127.0.0.1:9/v1", "llm_provider": "openai"}"#)
        .env(&[("OPENAI_API_KEY", "sk-usual"), ("TWILIO_AUTH_TOKEN", "tw"), ("TWILIO_ACCOUNT_SID", "AC1")]);
    let config = given.load().unwrap().config;
    let key = |name: &str| config.secrets.api_key(name).map(|secret| secret.expose().to_owned());
    assert_eq!(key("openai").as_deref(), Some("sk-usual"));
    assert_eq!(key("twilio").as_deref(), Some("tw"));
    assert_eq!(key("deepgram").as_deref(), Some("from-file"));
    assert_eq!(key("anthropic"), None);
    assert_eq!(config.agent.base_urls["openai"], "http://127.0.0.1:9/v1");
    assert_eq!(
        (config.agent.llm_provider.as_str(), config.agent.stt_provider.as_str()),
        ("openai", "local")
    );
    assert_eq!(config.telephony.twilio_account_sid.as_deref(), Some("AC1"));

    let given = given.env(&[("VOXRAY_API_KEYS_OPENAI", "sk-ours")]);
    let config = given.load().unwrap().config;
    assert_eq!(config.secrets.api_key("openai").unwrap().expose(), "sk-ours");
}

#[test]
fn secrets_can_be_read_from_files() {
    let given = Given::new();
    let path = given.write("token", "from-a-file\n");
    let given = given.env(&[("VOXRAY_SERVICE_TOKEN_FILE", path.to_str().unwrap())]);
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.links.service_token.expose(), "from-a-file");
    assert_eq!(source_of(&loaded, "service_token"), "env VOXRAY_SERVICE_TOKEN_FILE");
    assert_eq!(shown(&loaded, "service_token"), "***");
}

#[test]
fn the_flag_goes_before_the_variable_and_both_before_the_folder() {
    let given = Given::new().file(r#"{"port": 1}"#);
    let (named, flagged) = (
        given.write("env.json", r#"{"port": 2}"#),
        given.write("flag.json", r#"{"port": 3}"#),
    );
    assert_eq!(given.load().unwrap().config.http.port, 1);
    let mut given = given.env(&[("VOXRAY_CONFIG", named.to_str().unwrap())]);
    assert_eq!(given.load().unwrap().config.http.port, 2);
    given.sources.file = Some(flagged);
    assert_eq!(given.load().unwrap().config.http.port, 3);
}

#[test]
fn the_database_kind_follows_from_its_url() {
    let loaded = Given::new()
        .flags(&[("transcripts.dsn", "postgresql://u:p@h/d?pool_max_conns=4")])
        .load()
        .unwrap();
    assert_eq!(loaded.config.transcripts.driver, TranscriptDriver::Postgres);
    assert_eq!(shown(&loaded, "transcripts.driver"), "\"postgres\"");
    assert_eq!(shown(&loaded, "transcripts.dsn"), "***");
}

#[test]
fn an_empty_greeting_is_not_an_unset_one() {
    assert_eq!(
        Given::new()
            .file(r#"{"greeting": ""}"#)
            .load()
            .unwrap()
            .config
            .agent
            .greeting
            .as_deref(),
        Some("")
    );
    let given = Given::new().env(&[("VOXRAY_GREETING", ""), ("VOXRAY_MODEL", "")]);
    let agent = given.load().unwrap().config.agent;
    assert_eq!((agent.greeting.as_deref(), agent.model), (Some(""), None));
}

#[test]
fn everything_on_disk_moves_with_data_dir() {
    let config = Given::new()
        .env(&[("VOXRAY_DATA_DIR", "/srv/voxray/"), ("VOXRAY_OUTBOX_DIR", "/fast")])
        .load()
        .unwrap()
        .config;
    assert_eq!(config.recording.folder, PathBuf::from("/srv/voxray"));
    assert_eq!(config.transcripts.dsn.expose(), "sqlite:///srv/voxray/transcripts.db");
    assert_eq!(config.outbox.dir, PathBuf::from("/fast"));
    assert_eq!(config.archiver.spool_dir, PathBuf::from("/srv/voxray/spool"));
}

#[test]
fn reloading_changes_provider_and_server_keys_and_nothing_else() {
    let given = Given::new().file(r#"{"port": 1, "api_keys.openai": "old", "server_api_key": "a"}"#);
    let key_file = given.write("twilio", "first\n");
    let given = given.env(&[("TWILIO_AUTH_TOKEN_FILE", key_file.to_str().unwrap())]);
    let config = given.load().unwrap().config;

    let given = given.file(r#"{"port": "nonsense", "api_keys.openai": "new", "server_api_key": ["b", "c"]}"#);
    given.write("twilio", "second\n");
    reload(&given.sources, &config).unwrap();

    assert_eq!(config.secrets.api_key("openai").unwrap().expose(), "new");
    assert_eq!(config.secrets.api_key("twilio").unwrap().expose(), "second");
    assert_eq!(config.secrets.server_api_keys().len(), 2);
    assert_eq!(config.http.port, 1);
}

#[test]
fn a_reload_that_fails_leaves_the_old_keys() {
    let given = Given::new().file(r#"{"api_keys.openai": "old", "server_api_key": "a"}"#);
    let config = given.load().unwrap().config;
    for broken in ["{", r#"{"api_keys.openai": 5, "server_api_key": "b"}"#] {
        let given = Given {
            folder: tempfile::tempdir().unwrap(),
            ..Given::new()
        };
        let path = given.write("broken.json", broken);
        let sources = Sources {
            file: Some(path),
            ..given.sources.clone()
        };
        assert!(reload(&sources, &config).is_err());
        assert_eq!(config.secrets.api_key("openai").unwrap().expose(), "old");
        assert_eq!(config.secrets.server_api_keys()[0].expose(), "a");
    }
}

#[test]
fn a_media_node_may_be_told_its_address_by_the_name_of_its_host() {
    let given = Given::new().flags(&[
        ("media_control_url", "http://{host}:9090"),
        ("media_advertise_url", "ws://{host}:8080"),
    ]);
    let links = given.load().unwrap().config.links;
    let host = service_kit::ids::host_name().unwrap();
    assert_eq!(links.media_control_url, Some(format!("http://{host}:9090")));
    assert_eq!(links.media_advertise_url, Some(format!("ws://{host}:8080")));
}

#[test]
fn the_collectors_metadata_comes_from_a_file_and_is_masked() {
    let given = Given::new();
    let file = given.write("headers", "authorization=Bearer s3cret, x-tenant=voxray\n");
    let given = given.env(&[
        ("VOXRAY_OTLP_ENDPOINT", "https://collector:4317"),
        ("VOXRAY_OTLP_HEADERS_FILE", file.to_str().unwrap()),
    ]);

    let loaded = given.load().unwrap();

    let headers = &loaded.config.otlp.headers;
    let read: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(read, [("authorization", "Bearer s3cret"), ("x-tenant", "voxray")]);
    assert_eq!(shown(&loaded, "otlp.headers"), "***");
    assert!(!format!("{:?}", loaded.config).contains("s3cret"));
}
