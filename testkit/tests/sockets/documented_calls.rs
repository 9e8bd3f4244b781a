//! The lines of docs/telephony.md that simulate a provider, as people copy them: run by the real command against a server
//! that is set up as the page says.

use futures_util::future::join_all;
use service_kit::config::{Config, Secret, Secrets};
use tokio::process::Command;
use voxray_testkit::scripted::Script;
use voxray_testkit::servers::tools::workspace_root;
use voxray_testkit::stack::voxray_binary;

use crate::support::{LIMIT, Server};

/// What the page leaves to its reader, and what stands for it here.
const FILLED_IN: [(&str, &str); 3] = [
    ("$TWILIO_AUTH_TOKEN", "the-auth-token"),
    ("SECRET", "the-secret-of-the-flow"),
    ("$GENESYS_API_KEY", "the-key-of-the-integration"),
];

fn filled_in(word: &str) -> &str {
    let known = FILLED_IN.iter().find(|(name, _)| *name == word);
    known.map_or(word, |(_, value)| value)
}

fn as_the_page_says(config: &mut Config) {
    let key = |word| Secret::new(filled_in(word));
    let keys = [
        ("twilio".to_owned(), key("$TWILIO_AUTH_TOKEN")),
        ("genesys".to_owned(), key("$GENESYS_API_KEY")),
    ];
    config.secrets = Secrets::new(keys.into(), Vec::new()).into();
    config.telephony.exotel_webhook_secret = Some(key("SECRET"));
}

/// The line's words, for this server and a recording that is here.
fn words(line: &str, base: &str) -> Vec<String> {
    let wav = workspace_root().join("testdata/speech/cards-001.wav");
    let mut words: Vec<String> = line
        .split_whitespace()
        .skip(1)
        .map(|word| filled_in(word).to_owned())
        .collect();
    for at in 1..words.len() {
        if words[at - 1] == "--url" {
            words[at] = base.to_owned();
        } else if words[at] == "hello.wav" {
            words[at] = wav.to_str().unwrap().to_owned();
        }
    }
    words
}

async fn runs(line: &str, base: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(voxray_binary().unwrap());
    command
        .args(words(line, base))
        .current_dir(folder.path())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.unwrap().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{line}: {said}{complained}");
    let heard = said
        .lines()
        .find_map(|line| line.strip_prefix("heard ")?.split(' ').next()?.parse().ok());
    let heard: f64 = heard.unwrap_or_else(|| panic!("{line}: {said}"));
    assert!(heard > 100.0, "{line}: the agent was heard: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_on_every_providers_page_is_a_call_that_a_running_server_answers() {
    let page = std::fs::read_to_string(workspace_root().join("docs/telephony.md")).unwrap();
    let lines: Vec<&str> = page
        .split('`')
        .filter(|code| code.starts_with("voxray call --provider "))
        .collect();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    let server = Server::start_with(Script::new().hears("Hello?"), Default::default(), as_the_page_says).await;

    join_all(lines.iter().map(|line| runs(line, &server.base))).await;

    server.is_idle().await;
    let checked = server
        .metric("telephony_webhooks_total{outcome=\"accepted\",provider=\"twilio\"}")
        .await;
    assert_eq!(checked, 1.0, "the signature was checked");
    server.stop().await;
}
