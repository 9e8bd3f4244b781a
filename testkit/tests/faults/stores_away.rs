//! S3 and SQL go away, come back, answer slowly, answer with errors, and are cut off in the middle of an upload.

use std::time::Instant;

use voxray_testkit::relay::Fault;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::gauges::Observer;
use crate::load::{self, Load};
use crate::long_call::LongCall;
use crate::{scale, truth};

/// Slower than fifty calls produce, fast enough for one upload to end.
const SLOW_BYTES_PER_SECOND: u64 = 256 << 10;
/// In the middle of any recording of these calls, and of any part of a long one.
const CUT_AFTER_BYTES: u64 = 100_000;

async fn s3_does(stack: &Stack, fault: Fault) {
    let relay = &stack.relays.as_ref().unwrap().s3;
    relay.set_fault(fault);
    tokio::time::sleep(scale::fault()).await;
    relay.set_fault(Fault::None);
}

/// The stores work again: what ended while nothing could be stored is there in time, with its rows and its size.
async fn catch_up(stack: &Stack, long: &LongCall) {
    let back = Instant::now();
    let ended = truth::recorded(stack);
    let caught_up = eventually("what was held up to be stored", scale::catch_up(), || async {
        truth::archived(stack, &ended).await
    });
    caught_up.await.unwrap();
    long.catch_up().await;
    println!("caught up {:.1} s after they were back", back.elapsed().as_secs_f64());
}

/// Uploads are cut off until that has happened to a part of the long call.
async fn s3_cuts_uploads(stack: &Stack, long: &LongCall) {
    let relay = &stack.relays.as_ref().unwrap().s3;
    let before = long.failures(stack);
    relay.set_fault(Fault::CutAfter(CUT_AFTER_BYTES));
    // Before recordings that cannot be stored fill the queue, and hold up everything behind them.
    long.fill_a_part();
    let cut = eventually("a part of the long call to be cut off", scale::patience(), || async {
        Ok((long.failures(stack) > before).then_some(()))
    });
    let (cut, ()) = tokio::join!(cut, tokio::time::sleep(scale::fault()));
    cut.unwrap();
    relay.set_fault(Fault::None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_fail_in_every_way_cost_no_call_and_no_word() {
    let turn = scale::TURN.lock().await;
    let agent = load::agent().await;
    let mut stack = load::start(load::builder(&agent).relays()).await;
    let calls = Load::start(&stack).await;
    // It fills about a part in each fault.
    let long = LongCall::begin(&stack, scale::fault()).await;
    let mut observer = Observer::start(&stack).await;
    tokio::time::sleep(scale::fault()).await;
    observer.report("before").await;

    s3_does(&stack, Fault::Away).await;
    observer.report("S3 refuses connections").await;
    catch_up(&stack, &long).await;
    s3_does(&stack, Fault::Unavailable).await;
    observer.report("S3 answers 503").await;
    catch_up(&stack, &long).await;
    s3_does(&stack, Fault::Slow(SLOW_BYTES_PER_SECOND)).await;
    observer.report("S3 is slow").await;
    catch_up(&stack, &long).await;
    s3_cuts_uploads(&stack, &long).await;
    observer.report("S3 is cut off in the middle of uploads").await;
    catch_up(&stack, &long).await;
    stack.s3.stop();
    tokio::time::sleep(scale::fault()).await;
    stack.s3.kill_and_restart().await.unwrap();
    observer.report("S3 killed and restarted").await;
    catch_up(&stack, &long).await;
    stack.postgres.stop();
    tokio::time::sleep(scale::fault()).await;
    stack.postgres.restart_on_same_port().await.unwrap();
    observer.report("SQL stopped and started").await;
    catch_up(&stack, &long).await;
    stack.postgres.stop();
    stack.s3.stop();
    tokio::time::sleep(scale::fault()).await;
    stack.postgres.restart_on_same_port().await.unwrap();
    stack.s3.kill_and_restart().await.unwrap();
    observer.report("both stopped and started").await;
    catch_up(&stack, &long).await;
    observer.report("catching up").await;

    long.hang_up();
    let whole = load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    long.assert_stored(&stack).await;
    truth::assert_whole(&stack, whole, scale::catch_up()).await;
}
