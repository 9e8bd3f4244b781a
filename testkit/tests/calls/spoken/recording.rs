//! The recording is the call as both sides knew it.

use super::Server;
use crate::clips::{self, answer};
use crate::recording::{EXACT, assert_faithful};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_in_the_recording_in_place_and_at_full_level() {
    let server = Server::start().await;
    let steps = vec![answer(), clips::named("cards-005.wav").say(), answer()];

    let call = server.call(steps).await;

    assert_faithful(&call.report, &call.recording, EXACT);
    server.stop().await;
}
