//! `kill -9` of the archiver, again and again, at random times.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::gauges::Observer;
use crate::load::{self, Load};
use crate::long_call::LongCall;
use crate::{scale, truth};

/// When each kill is: at a random moment of its share of the time, so that they are spread over all of it.
fn kills(began: Instant) -> impl Iterator<Item = Instant> {
    let share = scale::kill_time() / scale::kills();
    (0..scale::kills()).map(move |number| began + share * number + share.mul_f64(rand::random_range(0.1..0.9)))
}

/// What the caller and the agent of these calls say is heard in the recordings, so that what is mixed up or silent in them
/// has another hash than at its node. A long recording is in the making all the time: kills meet uploads in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archiver_killed_at_random_times_loses_and_doubles_nothing() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut stack = load::start(load::builder(&agent).relays()).await;
    let calls = Load::start(&stack).await;
    // Some parts are stored before a kill, and some are not.
    let long = LongCall::begin(&stack, scale::kill_time() / scale::kills()).await;
    let mut observer = Observer::start(&stack).await;
    tokio::time::sleep(scale::fault()).await;
    observer.report("before").await;

    let began = Instant::now();
    for kill in kills(began) {
        sleep_until(kill).await;
        stack.archiver[0].kill9();
        stack.archiver[0].start().await.unwrap();
    }
    sleep_until(began + scale::kill_time()).await;
    let took: Duration = began.elapsed();
    observer.report("archiver killed").await;
    println!("{} kills in {:.0} s", scale::kills(), took.as_secs_f64());

    long.hang_up();
    let whole = load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    long.assert_stored(&stack).await;
    truth::assert_whole(&stack, whole, scale::catch_up()).await;
    let (caller, agent) = truth::loud_packets(&stack).await;
    assert!(caller > 0 && agent > 0, "nobody is heard: {caller} {agent}");
}
