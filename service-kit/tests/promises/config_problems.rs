//! Configuration: what happens to wrong values.

use crate::common::given::Given;
use service_kit::exit::{self, Fatal};

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
        ("VOXRAY_MEDIA_UDP_PORT", "40000"),
    ]);
    let loaded = given.load().unwrap();
    assert_eq!((loaded.config.http.port, loaded.config.media.udp_port), (8080, 40_000));
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
            r#"{"telephony.trusted_proxies": ["10.0.0.7", "10.0.0.0/33"]}"#,
            "telephony.trusted_proxies: \"10.0.0.0/33\" is neither an address (10.0.0.7) nor a network",
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
        "recording.enable: given twice in this file, nested and dotted; keep one"
    );
}

#[test]
fn what_is_not_built_yet_is_refused_and_says_what_is() {
    let rows = [
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
        (
            &[("redis_url", "redis+sentinel://h/main"), ("redis_ca_file", "ca.pem")],
            &["redis_ca_file"],
        ),
        (
            &[("redis_url", "rediss://h"), ("redis_cert_file", "cert.pem")],
            &["redis_key_file"],
        ),
        (&[("transcripts.driver", "postgres")], &["transcripts.driver"]),
        (
            &[("transcripts.table_name", "a; drop table b")],
            &["transcripts.table_name"],
        ),
        (&[("transcripts.table_name", "a.b.c")], &["transcripts.table_name"]),
        (
            &[("transcripts.table_name", "archive.calls")],
            &["transcripts.table_name"],
        ),
        (
            &[("transcripts.enable", "false"), ("archive.retention_days", "30")],
            &["archive.retention_days"],
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
fn tags_of_recordings_are_known_names_or_name_and_value() {
    for good in [
        "session,transport,provider,duration,complete",
        "team=support,cost centre=12/3",
    ] {
        assert!(Given::new().flags(&[("recording.tags", good)]).load().is_ok(), "{good}");
    }
    for bad in ["caller", "=x", "a=b?c", "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=10,k=11"] {
        let problem = Given::new().flags(&[("recording.tags", bad)]).problem();
        assert!(problem.starts_with("recording.tags: "), "{problem}");
    }
}

#[test]
fn a_kms_key_without_kms_is_a_mistake() {
    let problem = Given::new().flags(&[("s3.kms_key_id", "abc")]).problem();
    assert!(problem.contains("s3.sse"), "{problem}");
    let given = Given::new().flags(&[("s3.kms_key_id", "abc"), ("s3.sse", "aws:kms")]);
    assert!(given.load().is_ok());
}

#[test]
fn a_pattern_of_redaction_that_is_none_is_named() {
    let given = Given::new().file(r#"{"transcripts": {"redact_patterns": ["A-\\d{2,4}", "(open"]}}"#);
    let problem = given.problem();
    let named = r#"transcripts.redact_patterns: "(open" is no regular expression: unclosed group"#;
    assert!(problem.starts_with(named), "{problem}");
    let given = Given::new().flags(&[("transcripts.redact_patterns", "x*")]);
    assert!(given.problem().contains(r#""x*" matches the empty text"#));
    let given = Given::new().flags(&[("transcripts.redact", "card,iban")]);
    assert!(given.problem().contains("card, phone, email"), "{}", given.problem());
}

#[test]
fn a_recording_that_keeps_what_the_transcript_must_not_is_warned_about() {
    let given = |recorded| Given::new().flags(&[("transcripts.redact", "card"), ("recording.enable", recorded)]);
    let warned = given("true").load().unwrap().warnings;
    assert!(
        warned
            .iter()
            .any(|warning| warning.contains("does not mute recordings")),
        "{warned:?}"
    );
    assert_eq!(given("false").load().unwrap().warnings, Vec::<String>::new());
    let muted = [
        ("transcripts.redact", "card"),
        ("recording.enable", "true"),
        ("recording.mute_redacted", "true"),
    ];
    assert_eq!(
        Given::new().flags(&muted).load().unwrap().warnings,
        Vec::<String>::new()
    );
}

#[test]
fn muting_what_is_not_redacted_is_a_contradiction() {
    let given = |more: &[(&'static str, &'static str)]| {
        let muted = [("recording.enable", "true"), ("recording.mute_redacted", "true")];
        Given::new().flags(&[&muted, more].concat())
    };
    let problem = given(&[]).problem();
    assert!(
        problem.starts_with("recording.mute_redacted: needs transcripts.redact or transcripts.redact_patterns"),
        "{problem}"
    );
    for redacts in [
        ("transcripts.redact", "email"),
        ("transcripts.redact_patterns", "[A-Z]{3}-[0-9]+"),
    ] {
        assert!(given(&[redacts]).load().unwrap().config.recording.mute_redacted);
    }
}

#[test]
fn a_listener_for_operators_that_cannot_be_is_a_problem() {
    let given = Given::new().env(&[("VOXRAY_ADMIN_PORT", "8080")]);
    assert_eq!(
        given.problem(),
        "admin.port: 8080 is the public port; give operators another one"
    );
    let given = Given::new().env(&[("VOXRAY_ADMIN_HOST", "127.0.0.1")]);
    assert_eq!(given.problem(), "admin.host: does nothing without admin.port: set both");
    let given = Given::new().env(&[("VOXRAY_ADMIN_PORT", "8081"), ("VOXRAY_ADMIN_HOST", "inside")]);
    assert_eq!(
        given.problem(),
        "admin.host: \"inside\" is not an IP address; allowed: an IP address or localhost"
    );
}

#[test]
fn metadata_for_the_collector_that_cannot_be_sent_is_a_problem_and_is_never_shown() {
    for wrong in [
        "s3cret",
        "=s3cret",
        "a b=s3cret",
        "key-bin=s3cret",
        "grpc-timeout=s3cret",
        "x=s3cret\u{e9}",
    ] {
        let problem = Given::new().flags(&[("otlp.headers", wrong)]).problem();
        assert!(problem.starts_with("otlp.headers: number 1 of the list"), "{problem}");
        assert!(!problem.contains("s3cret"), "{problem}");
    }
    let given = Given::new().env(&[
        ("VOXRAY_OTLP_CA_FILE", "ca.pem"),
        ("VOXRAY_OTLP_ENDPOINT", "http://c:4317"),
    ]);
    assert_eq!(
        given.problem(),
        "otlp.ca_file: does nothing without an otlp.endpoint that begins with https://"
    );
}
