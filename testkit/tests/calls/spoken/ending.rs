//! A call that is over leaves nothing behind, whoever ended it.

use std::time::Duration;

use voxray::caller::Step;

use super::Server;
use crate::api;
use crate::clips::answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_gone_when_the_caller_hangs_up() {
    let server = Server::start().await;
    let url = server.url();

    // In the middle of the greeting.
    let greeted = Step::WaitForSpeech {
        heard: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
    };
    let call = server.call(vec![greeted]).await;

    assert!(!call.report.ended_by_agent);
    api::no_sessions(&url).await;
    assert_eq!(server.process.media().sessions(), 0);
    let [greeting] = &call.said_by("assistant")[..] else {
        panic!("{:#?}", call.rows)
    };
    assert!(
        greeting.starts_with("Hello") && !greeting.contains("help"),
        "cut to what was heard: {greeting:?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_gone_when_the_agent_hangs_up() {
    let server = Server::start().await;
    let url = server.url();
    let goodbye = server.say("That is all. Thank you and goodbye.").await;
    let hang_up = Step::WaitForHangUp {
        timeout: Duration::from_secs(60),
    };

    let call = server.call(vec![answer(), goodbye, hang_up]).await;

    assert!(call.report.ended_by_agent);
    api::no_sessions(&url).await;
    assert_eq!(server.process.media().sessions(), 0);
    server.stop().await;
}
