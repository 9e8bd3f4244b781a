//! A new release of the archiver: two instances, restarted one at a time. Its rows go to MariaDB, and what is taken out of
//! them is silent in the recordings.

use std::time::Duration;

use voxray_testkit::servers::MariaDb;
use voxray_testkit::service::Role;

use crate::gauges::Observer;
use crate::load::{self, Load};
use crate::long_call::LongCall;
use crate::{scale, truth};

/// An archiver that is asked to end has its streams to close and its parts to finish.
const GOES_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archivers_that_are_restarted_one_at_a_time_leave_no_gap() {
    let turn = scale::TURN.lock().await;
    let (agent, mariadb) = tokio::join!(load::agent(), MariaDb::start());
    let mariadb = mariadb.unwrap();
    let rows = mariadb.dsn("voxray");
    let builder = load::builder(&agent)
        .archivers(2)
        .env("VOXRAY_TRANSCRIPTS_DRIVER", "mysql")
        .env_for(Role::Archiver, "VOXRAY_TRANSCRIPTS_DSN", &rows)
        // What each caller says has a card number in it: all of it is held back until its turn is complete.
        .env_for(Role::Media, "VOXRAY_RECORDING_MUTE_REDACTED", "true");
    let mut stack = load::start(builder).await;
    stack.transcripts_dsn = rows;
    let calls = Load::start(&stack).await;
    let long = LongCall::begin(&stack, scale::fault()).await;
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

    long.hang_up();
    let whole = load::assert_undisturbed(&calls.stop().await);
    drop(turn);
    long.assert_stored(&stack).await;
    truth::assert_whole(&stack, whole, scale::catch_up()).await;
    let (caller, agent) = truth::loud_packets(&stack).await;
    println!("{caller} packets of callers and {agent} of the agent can be heard in the recordings");
    assert!(caller * 50 < agent, "{caller} {agent}");
}
