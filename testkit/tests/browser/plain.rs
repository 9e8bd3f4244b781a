//! A browser without a library.

use std::time::Duration;

use serde_json::json;
use voxray_testkit::ports::free_port;

use crate::conversation::{Conversation, said_by_the_agent};
use crate::ears::Ears;
use crate::microphone::Microphone;
use crate::support::{connected, deployment, no_sessions, stop, turn, turns};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_a_library_is_understood_and_answered() {
    let _turn = turn().await;
    let port = free_port().unwrap();
    let deployment = deployment().env("VOXRAY_CORS_ALLOWED_ORIGINS", format!("http://127.0.0.1:{port}"));
    let stack = deployment.start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let base = stack.signaling[0].url();
    let seconds = Duration::from_secs;
    let caller = Microphone::default()
        .quiet(seconds(6))
        .say("austen-0930.wav")
        .quiet(seconds(1));
    let args = json!({"server": base, "port": port, "options": {"body": {"name": "Mary"}}});

    let (call, session_id) = tokio::join!(Conversation::hold("plain", &caller, args), connected(&base));

    no_sessions(&base).await;
    call.assert_played();
    call.assert_transcribed(&caller);
    let turns = turns(&base, &session_id).await;
    let [greeting, answer] = said_by_the_agent(&turns)[..] else {
        panic!("a greeting and an answer: {turns:#?}")
    };
    assert!(greeting.contains("Mary"), "{greeting:?}");
    let ears = Ears::new().await;
    call.assert_heard(&ears, &[(0, greeting), (1, answer)]).await;
    stop(stack).await;
}
