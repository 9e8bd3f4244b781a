//! Keys: needed only where the service is OpenAI's own, and read for every request.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use service_kit::config::{self, Profile, Sources};
use voxray::caller::{Call, Step};
use voxray_testkit::openai::{Answer, Endpoint, OpenAiServer, tone};
use voxray_testkit::ports::free_port;
use voxray_testkit::process::{Process, Spec};
use voxray_testkit::stack::voxray_binary;

use crate::support::{Agent, set_key};

/// Generous: a process that needs longer has hung.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_key_that_was_replaced_is_used_from_the_next_request_on() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Chat, Answer::chat(["Yes."]));
    let mut agent = Agent::new(&server, "keys-rotate").await;

    for key in ["old", "new"] {
        set_key(&agent.config, key);
        let _asked = agent.ask();
        agent.reply().await;
    }

    let requests = server.requests(Endpoint::Chat);
    let keys: Vec<_> = requests
        .iter()
        .map(|request| request.authorization().unwrap())
        .collect();
    assert_eq!(keys, ["Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn a_server_of_ones_own_needs_no_key() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Chat, Answer::chat(["Yes."]));
    let mut agent = Agent::new(&server, "keys-none").await;

    let _asked = agent.ask();
    agent.reply().await;

    assert_eq!(server.request(Endpoint::Chat, 0).await.authorization(), None);
}

#[tokio::test]
async fn without_a_key_openai_itself_is_refused_when_the_server_starts() {
    let sources = Sources {
        flags: [("provider".to_owned(), "openai".to_owned())].into(),
        ..Sources::default()
    };
    let config = config::load(&sources, Profile::SingleProcess).unwrap().config;

    let error = media_svc::providers::build(&config).await.err().unwrap();

    assert!(format!("{error} {error:?}").contains("OPENAI_API_KEY"), "{error}");
}

#[tokio::test]
async fn hangup_makes_a_running_server_read_its_key_file_again() {
    let server = OpenAiServer::start().await.unwrap();
    server.otherwise(Endpoint::Speech, Answer::speech(&tone(440.0, 400)));
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("openai-key");
    std::fs::write(&key_file, "sk-old\n").unwrap();
    let port = free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let process = Process::spawn(
        serve(folder.path(), port)
            .env("VOXRAY_PROVIDER", "openai")
            .env("VOXRAY_OPENAI_BASE_URL", server.base_url())
            .env("VOXRAY_API_KEYS_OPENAI_FILE", &key_file),
        &folder.path().join("log"),
    )
    .unwrap();
    let ready = || async {
        let answer = reqwest::get(format!("{url}/ready")).await?;
        Ok(answer.error_for_status().map(drop)?)
    };
    // The client needs it, and nothing else here has asked for it yet.
    let _ = rustls::crypto::ring::default_provider().install_default();
    process.wait_until_ready(LIMIT, ready).await.unwrap();

    hear_greeting(&url).await;
    let before = server.requests(Endpoint::Speech);
    std::fs::write(&key_file, "sk-new\n").unwrap();
    process.signal(Signal::HUP).unwrap();
    let reloaded = || async {
        let log = std::fs::read_to_string(process.log())?;
        anyhow::ensure!(log.contains("API keys and log level read again"), "not read yet");
        Ok(())
    };
    process.wait_until_ready(LIMIT, reloaded).await.unwrap();
    hear_greeting(&url).await;

    let after = server.requests(Endpoint::Speech).split_off(before.len());
    assert!(!before.is_empty() && !after.is_empty());
    assert!(
        before
            .iter()
            .all(|request| request.authorization() == Some("Bearer sk-old"))
    );
    assert!(
        after
            .iter()
            .all(|request| request.authorization() == Some("Bearer sk-new"))
    );
    process.terminate().unwrap();
    assert!(process.wait().await.unwrap().success());
}

#[tokio::test]
async fn the_log_level_of_a_running_server_changes_by_hangup_and_by_the_operators_route() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let at_level = |level: &str| std::fs::write(&config, format!(r#"{{"log_level": "{level}"}}"#)).unwrap();
    at_level("info");
    let port = free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    // Nobody is asked anything: no key is needed.
    let spec = serve(folder.path(), port)
        .env("VOXRAY_CONFIG", &config)
        .env("VOXRAY_JSON_LOGS", "true")
        .env("VOXRAY_PROVIDER", "openai")
        .env("VOXRAY_OPENAI_BASE_URL", "http://127.0.0.1:1/v1");
    let process = Process::spawn(spec, &folder.path().join("log")).unwrap();
    let asked = async |path: &str| {
        reqwest::get(format!("{url}{path}"))
            .await
            .map(|answer| answer.status().as_u16())
    };
    let ready = || async {
        anyhow::ensure!(asked("/ready").await? == 200, "not ready yet");
        Ok(())
    };
    process.wait_until_ready(LIMIT, ready).await.unwrap();
    let debugs = || {
        let log = std::fs::read_to_string(process.log()).unwrap();
        log.lines().filter(|line| line.contains(r#""level":"debug""#)).count()
    };
    assert_eq!(debugs(), 0);

    at_level("debug");
    process.signal(Signal::HUP).unwrap();
    let changed = || async {
        // Each answer is a line of this level.
        asked("/health").await?;
        anyhow::ensure!(debugs() > 0, "nothing of level debug yet");
        Ok(())
    };
    process.wait_until_ready(LIMIT, changed).await.unwrap();

    let put = reqwest::Client::new().put(format!("{url}/log-level"));
    let put = put
        .header("content-type", "application/json")
        .body(r#"{"level": "error"}"#);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let quiet = debugs();
    assert_eq!(asked("/health").await.unwrap(), 200);
    assert_eq!(debugs(), quiet);
    process.terminate().unwrap();
    assert!(process.wait().await.unwrap().success());
}

/// `voxray serve` with none of this machine's own settings.
fn serve(folder: &Path, port: u16) -> Spec {
    let inherited = std::env::vars().map(|(name, _)| name);
    let ours = inherited.filter(|name| name.starts_with("VOXRAY_") || name.ends_with("_API_KEY"));
    let spec = Spec::new("voxray", voxray_binary().unwrap())
        .arg("serve")
        .folder(folder);
    ours.fold(spec, |spec, name| spec.env_remove(name))
        .env("VOXRAY_HOST", "127.0.0.1")
        .env("VOXRAY_PORT", port.to_string())
        .env("VOXRAY_DATA_DIR", folder.join("data"))
}

async fn hear_greeting(url: &str) {
    let report = Call::new(url, vec![Step::answer()]).place().await.unwrap();
    assert!(report.heard.iter().any(|sample| sample.abs() > 1_000));
}
