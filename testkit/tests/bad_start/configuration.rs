//! Wrong configuration.

use std::time::Duration;

use anyhow::ensure;
use service_kit::exit;
use voxray_testkit::environment::hide_settings;
use voxray_testkit::process::{Process, Spec};
use voxray_testkit::stack::voxray_binary;

use crate::support::{SECRET, Voxray};

#[tokio::test]
async fn a_configuration_file_that_is_not_there_is_named() {
    let voxray = Voxray::new();
    for arguments in [["--config", "nope.json"], ["-config", "nope.json"]] {
        voxray
            .fails(&arguments, exit::NO_INPUT, &["nope.json", "No such file"])
            .await;
    }
    voxray
        .fails(&["-config=nope.json"], exit::NO_INPUT, &["nope.json"])
        .await;
    let voxray = voxray.env("VOXRAY_CONFIG", "gone.json");
    voxray.fails(&["signaling"], exit::NO_INPUT, &["gone.json"]).await;
    assert!(voxray.left().is_empty());
}

#[tokio::test]
async fn every_problem_is_named_at_once_with_its_place_and_no_secret() {
    let voxray = Voxray::new()
        .env("VOXRAY_LOG_LEVEL", "loud")
        .env("VOXRAY_SERVER_API_KEY", SECRET);
    let file = format!(
        r#"{{"sever_api_key": "{SECRET}", "port": true, "transcripts": {{"dsn": "{SECRET}"}}, "_note": "fine"}}"#
    );
    voxray.write("c.json", file);
    let says = [
        "sever_api_key: unknown key; did you mean server_api_key?",
        "port: true is not allowed",
        "0 to 65535",
        "transcripts.dsn: ***",
        "VOXRAY_LOG_LEVEL",
        "debug, info, warn, error",
        "--set nonsense",
        "docs/configuration.md",
    ];
    let says = says.map(|words| {
        if words == "--set nonsense" {
            "nonsense: unknown key"
        } else {
            words
        }
    });
    let text = voxray
        .fails(&["-config", "c.json", "--set", "nonsense=1"], exit::CONFIG, &says)
        .await;
    assert!(!text.contains("_note"), "{text}");
    assert_eq!(voxray.left(), ["c.json"]);
}

#[tokio::test]
async fn a_file_that_is_not_json_is_said_to_be_so_with_the_line() {
    let voxray = Voxray::new();
    voxray.write("c.json", "{\n  \"port\": 80,,\n}");
    voxray
        .fails(&["--config", "c.json"], exit::CONFIG, &["c.json", "line 2"])
        .await;
}

#[tokio::test]
async fn a_wrong_command_line_is_a_usage_error() {
    let voxray = Voxray::new();
    for arguments in [
        &["serv"][..],
        &["--set", "port"],
        &["call"],
        &["--nonsense"],
        &["health"],
    ] {
        let outcome = voxray.run(arguments).await;
        assert_eq!(
            outcome.status,
            i32::from(exit::CONFIG),
            "{arguments:?}: {}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("--help"), "{arguments:?}: {}", outcome.stderr);
    }
    let help = voxray.run(&["--help"]).await;
    assert_eq!(help.status, 0);
    let statuses = [
        exit::CONFIG,
        exit::NO_INPUT,
        exit::UNAVAILABLE,
        exit::SOFTWARE,
        exit::CANNOT_CREATE,
        exit::MODELS,
    ];
    for status in statuses {
        assert!(
            help.stdout.contains(&format!(" {status} ")),
            "{status}: {}",
            help.stdout
        );
    }
}

#[tokio::test]
async fn the_effective_configuration_shows_sources_and_no_secrets() {
    let voxray = Voxray::new()
        .env("VOXRAY_SERVER_API_KEY", SECRET)
        .env("OPENAI_API_KEY", SECRET);
    voxray.write("c.json", r#"{"recording": {"channels": "mono"}}"#);
    let shown = voxray.run(&["config", "-config", "c.json", "--set", "port=1234"]).await;
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    let line = |key: &str| {
        let found = shown
            .stdout
            .lines()
            .find(|line| line.split_whitespace().next() == Some(key));
        found.unwrap_or_else(|| panic!("no {key}: {}", shown.stdout)).to_owned()
    };
    for (key, value, source) in [
        ("port", "1234", "(flag)"),
        ("recording.channels", "mono", "(file c.json)"),
        ("server_api_key", "***", "(env VOXRAY_SERVER_API_KEY)"),
        ("api_keys.openai", "***", "(env OPENAI_API_KEY)"),
        ("host", "127.0.0.1", "(env VOXRAY_HOST)"),
        ("turn_stop_secs", "0.7", "(default)"),
    ] {
        assert!(
            line(key).contains(value) && line(key).ends_with(source),
            "{}",
            line(key)
        );
    }
    assert_eq!(voxray.left(), ["c.json"]);
}

#[tokio::test]
async fn a_service_that_needs_a_shared_store_or_secret_says_which() {
    let voxray = Voxray::new();
    voxray.fails(&["signaling"], exit::CONFIG, &["service_token"]).await;
    let voxray = voxray.env("VOXRAY_SERVICE_TOKEN", SECRET);
    for service in ["signaling", "media"] {
        let says = ["session_store", "memory", "redis_url", "voxray serve"];
        voxray.fails(&[service, "--set", "port=0"], exit::CONFIG, &says).await;
    }
    assert!(voxray.left().is_empty());
}

#[tokio::test]
async fn a_provider_without_its_key_or_that_does_not_exist_is_named() {
    let voxray = Voxray::new();
    voxray
        .fails(
            &["--set", "port=0", "--set", "provider=openai"],
            exit::CONFIG,
            &["OPENAI_API_KEY"],
        )
        .await;
    voxray
        .fails(
            &["--set", "port=0", "--set", "llm_provider=hal"],
            exit::CONFIG,
            &["llm_provider", "hal"],
        )
        .await;
    voxray
        .fails(
            &["--set", "port=0", "--set", "tts_voice=hal"],
            exit::CONFIG,
            &["tts_voice", "hal"],
        )
        .await;
    let facts = ["--set", "port=0", "--set", "local.facts_file=facts.json"];
    voxray.fails(&facts, exit::NO_INPUT, &["facts.json"]).await;
    assert!(voxray.left().is_empty(), "{:?}", voxray.left());
}

#[tokio::test]
async fn a_server_whose_webhooks_are_not_checked_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let spec = hide_settings(Spec::new("voxray", voxray_binary().unwrap()), false)
        .folder(folder.path())
        .env("VOXRAY_HOST", "127.0.0.1")
        .env("VOXRAY_PORT", "0")
        .env("VOXRAY_DATA_DIR", folder.path())
        .env("VOXRAY_TELEPHONY_VERIFY_SIGNATURES", "false");
    let process = Process::spawn(spec, &folder.path().join("log")).unwrap();
    let listens = || async {
        let said = std::fs::read_to_string(process.log())?;
        ensure!(said.contains("Ctrl-C stops it."), "it does not listen yet");
        Ok(())
    };

    process
        .wait_until_ready(Duration::from_secs(90), listens)
        .await
        .unwrap();

    let said = std::fs::read_to_string(process.log()).unwrap();
    let warnings = said.lines().filter(|line| line.contains("telephony.verify_signatures"));
    assert_eq!(warnings.count(), 1, "{said}");
}
