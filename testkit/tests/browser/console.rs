//! The console page of a real server, walked through in Chromium: spoken to, looked at, and checked with axe.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use service_kit::config::{self, Profile, Sources};
use voxray::single::SingleProcess;
use voxray_testkit::browser::{Script, scripts};
use voxray_testkit::ports::free_port;
use voxray_testkit::scripted;
use voxray_testkit::servers::tools::{node, workspace_root};
use voxray_testkit::stack::Stack;

use crate::microphone::Microphone;
use crate::support::{LIMIT, turn};

/// The whole walk; it takes one minute on a machine that does nothing else.
const WALK_LIMIT: Duration = LIMIT.saturating_mul(3);
const KEY: &str = "an-api-key-of-decent-length";

/// A server as `voxray serve` runs it. Without `providers` it hears and speaks by itself.
async fn server(
    folder: &Path,
    settings: &[(&str, &str)],
    providers: Option<media_svc::providers::Providers>,
) -> SingleProcess {
    let fixed = [
        ("host", "127.0.0.1"),
        ("port", "0"),
        ("data_dir", folder.to_str().unwrap()),
        ("webrtc_ice_servers", "[]"),
    ];
    let flags: BTreeMap<String, String> = fixed
        .iter()
        .chain(settings)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let sources = Sources {
        flags,
        working_dir: folder.to_owned(),
        ..Sources::default()
    };
    let loaded = config::load(&sources, Profile::SingleProcess).unwrap();
    SingleProcess::start(&loaded.config, providers).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_page_talks_shows_calls_and_can_be_used_by_everyone() {
    let _turn = turn().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let facts = scripts().join("console/facts.json");
    let media_port = free_port().unwrap();
    let settings = [
        // The walk has a NAT before it, which it cuts.
        ("media.udp_port", &*media_port.to_string()),
        ("media.nat_ips", "127.0.0.2"),
        ("local.facts_file", facts.to_str().unwrap()),
        ("greeting", "Harbour Music, hello. What can I do for you?"),
    ];
    let open = server(folders[0].path(), &settings, None).await;
    // It has no address of the other family.
    let keyed = [
        ("server_api_key", KEY),
        ("host", "::1"),
        ("greeting", "Hello. What can I do for you?"),
    ];
    let guarded = server(folders[1].path(), &keyed, Some(scripted::Script::new().providers())).await;
    let pause = Duration::from_secs(8);
    let microphone = Microphone::default()
        .quiet(Duration::from_secs(5))
        .say("austen-0880.wav")
        .quiet(pause)
        .say("austen-0930.wav")
        .quiet(Duration::from_secs(1));

    let args = json!({
        "server": open.base_url(),
        "guarded": guarded.base_url(),
        "key": KEY,
        "way": "WebRTC",
        "mediaPort": media_port,
        "microphone": microphone.write(folders[0].path()),
        "pictures": pictures(),
    });
    let walk = Script::start("console/walk.mjs", &args).unwrap();
    let result = walk
        .result(WALK_LIMIT)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));

    println!("{}\n{result:#}", walk.output());
    // `make screenshot`: the picture of the README.
    if std::env::var_os("VOXRAY_SCREENSHOT").is_some() {
        let picture = pictures().join("call-light.png");
        std::fs::copy(picture, workspace_root().join("docs/images/console.png")).unwrap();
    }
    guarded.stop().await;
    open.stop().await;
}

/// What the page has looked like, for people.
fn pictures() -> PathBuf {
    let pictures = workspace_root().join("target/console");
    std::fs::create_dir_all(&pictures).unwrap();
    pictures
}

/// Kills the media nodes of a deployment, each under a call of the page.
pub async fn outlives_its_nodes(stack: &mut Stack, archived: &str) {
    let folder = tempfile::tempdir().unwrap();
    let pids: BTreeMap<&str, u32> = stack
        .media
        .iter()
        .map(|node| (node.name(), node.process().unwrap().pid()))
        .collect();
    let args = json!({
        "server": stack.signaling[0].url(),
        "nodes": pids,
        "session": archived,
        "microphone": Microphone::default().quiet(Duration::from_secs(1)).write(folder.path()),
        "pictures": pictures(),
    });
    let script = Script::start("console/dying.mjs", &args).unwrap();
    let result = script.result(LIMIT).await.unwrap_or_else(|error| panic!("{error:?}"));
    println!("{result:#}");
    for node in &mut stack.media {
        node.kill9();
    }
}

#[test]
fn the_logic_of_the_console_page_keeps_its_promises() {
    let tests = scripts().join("console/unit.test.mjs");
    let done = std::process::Command::new(node().unwrap())
        .arg("--test")
        .arg(tests)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}
