//! `kill -9` of the archiver, again and again, at random times.

use crate::gauges::Observer;
use voxray_testkit::service::Role;

use crate::load::{self, Load};
use crate::{scale, truth};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archiver_killed_at_random_times_loses_and_doubles_nothing() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    // What each caller says has a card number in it: all of it is held back until its turn is complete, and then silent.
    let builder = load::builder(&agent).env_for(Role::Media, "VOXRAY_RECORDING_MUTE_REDACTED", "true");
    let mut stack = load::start(builder).await;
    let calls = Load::start(&stack).await;
    let mut observer = Observer::start(&stack).await;
    tokio::time::sleep(scale::fault()).await;
    observer.report("before").await;

    for _ in 0..scale::kills() {
        let pause = scale::kill_time() / scale::kills();
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.2..1.0))).await;
        stack.archiver[0].kill9();
        stack.archiver[0].start().await.unwrap();
    }
    observer.report("archiver killed").await;

    let whole = load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    truth::assert_whole(&stack, whole, scale::catch_up()).await;
    let mut heard = (0, 0);
    for key in truth::keys(&stack).await.unwrap().values() {
        let (caller, agent) = truth::stored(&stack, key).await.unwrap().loud_packets();
        heard = (heard.0 + caller, heard.1 + agent);
    }
    println!(
        "{} packets of callers and {} of the agent can be heard in the recordings",
        heard.0, heard.1
    );
    assert!(heard.0 * 50 < heard.1, "{heard:?}");
}
