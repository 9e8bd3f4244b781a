//! A browser without a library.

use std::time::Duration;

use serde_json::{Value, json};
use voxray_testkit::ports::free_port;
use voxray_testkit::servers::Coturn;

use crate::conversation::{Conversation, said_by_the_agent};
use crate::ears::Ears;
use crate::microphone::Microphone;
use crate::support::{connected, deployment, is_one_recording, no_sessions, reconnections, stop, turn, turns};

/// The greeting comes over the direct way. Then the page offers a camera on the live connection, and then its network
/// is one that lets nothing through but TURN: it restarts ICE, and the conversation goes on through the relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_a_library_is_understood_and_answered_and_goes_on_in_another_network() {
    let _turn = turn().await;
    let port = free_port().unwrap();
    let relay = Coturn::start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let deployment = deployment()
        .env("VOXRAY_CORS_ALLOWED_ORIGINS", format!("http://127.0.0.1:{port}"))
        .env("VOXRAY_WEBRTC_ICE_SERVERS", relay.ice_servers().to_string());
    let stack = deployment.start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let base = stack.signaling[0].url();
    let seconds = Duration::from_secs;
    let caller = Microphone::default()
        .quiet(seconds(12))
        .say("austen-0930.wav")
        .quiet(seconds(1));
    let args = json!({"server": base, "port": port, "options": {"body": {"name": "Mary"}, "move": "relay"}});

    let (call, session_id) = tokio::join!(Conversation::hold("plain", &caller, args), connected(&base));

    no_sessions(&base).await;
    println!("{:#}", call.moved);
    has_moved(&call.moved);
    agree(&call.told);
    call.assert_played();
    call.assert_transcribed(&caller);
    let turns = turns(&base, &session_id).await;
    let [greeting, answer] = said_by_the_agent(&turns)[..] else {
        panic!("a greeting and an answer: {turns:#?}")
    };
    assert!(greeting.contains("Mary"), "{greeting:?}");
    let ears = Ears::new().await;
    call.assert_heard(&ears, &[(0, greeting), (1, answer)]).await;
    let seconds = is_one_recording(&stack, &session_id).await;
    assert!(seconds >= 12, "{seconds} s from the greeting to the answer");
    assert_eq!(reconnections(&stack).await, 1.0);
    stop(stack).await;
}

/// The camera changed nothing, ICE did: before it, and after it.
fn has_moved(moved: &Value) {
    assert_eq!(moved["camera"], "inactive", "{moved:#}");
    assert_ne!(moved["before"]["kind"], "relay", "{moved:#}");
    assert_eq!(moved["before"]["fragment"], moved["onward"]["fragment"], "{moved:#}");
    assert_ne!(moved["after"]["fragment"], moved["before"]["fragment"], "{moved:#}");
    assert_eq!(moved["after"]["kind"], "relay", "{moved:#}");
}

/// What the browser's statistics say, the session's API answer says too. What is lost, the change of networks took.
fn agree(told: &Value) {
    println!("{told:#}");
    for field in ["jitterMs", "lossPercent"] {
        let [browser, server] = ["browser", "server"].map(|side| told[side][field].as_f64().unwrap());
        let apart = (browser - server).abs();
        assert!(apart <= 1.0 + 0.5 * browser.max(server), "{field}: {told:#}");
    }
    // Two measurements of the same way, seconds apart.
    for side in ["browser", "server"] {
        assert!(told[side]["rttMs"].as_f64().unwrap() > 0.0, "{told:#}");
    }
}
