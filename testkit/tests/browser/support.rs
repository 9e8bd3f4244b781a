//! A deployment that clients call, and what its API says.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use voxray_testkit::api;
use voxray_testkit::stack::{Stack, StackBuilder};
use voxray_testkit::wait::eventually;

/// Chromium, a deployment and its speech fill a core: two such calls at a time, however many tests run.
static TURNS: Semaphore = Semaphore::const_new(2);

/// To be held by a test that makes calls.
pub async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.unwrap()
}

/// Long enough for anything on a machine that is busy with something else.
pub const LIMIT: Duration = Duration::from_secs(90);
/// What the agent says first.
pub const GREETING: &str = "Hello {{name}}, thank you for calling. How can I help you?";

/// The agent that all clients talk to: local speech, and answers to what the recordings happen to say. Nothing in it
/// looks for other hosts.
pub fn deployment() -> StackBuilder {
    let facts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/facts.json");
    Stack::builder()
        .env("VOXRAY_GREETING", GREETING)
        .env("VOXRAY_LOCAL_FACTS_FILE", facts)
        .env("VOXRAY_TRANSCRIPTS_EXTENDED", "true")
        .env("VOXRAY_WEBRTC_ICE_SERVERS", "[]")
}

/// Everything ends by itself and without a complaint.
pub async fn stop(stack: Stack) {
    stack.stop(Duration::from_secs(60)).await.unwrap();
}

/// The live sessions as this instance sees them.
pub async fn sessions(base_url: &str) -> anyhow::Result<Vec<Value>> {
    let mut data = api::data(&format!("{base_url}/sessions")).await?.unwrap_or_default();
    Ok(serde_json::from_value(data["sessions"].take())?)
}

/// The id of the only session, once it is connected.
pub async fn connected(base_url: &str) -> String {
    let found = eventually("a connected session", LIMIT, || async {
        let sessions = sessions(base_url).await?;
        let found = sessions.iter().find(|session| session["state"] == "connected");
        Ok(found.map(|session| session["sessionId"].as_str().unwrap().to_owned()))
    });
    found.await.unwrap()
}

/// Waits until no session is left.
pub async fn no_sessions(base_url: &str) {
    let gone = eventually("the last session to go", LIMIT, || async {
        Ok(sessions(base_url).await?.is_empty().then_some(()))
    });
    gone.await.unwrap();
}

/// Who said what, once the archive has all of it: the session is over.
pub async fn turns(base_url: &str, session_id: &str) -> Vec<(String, String)> {
    api::turns(base_url, session_id, LIMIT).await.unwrap()
}

/// The archived session ended because its client said goodbye, and not because it was gone.
pub async fn assert_hung_up(base_url: &str, session_id: &str) {
    let url = format!("{base_url}/sessions/{session_id}/transcript");
    let archived = api::data(&url).await.unwrap().expect("it is archived");
    assert_eq!(archived["session"]["endReason"], "caller_hung_up", "{archived:#}");
}

/// A session has one recording, whatever its connection went through. Answers its length in seconds.
pub async fn is_one_recording(stack: &Stack, session_id: &str) -> u32 {
    let recorded = eventually("the recording", LIMIT, || async {
        let mut keys = stack.s3.keys(&stack.bucket, "recordings/").await?;
        keys.retain(|key| key.contains(session_id) && key.ends_with(".wav"));
        Ok((!keys.is_empty()).then_some(keys))
    });
    let keys = recorded.await.unwrap();
    let [key] = &keys[..] else {
        panic!("one recording: {keys:?}")
    };
    let recording = stack.s3.object(&stack.bucket, key).await.unwrap();
    let wav = hound::WavReader::new(&recording[..]).unwrap();
    wav.duration() / wav.spec().sample_rate
}

/// ICE restarts and connections made anew, on all nodes.
pub async fn reconnections(stack: &Stack) -> f64 {
    let mut restarts = 0.0;
    for node in &stack.media {
        let metrics = api::client()
            .get(format!("{}/metrics", node.url()))
            .send()
            .await
            .unwrap();
        let metrics = metrics.text().await.unwrap();
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.starts_with("webrtc_reconnection_attempts_total"));
        restarts += line
            .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap();
    }
    restarts
}
