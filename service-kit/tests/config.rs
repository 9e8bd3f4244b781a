//! Configuration: where values come from, and what happens to wrong ones.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::PathBuf;

use common::pairs;
use service_kit::config::{
    ClientTransport, ConfigError, Loaded, MediaTransport, Problem, Profile, Sources, StoreKind, TranscriptDriver,
    TurnDetection, load, reload_secrets,
};
use service_kit::exit::{self, Fatal};

/// A working folder with a `config.json`, an environment and flags.
struct Given {
    folder: tempfile::TempDir,
    sources: Sources,
}

impl Given {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources {
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        };
        Self { folder, sources }
    }

    fn file(self, text: &str) -> Self {
        std::fs::write(self.folder.path().join("config.json"), text).unwrap();
        self
    }

    fn env(mut self, items: &[(&str, &str)]) -> Self {
        self.sources.env.extend(pairs(items));
        self
    }

    fn flags(mut self, items: &[(&str, &str)]) -> Self {
        self.sources.flags.extend(pairs(items));
        self
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources, Profile::SingleProcess)
    }

    fn problems(&self) -> Vec<Problem> {
        self.load().unwrap_err().problems
    }

    /// The only problem, as `key: message`.
    fn problem(&self) -> String {
        let problems = self.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        format!("{}: {}", problems[0].key, problems[0].message)
    }
}

fn source_of(loaded: &Loaded, key: &str) -> String {
    loaded
        .effective
        .iter()
        .find(|(name, _, _)| name == key)
        .unwrap()
        .2
        .clone()
}

fn shown(loaded: &Loaded, key: &str) -> String {
    loaded
        .effective
        .iter()
        .find(|(name, _, _)| name == key)
        .unwrap()
        .1
        .clone()
}

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
    assert_eq!(config.transport, ClientTransport::WebSocket);
    assert_eq!(
        config.media.transports,
        [MediaTransport::Telephony, MediaTransport::WebSocket]
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
fn a_secret_file_that_is_missing_is_a_problem() {
    let given = Given::new().env(&[("VOXRAY_REDIS_URL_FILE", "/nowhere/redis")]);
    let problem = given.problem();
    assert!(
        problem.starts_with("redis_url: VOXRAY_REDIS_URL_FILE names /nowhere/redis, which cannot be read"),
        "{problem}"
    );
}

#[test]
fn a_secret_given_twice_and_a_file_for_what_is_no_secret_are_problems() {
    let given = Given::new().env(&[("OPENAI_API_KEY", "a"), ("OPENAI_API_KEY_FILE", "/b")]);
    assert_eq!(
        given.problem(),
        "api_keys.openai: OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set; keep one"
    );
    let given = Given::new().env(&[("VOXRAY_PORT_FILE", "/b")]);
    assert_eq!(
        given.problem(),
        "VOXRAY_PORT_FILE: only secrets are read from files; set VOXRAY_PORT to the value itself"
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let given = Given::new().file(r#"{"recording": {"enabled": true}}"#);
    assert_eq!(
        given.problem(),
        "recording.enabled: unknown key; did you mean recording.enable?"
    );
    let given = Given::new().env(&[("VOXRAY_LOGLEVEL", "info")]);
    assert_eq!(
        given.problem(),
        "VOXRAY_LOGLEVEL: unknown variable; did you mean VOXRAY_LOG_LEVEL?"
    );
    let given = Given::new().flags(&[("prot", "1")]);
    assert_eq!(given.problem(), "prot: unknown key; did you mean port?");
    let given = Given::new().file(r#"{"api_keys.opanai": "sk"}"#);
    assert_eq!(
        given.problem(),
        "api_keys.opanai: unknown key; did you mean api_keys.openai?"
    );
    let given = Given::new().file(r#"{"zzzzzzzzzzzz": 1}"#);
    assert_eq!(given.problem(), "zzzzzzzzzzzz: unknown key");
}

#[test]
fn variables_that_are_not_keys_but_ours_are_known() {
    let given = Given::new().env(&[("VOXRAY_MODELS", "/cache"), ("PATH", "/bin"), ("VOXRAYISH", "1")]);
    assert!(given.load().is_ok());
}

#[test]
fn kubernetes_service_links_are_ignored_with_a_warning() {
    let given = Given::new().env(&[
        ("VOXRAY_PORT", "tcp://10.0.0.1:80"),
        ("VOXRAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("VOXRAY_SERVICE_HOST", "10.0.0.1"),
    ]);
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.http.port, 8080);
    assert_eq!(loaded.warnings.len(), 3);
}

#[test]
fn a_wrong_type_is_refused_with_what_is_allowed() {
    let rows = [
        (
            r#"{"port": "8080"}"#,
            "port: \"8080\" is not allowed; allowed: a whole number from 0 to 65535",
        ),
        (
            r#"{"port": 70000}"#,
            "port: 70000 is not allowed; allowed: a whole number from 0 to 65535",
        ),
        (
            r#"{"port": 1.5}"#,
            "port: 1.5 is not allowed; allowed: a whole number from 0 to 65535",
        ),
        (
            r#"{"json_logs": "yes"}"#,
            "json_logs: \"yes\" is not allowed; allowed: true or false",
        ),
        (
            r#"{"log_level": "loud"}"#,
            "log_level: \"loud\" is not allowed; allowed: debug, info, warn, error",
        ),
        (
            r#"{"vad_threshold": 2}"#,
            "vad_confidence: 2 is not allowed; allowed: a number from 0 to 1 (set by vad_threshold)",
        ),
        (r#"{"model": 5}"#, "model: 5 is not allowed; allowed: text"),
        (
            r#"{"cors_allowed_origins": [1]}"#,
            "cors_allowed_origins: [1] is not allowed; allowed: a list of text",
        ),
        (r#"{"recording": true}"#, "recording: unknown key"),
        (
            r#"{"host": "example.com"}"#,
            "host: \"example.com\" is not an IP address; allowed: an IP address or localhost",
        ),
        (
            r#"{"s3.endpoint": "localhost:9000"}"#,
            "s3.endpoint: \"localhost:9000\" is not allowed; allowed: a URL starting with http://, https://",
        ),
    ];
    for (text, expected) in rows {
        let problem = Given::new().file(text).problem();
        assert!(problem.starts_with(expected), "{text}\n{problem}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let given = Given::new()
        .file(r#"{"port": "x", "unknown_thing": 1, "turn_stop_secs": -1}"#)
        .env(&[("VOXRAY_LOG_LEVEL", "loud"), ("VOXRAY_SESSION_STORE", "redis")])
        .flags(&[("media.max_sessions", "many")]);
    let error = given.load().unwrap_err();
    let keys: Vec<_> = error.problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "port",
            "turn_stop_secs",
            "unknown_thing",
            "log_level",
            "media.max_sessions",
            "redis_url"
        ]
    );
    let text = error.to_string();
    assert!(text.starts_with("the configuration has 6 problems:\n"), "{text}");
    let fatal = Fatal::from(error);
    assert_eq!(fatal.status, exit::CONFIG);
}

#[test]
fn a_secret_is_never_shown_even_when_wrong() {
    let given = Given::new()
        .file(r#"{"transcripts.dsn": "hunter2", "server_api_key": {"a": "hunter2"}}"#)
        .env(&[("VOXRAY_REDIS_URL", "http://:hunter2@host")]);
    let text = given.load().unwrap_err().to_string();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.matches("***").count(), 3, "{text}");

    let given = Given::new().file(
        r#"{"server_api_key": ["hunter2"], "redis_url": "redis://:hunter2@h", "api_keys.openai": "hunter2",
            "webrtc_ice_servers": [{"urls": "turn:t.example", "username": "u", "credential": "hunter2"}]}"#,
    );
    let loaded = given.load().unwrap();
    let text = format!("{:?} {:?}", loaded.effective, loaded.config.secrets);
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(
        loaded.config.webrtc.ice_servers[0].credential.as_deref(),
        Some("hunter2")
    );
}

#[test]
fn a_named_file_must_be_there() {
    let mut given = Given::new();
    given.sources.file = Some("/nowhere/voxray.json".into());
    let error = given.load().unwrap_err();
    assert_eq!(error.problems[0].key, "/nowhere/voxray.json");
    assert_eq!(Fatal::from(error).status, exit::NO_INPUT);

    let given = Given::new().env(&[("VOXRAY_CONFIG", "/nowhere/else.json")]);
    assert_eq!(given.problems()[0].key, "/nowhere/else.json");
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
fn invalid_json_is_located() {
    let problem = Given::new().file("{\n  \"port\": 1,\n}").problem();
    assert!(
        problem.contains("not valid JSON") && problem.contains("line 3 column 1"),
        "{problem}"
    );
    let problem = Given::new().file("[]").problem();
    assert!(problem.contains("one JSON object"), "{problem}");
}

#[test]
fn a_key_given_twice_in_one_file_is_refused() {
    let problem = Given::new()
        .file(r#"{"recording": {"enable": true}, "recording.enable": false}"#)
        .problem();
    assert_eq!(
        problem,
        "recording.enable: given twice in this file, also as recording.enable; keep one"
    );
}

#[test]
fn what_is_not_built_yet_is_refused_and_says_what_is() {
    let rows = [
        (
            "recording.format",
            "ogg",
            "\"ogg\" is not supported by this release; allowed: wav",
        ),
        (
            "transcripts.driver",
            "mysql",
            "\"mysql\" is not supported by this release; allowed: postgres, sqlite",
        ),
        (
            "transcripts.dsn",
            "mysql://u@h/d",
            "mysql:// is not supported by this release",
        ),
        (
            "turn_detection",
            "smart",
            "\"smart\" is not supported by this release; allowed: silence",
        ),
        (
            "turn_detection",
            "none",
            "\"none\" is not supported by this release; allowed: silence",
        ),
        (
            "fallback.llm",
            "openai",
            "this key is not supported by this release; remove it",
        ),
        (
            "mcp.url",
            "http://localhost",
            "this key is not supported by this release; remove it",
        ),
        (
            "redis_url",
            "redis+sentinel://h",
            "redis+sentinel:// is not supported by this release; allowed: redis://, rediss://",
        ),
        (
            "redis_url",
            "redis+cluster://h",
            "redis+cluster:// is not supported by this release",
        ),
        (
            "media.transports",
            "telephony,webrtc",
            "\"webrtc\" is not supported by this release; allowed: telephony, websocket",
        ),
        (
            "transport",
            "both",
            "\"both\" is not supported by this release; allowed: websocket",
        ),
        (
            "transport",
            "smallwebrtc",
            "\"smallwebrtc\" is not supported by this release; allowed: websocket",
        ),
        (
            "runner_transport",
            "telnyx",
            "\"telnyx\" is not supported by this release; allowed: \"\", twilio",
        ),
        (
            "interruption_strategy",
            "keyword",
            "\"keyword\" is not supported by this release; allowed: none, min_words",
        ),
        (
            "stt_provider",
            "deepgram",
            "\"deepgram\" is not supported by this release; allowed: local, openai",
        ),
        (
            "vad_type",
            "silero",
            "\"silero\" is not supported by this release; allowed: earshot",
        ),
        (
            "media.udp_port",
            "50000",
            "this key is not supported by this release; remove it",
        ),
        (
            "media.nat_ips",
            "1.2.3.4",
            "this key is not supported by this release; remove it",
        ),
    ];
    for (key, value, expected) in rows {
        let problem = Given::new().flags(&[(key, value)]).problem();
        assert!(problem.starts_with(&format!("{key}: {expected}")), "{problem}");
    }
    assert!(
        Given::new()
            .flags(&[("fallback.stt", ""), ("runner_transport", "")])
            .load()
            .is_ok()
    );
}

#[test]
fn what_has_to_go_together_is_checked() {
    let rows = [
        (
            &[("tls_enable", "true"), ("tls_cert_file", "/nowhere.pem")][..],
            &["tls_cert_file", "tls_key_file"][..],
        ),
        (&[("session_store", "redis")], &["redis_url"]),
        (&[("transcripts.driver", "postgres")], &["transcripts.driver"]),
        (
            &[("transcripts.table_name", "a; drop table b")],
            &["transcripts.table_name"],
        ),
        (&[("cors_allowed_origins", "*")], &["cors_allowed_origins"]),
        (
            &[("cors_allowed_origins", "https://a.example/path")],
            &["cors_allowed_origins"],
        ),
        (&[("recording.base_path", "a/../../b")], &["recording.base_path"]),
        (&[("turn_stop_secs", "31")], &["turn_stop_secs"]),
    ];
    for (flags, expected) in rows {
        let problems = Given::new().flags(flags).problems();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, expected, "{flags:?}");
    }
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
fn switching_signature_checks_off_is_warned_about() {
    let loaded = Given::new()
        .flags(&[("telephony.verify_signatures", "false")])
        .load()
        .unwrap();
    assert!(
        loaded.warnings[0].contains("verify_signatures"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn reloading_changes_provider_and_server_keys_and_nothing_else() {
    let given = Given::new().file(r#"{"port": 1, "api_keys.openai": "old", "server_api_key": "a"}"#);
    let key_file = given.write("twilio", "first\n");
    let given = given.env(&[("TWILIO_AUTH_TOKEN_FILE", key_file.to_str().unwrap())]);
    let config = given.load().unwrap().config;

    let given = given.file(r#"{"port": "nonsense", "api_keys.openai": "new", "server_api_key": ["b", "c"]}"#);
    given.write("twilio", "second\n");
    reload_secrets(&given.sources, &config).unwrap();

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
        assert!(reload_secrets(&sources, &config).is_err());
        assert_eq!(config.secrets.api_key("openai").unwrap().expose(), "old");
        assert_eq!(config.secrets.server_api_keys()[0].expose(), "a");
    }
}
