//! A new release of the archiver: two instances, restarted one at a time.

use std::time::Duration;

use crate::gauges::Observer;
use crate::load::{self, Load};
use crate::{scale, truth};

/// An archiver that is asked to end has its streams to close and its parts to finish.
const GOES_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archivers_that_are_restarted_one_at_a_time_leave_no_gap() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut stack = load::start(load::builder(&agent).archivers(2)).await;
    let calls = Load::start(&stack).await;
    let mut observer = Observer::start(&stack).await;
    tokio::time::sleep(scale::fault()).await;
    observer.report("before").await;

    for archiver in &mut stack.archiver {
        archiver.stop(GOES_WITHIN).await.unwrap();
        // The other one has the streams now.
        tokio::time::sleep(scale::fault()).await;
        archiver.start().await.unwrap();
    }
    observer.report("archivers rolled").await;

    let whole = load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    truth::assert_whole(&stack, whole, scale::catch_up()).await;
}
