//! What a running node measures is what it says it can carry.

use super::*;
use crate::metrics::FRAME_LATENESS;

/// In one window: so many that those of other tests in this process, which come in between, count for nothing.
const FRAMES: usize = 100_000;
const LATE: Duration = Duration::from_millis(40);
const IN_TIME: Duration = Duration::from_millis(20);

/// Frames leave, and the node looks at them.
async fn frames_leave(lateness: Duration) {
    let measured = FRAME_LATENESS.with_label_values(&["telephony"]);
    for _ in 0..FRAMES {
        measured.observe(lateness.as_secs_f64());
    }
    tokio::time::sleep(NODE_HEARTBEAT).await;
}

/// Capacity and sessions as the fleet knows them.
fn reported(setup: &Setup) -> (u32, u32) {
    let record = setup.store.reported.lock().unwrap().clone().unwrap();
    (record.capacity, record.sessions)
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_frames_leave_late_takes_fewer_calls_until_they_leave_in_time_again() {
    let most = NonZeroUsize::new(12);
    let setup = setup_measuring(12, Some(Limit { most }));
    let calls: Vec<_> = (0..10).map(|n| connect(&setup.calls, &format!("call-{n}"))).collect();
    // From the middle between two looks to the next one.
    tokio::time::sleep(NODE_HEARTBEAT / 2).await;

    frames_leave(LATE).await;
    assert_eq!(reported(&setup), (12, 10), "once may be bad luck");
    frames_leave(LATE).await;

    assert_eq!(setup.calls.load().capacity, 9);
    assert_eq!(reported(&setup), (10, 10), "no free slot, and no call is ended for it");
    let one_more = setup.calls.reserve(reservation("one more"));
    assert_eq!(one_more, Err(Refusal::Full { capacity: 9 }));

    drop(calls);
    for expected in [10, 11, 12, 12] {
        frames_leave(IN_TIME).await;
        assert_eq!(setup.calls.load().capacity, expected);
    }
    assert_eq!(reported(&setup), (12, 0));
}
