//! `kill -9` of the archiver, again and again, at random times.

use crate::gauges::Observer;
use crate::load::{self, Load};
use crate::{scale, truth};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archiver_killed_at_random_times_loses_and_doubles_nothing() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut stack = load::start(load::builder(&agent)).await;
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
}
