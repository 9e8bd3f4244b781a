//! The script of docs/connect-your-client.md and docs/client-sockets.md, as it is: a person's voice in, the agent's out.

use std::process::Command;
use std::time::Duration;

use voxray::wav;
use voxray::words::word_error_rate;
use voxray_testkit::servers::tools::{tools_folder, workspace_root};

use super::Server;
use crate::api;
use crate::clips;

#[test]
fn the_pages_show_the_script_that_is_run() {
    let script = std::fs::read_to_string(workspace_root().join("testkit/clients/talk.py")).unwrap();
    for name in ["docs/connect-your-client.md", "docs/client-sockets.md"] {
        let page = std::fs::read_to_string(workspace_root().join(name)).unwrap();
        assert!(
            page.contains(&format!("```python\n{script}```")),
            "copy testkit/clients/talk.py into {name}"
        );
    }
    let lines = script.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 32, "{lines} lines: it is to stay short");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_of_thirty_lines_holds_a_conversation() {
    let server = Server::start().await;
    let clip = clips::named("austen-0880.wav");
    let answer = server.folder.path().join("answer.wav");
    let mut python = Command::new("python3");
    python
        .arg(workspace_root().join("testkit/clients/talk.py"))
        .arg(format!("{}/ws", server.url().replacen("http", "ws", 1)))
        .arg(workspace_root().join("testdata/speech").join(&clip.file))
        .arg(&answer)
        .env("PYTHONPATH", tools_folder().join("lib"));

    let running = tokio::task::spawn_blocking(move || python.output().unwrap());
    let output = tokio::time::timeout(Duration::from_secs(90), running)
        .await
        .unwrap()
        .unwrap();

    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `make tools`; {printed}{errors}");
    let said_by = |who: &str| -> String {
        let said = printed.lines().filter_map(|line| line.strip_prefix(who));
        said.collect::<Vec<_>>().join(" ")
    };
    let misheard = word_error_rate(&clip.text, &said_by("you: "));
    assert!(misheard <= 0.15, "{misheard}: {printed}");

    let mut answer = hound::WavReader::open(answer).unwrap();
    assert_eq!((answer.spec().sample_rate, answer.spec().channels), (24_000, 1));
    let samples: Vec<i16> = answer.samples().map(Result::unwrap).collect();
    let understood = server
        .understand(&wav::resample(&samples, 24_000, wav::TELEPHONE_HZ).unwrap())
        .await;
    // The greeting was cut off by the caller; what came after it is all there.
    let answered = printed
        .split_once("you: ")
        .and_then(|(_, after)| after.split_once("agent: "))
        .unwrap()
        .1;
    let answered: Vec<&str> = answered.split("\nagent: ").map(str::trim).collect();
    let last = answered.last().unwrap().split_whitespace().last().unwrap();
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let heard: Vec<String> = understood.split_whitespace().map(bare).collect();
    assert!(
        heard.contains(&bare(last)),
        "{understood:?} has no {last:?} of {answered:?}"
    );
    api::no_sessions(&server.url()).await;
    server.stop().await;
}
