//! The recording is the call as both sides knew it.

use super::Server;
use crate::clips::{self, answer};
use crate::recording::{agent_side, caller_side};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_in_the_recording_in_place_and_at_full_level() {
    let server = Server::start().await;
    let mut steps = vec![answer()];
    for file in ["cards-005.wav", "austen-0890.wav"] {
        steps.extend([clips::named(file).say(), answer()]);
    }

    let call = server.call(steps).await;

    let (report, recording) = (&call.report, &call.recording);
    let seconds = report.sent.len() as f64 / 8_000.0;
    println!("{seconds:.2} s on the line, {:.2} s recorded", recording.seconds());
    assert!((seconds - 0.1..seconds + 1.0).contains(&recording.seconds()));
    caller_side(report, recording).assert_faithful("caller, left");
    agent_side(report, recording).assert_faithful("agent, right");
    server.stop().await;
}
