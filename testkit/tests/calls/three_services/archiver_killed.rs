//! The archiver dies in the middle of calls and comes back: nothing is lost.

use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use super::{archived, stack, stop, transcript};
use crate::api::{self, LIMIT};
use crate::clips::{self, answer};
use crate::recording::{BUSY, assert_faithful};
use crate::rows::{Errors, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_archiver_is_killed_in_mid_call() {
    let mut stack = stack(Stack::builder().signaling(1).media(1)).await;
    let url = stack.signaling[0].url();
    let said = ["austen-0880.wav", "cards-005.wav"].map(clips::named);
    let mut long = vec![answer()];
    for clip in &said {
        long.extend([clip.say(), answer()]);
    }
    let short = vec![answer(), said[0].say(), answer()];
    let (long, long_id) = api::call(&url, long);
    let (short, short_id) = api::call(&url, short);
    let long = tokio::spawn(long.place());
    let short = tokio::spawn(short.place());
    let (over_restart, ends_without) = tokio::join!(api::connected(&url, &long_id), api::connected(&url, &short_id));

    // Both are half in the archive; one ends while there is no archiver, the other lives on until there is one again.
    for session in [&over_restart, &ends_without] {
        let greeted = eventually("the first row of a call", LIMIT, || async {
            let rows = transcript(&stack, &session.session_id).await?;
            Ok((!rows.is_empty()).then_some(()))
        });
        greeted.await.unwrap();
    }
    stack.archiver[0].kill9();
    let short = short.await.unwrap().unwrap();
    assert!(!long.is_finished(), "the longer call should go on");
    stack.archiver[0].start().await.unwrap();
    let long = long.await.unwrap().unwrap();

    for (report, session) in [(long, over_restart), (short, ends_without)] {
        let (rows, recording) = archived(&stack, &session.session_id).await;
        let spoken: Vec<&str> = report.said.iter().map(|said| said.text.as_str()).collect();
        let errors = Errors::between(&spoken.join(" "), &texts(&rows, "user").join(" "));
        println!("{} turns: {errors}", rows.len());
        assert!(errors.rate() <= 0.15, "{errors}: {rows:#?}");
        assert_eq!(texts(&rows, "assistant").len(), spoken.len() + 1, "{rows:#?}");
        assert_faithful(&report, &recording, BUSY);
    }
    stop(stack).await;
}
