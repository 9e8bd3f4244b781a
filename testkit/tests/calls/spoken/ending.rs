//! A call that is over leaves nothing behind, whoever ended it.

use std::time::Duration;

use voxray::caller::Step;

use super::Server;
use crate::api;
use crate::clips::answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_gone_whoever_hangs_up() {
    let server = Server::start().await;
    let url = server.url();
    // In the middle of the greeting.
    let by_caller = server.call(vec![Step::WaitForSpeech {
        heard: Duration::from_secs(1),
        timeout: Duration::from_secs(60),
    }]);
    let goodbye = server.say("That is all. Thank you and goodbye.").await;
    let by_agent = server.call(vec![
        answer(),
        goodbye,
        Step::WaitForHangUp {
            timeout: Duration::from_secs(60),
        },
    ]);

    let (by_caller, by_agent) = tokio::join!(by_caller, by_agent);

    assert!(!by_caller.report.ended_by_agent && by_agent.report.ended_by_agent);
    api::no_sessions(&url).await;
    assert_eq!(server.process.media().sessions(), 0);
    let [greeting] = &by_caller.said_by("assistant")[..] else {
        panic!("{:#?}", by_caller.rows)
    };
    assert!(
        greeting.starts_with("Hello") && !greeting.contains("help"),
        "cut to what was heard: {greeting:?}"
    );
    server.stop().await;
}
