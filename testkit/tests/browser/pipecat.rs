//! pipecat's JavaScript clients, as npm has them.

use serde_json::json;
use voxray_testkit::ports::free_port;

use crate::console::outlives_its_nodes;
use crate::conversation::{Conversation, caller};
use crate::support::{assert_hung_up, connected, deployment, no_sessions, stop, turn, turns};

/// The page is on another origin than the server, as with most websites.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_websocket_client_talks_with_the_agent_and_interrupts_it() {
    let _turn = turn().await;
    let port = free_port().unwrap();
    let deployment = deployment().env("VOXRAY_CORS_ALLOWED_ORIGINS", format!("http://127.0.0.1:{port}"));
    let stack = deployment.start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let [here, there] = [0, 1].map(|instance| stack.signaling[instance].url());
    let caller = caller();
    let args = json!({
        "transport": "websocket", "server": here, "port": port, "options": {"body": {"name": "Mary"}},
    });

    let (call, session_id) = tokio::join!(Conversation::hold("pipecat", &caller, args), connected(&there));

    no_sessions(&there).await;
    call.assert_held(&caller, &turns(&there, &session_id).await).await;
    assert_hung_up(&there, &session_id).await;
    stop(stack).await;
}

/// Each request goes through one of two signaling services, by its method; the media node is one of two. When the call is
/// over the console page shows it, and makes calls of its own, whose nodes are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webrtc_client_talks_with_the_agent_and_interrupts_it_through_any_instance_and_the_page_outlives_its_nodes()
{
    let _turn = turn().await;
    let mut stack = deployment().start().await.unwrap_or_else(|error| panic!("{error:?}"));
    let [here, there] = [0, 1].map(|instance| stack.signaling[instance].url());
    let caller = caller();
    let args = json!({
        "transport": "webrtc", "upstreams": {"POST": here, "PATCH": there}, "options": {"body": {"name": "Mary"}},
    });

    let (call, session_id) = tokio::join!(Conversation::hold("pipecat", &caller, args), connected(&there));

    let passed = |method: &str, path: &str| -> Vec<(&str, u16)> {
        let requests = call
            .passed
            .iter()
            .filter(|passed| passed.method == method && passed.path == path);
        requests
            .map(|passed| (passed.upstream.as_str(), passed.status))
            .collect()
    };
    let offer = format!("/sessions/{session_id}/api/offer");
    assert_eq!(passed("POST", "/start"), [(here.as_str(), 201)]);
    assert_eq!(passed("POST", &offer), [(here.as_str(), 200)]);
    let trickled = passed("PATCH", &offer);
    assert!(!trickled.is_empty(), "{:#?}", call.passed);
    assert!(
        trickled.iter().all(|request| *request == (there.as_str(), 200)),
        "{trickled:?}"
    );
    call.assert_played();
    no_sessions(&there).await;
    call.assert_held(&caller, &turns(&there, &session_id).await).await;
    assert_hung_up(&there, &session_id).await;
    outlives_its_nodes(&mut stack, &session_id).await;
    stop(stack).await;
}
