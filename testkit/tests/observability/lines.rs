//! What services log: where a line belongs, and at which level.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use voxray::caller::{Call, Step};
use voxray_testkit::carriers;
use voxray_testkit::openai::{Answer, Endpoint, tone};
use voxray_testkit::service::Service;
use voxray_testkit::wait::eventually;

use crate::client::{LIMIT, http};
use crate::scene::{COLLECTOR_TOKEN, Scene, say, write_config};
use crate::traces::{all_lines, log_lines};

/// What is logged of a phone call with a turn, by whom; where more than one service of a kind runs, by one of them.
const OF_A_CALL: [(&str, &str); 8] = [
    ("signaling", "session placed"),
    ("media", "a phone stream has begun"),
    ("media", "call began"),
    ("media", "turn"),
    ("media", "call recorded"),
    ("media", "call ended"),
    ("archiver", "recording stored"),
    ("archiver", "session archived"),
];

/// A phone call, looked up by its session id: each service says what it did with it, on which instance, in which trace.
pub async fn of_a_phone_call(scene: &Scene) {
    scene
        .openai
        .answer(Endpoint::Transcriptions, [Answer::transcript("Good evening.")]);
    scene.openai.answer(Endpoint::Chat, [Answer::chat(["Good evening."])]);
    let short = Answer::speech(&tone(700.0, 300));
    scene.openai.otherwise(Endpoint::Speech, short);
    let before = placed(scene);
    // Turns are not told by default.
    assert_eq!(set_level(&scene.stack.media[0], "debug").await, 200);
    let heard = Step::WaitForSpeech {
        heard: Duration::from_millis(200),
        timeout: LIMIT,
    };
    let mut call = Call::new(
        scene.stack.signaling[0].url(),
        vec![Step::answer(), say("austen-0880.wav"), heard],
    );
    call.auth_token = Some(carriers::TOKEN.to_owned());
    call.place().await.unwrap();
    let new: Vec<String> = placed(scene).difference(&before).cloned().collect();
    let [session_id] = &new[..] else {
        panic!("not one new session: {new:?}");
    };

    let all = eventually("every service has said what it did", LIMIT, || async {
        let missing = OF_A_CALL
            .iter()
            .any(|(role, msg)| lines_of(scene, role, msg, session_id).is_empty());
        Ok((!missing).then_some(()))
    });
    let all = all.await;
    let mut traces = BTreeSet::new();
    for (role, msg) in OF_A_CALL {
        let lines = lines_of(scene, role, msg, session_id);
        assert!(!lines.is_empty(), "{role} has not said {msg:?}: {all:?}");
        for line in lines {
            traces.insert(
                line["trace_id"]
                    .as_str()
                    .unwrap_or_else(|| panic!("no trace: {line}"))
                    .to_owned(),
            );
        }
    }
    assert_eq!(traces.len(), 1, "{traces:?}");
    let placed = &lines_of(scene, "signaling", "session placed", session_id)[0];
    assert_eq!(placed["media_node"], "media-1");
    assert_eq!(set_level(&scene.stack.media[0], "info").await, 200);
}

/// The control plane says where a WebRTC session is, too.
pub fn of_a_webrtc_call(scene: &Scene, session_id: &str) {
    for (role, msg) in [("signaling", "session placed"), ("media", "call began")] {
        let lines = lines_of(scene, role, msg, session_id);
        assert!(!lines.is_empty(), "{role} has not said {msg:?}");
        assert!(lines.iter().all(|line| line["trace_id"].is_string()), "{lines:?}");
    }
}

/// Sessions that were placed so far.
fn placed(scene: &Scene) -> BTreeSet<String> {
    let lines = scene.stack.signaling.iter().flat_map(log_lines);
    let placed = lines.filter(|line| line["msg"] == "session placed");
    placed
        .map(|line| line["session_id"].as_str().unwrap().to_owned())
        .collect()
}

/// The lines about a session with which the services of a kind say this.
fn lines_of(scene: &Scene, role: &str, msg: &str, session_id: &str) -> Vec<Value> {
    let services = scene.stack.services().filter(|service| service.role().name() == role);
    let lines = services.flat_map(log_lines);
    lines
        .filter(|line| line["msg"] == msg && line["session_id"] == session_id)
        .collect()
}

/// Every line names the instance it comes from, and lines about a call which, and its trace. Nothing is said that is not
/// for the log.
pub fn say_where_they_belong(scene: &Scene) {
    let mut nodes = BTreeSet::new();
    for service in scene.stack.services() {
        let own: BTreeSet<String> = log_lines(service)
            .iter()
            .map(|line| {
                line["node"]
                    .as_str()
                    .unwrap_or_else(|| panic!("a line without a node: {line}"))
                    .to_owned()
            })
            .collect();
        assert_eq!(own.len(), 1, "{} calls itself {own:?}", service.name());
        nodes.extend(own);
    }
    assert_eq!(nodes.len(), scene.stack.services().count(), "{nodes:?}");
    let media = log_lines(&scene.stack.media[0]);
    assert!(media.iter().all(|line| line["node"] == "media-1"));
    let calls: Vec<&Value> = media.iter().filter(|line| line["msg"] == "call ended").collect();
    assert!(!calls.is_empty());
    for line in calls {
        assert!(line["session_id"].is_string() && line["trace_id"].is_string(), "{line}");
    }
    // Nothing a caller or the agent said, and no number; above debug.
    let lines: Vec<Value> = all_lines(&scene.stack)
        .into_iter()
        .filter(|line| line["level"] != "debug")
        .collect();
    let text = serde_json::to_string(&lines).unwrap();
    for secret in [
        "table for two",
        "kitchen is open",
        "Good evening",
        "+15005550006",
        "s3cret-token",
        COLLECTOR_TOKEN,
    ] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}

/// Of every service: by the configuration and SIGHUP, and by the operators' route.
pub async fn level_changes_while_services_run(scene: &Scene) {
    let debugs = |service: &Service| {
        let lines = log_lines(service);
        lines.iter().filter(|line| line["level"] == "debug").count()
    };
    let before: Vec<usize> = scene.stack.services().map(debugs).collect();
    let told = scene.stack.services().zip(&before);
    let told: Vec<&str> = told
        .filter(|(_, debugs)| **debugs > 0)
        .map(|(service, _)| service.name())
        .collect();
    assert_eq!(told, ["media-1"], "only there the level was changed");
    write_config(&scene.config_file(), &scene.twilio, "debug");
    for service in scene.stack.services() {
        service.process().unwrap().signal(Signal::HUP).unwrap();
    }
    for (service, before) in scene.stack.services().zip(before) {
        // Each scrape is answered with a line of this level.
        let changed = eventually("lines of level debug", LIMIT, || async {
            Ok((debugs(service) > before).then_some(()))
        });
        changed
            .await
            .unwrap_or_else(|error| panic!("{}: {error:#}", service.name()));
    }
    for service in scene.stack.services() {
        let name = service.name();
        assert_eq!(set_level(service, "loud").await, 422, "{name}");
        assert_eq!(set_level(service, "error").await, 200, "{name}");
        let quiet = log_lines(service).len();
        let nowhere = http().get(format!("{}/nowhere", service.url())).send().await;
        assert_eq!(nowhere.unwrap().status(), 404, "{name}");
        assert_eq!(log_lines(service).len(), quiet, "{name}");
    }
}

/// The operators' route.
async fn set_level(service: &Service, level: &str) -> u16 {
    let url = format!("{}/log-level", service.operators_url());
    let asked = http().put(url).json(&json!({ "level": level })).send().await;
    asked.unwrap().status().as_u16()
}
