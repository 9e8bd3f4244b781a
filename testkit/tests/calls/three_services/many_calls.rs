//! Calls over several signaling services and media nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use voxray::caller::Step;
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use super::{archived, node, read_back_and_erase, stack, stop, transcript};
use crate::api::{self, LIMIT};
use crate::clips::{self, answer};
use crate::recording::{BUSY, assert_faithful};
use crate::rows::{Errors, texts};

async fn open_streams(stack: &Stack) -> anyhow::Result<u64> {
    let mut open = 0;
    for media in &stack.media {
        open += api::open_streams(&media.url()).await?;
    }
    Ok(open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_calls_at_once_over_two_nodes_are_answered_and_archived() {
    let stack = stack(Stack::builder()).await;
    let (a, b) = (stack.signaling[0].url(), stack.signaling[1].url());
    let clips = clips::all();

    // Announced to one signaling service, looked for at the other while they run.
    let calls = clips
        .iter()
        .map(|clip| api::place(&a, &b, vec![answer(), clip.say(), answer()]));
    let all_open = eventually("ten open media streams", LIMIT, || async {
        Ok((open_streams(&stack).await? == 10).then_some(()))
    });
    let (calls, all_open) = tokio::join!(join_all(calls), all_open);

    all_open.unwrap();
    let mut errors = Errors::default();
    let mut carried: BTreeMap<&str, usize> = BTreeMap::new();
    for (clip, (report, session)) in clips.iter().zip(&calls) {
        let node = node(&stack, session);
        assert_eq!(
            node.url(),
            format!("http://{}", report.media_host),
            "media goes to the node that was chosen"
        );
        *carried.entry(node.name()).or_default() += 1;
        let (rows, recording) = archived(&stack, &session.session_id).await;
        errors.add(&clip.text, &texts(&rows, "user").join(" "));
        assert_eq!(texts(&rows, "assistant").len(), 2, "greeting and answer: {rows:#?}");
        assert_faithful(report, &recording, BUSY);
    }
    println!("ten calls: {errors}, calls a node: {carried:?}");
    let (_, session) = calls.first().unwrap();
    read_back_and_erase(&stack, &b, &session.session_id).await;
    assert!(errors.rate() <= 0.15, "{errors}");
    assert_eq!(carried.len(), 2, "both nodes carry calls: {carried:?}");
    api::no_sessions(&b).await;
    assert_eq!(open_streams(&stack).await.unwrap(), 0);
    stop(stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_ended_through_another_signaling_service() {
    let stack = stack(Stack::builder().media(1)).await;
    let (a, b) = (stack.signaling[0].url(), stack.signaling[1].url());
    let (call, id) = api::call(
        &a,
        vec![Step::WaitForHangUp {
            timeout: Duration::from_secs(60),
        }],
    );
    let end = async {
        let session = api::connected(&b, &id).await;
        // In the middle of the call: what the agent says first is in the transcript once it was heard.
        let greeted = eventually("the greeting", LIMIT, || async {
            let rows = transcript(&stack, &session.session_id).await?;
            Ok((!rows.is_empty()).then_some(()))
        });
        greeted.await.unwrap();
        assert_eq!(api::end(&b, &session.session_id).await, 200);
        session
    };

    let (report, session) = tokio::join!(call.place(), end);

    assert!(report.unwrap().ended_by_agent);
    api::no_sessions(&a).await;
    let none_open = eventually("the media stream to close", LIMIT, || async {
        Ok((open_streams(&stack).await? == 0).then_some(()))
    });
    none_open.await.unwrap();
    let (rows, _) = archived(&stack, &session.session_id).await;
    let agent = texts(&rows, "assistant");
    assert!(
        agent.last().unwrap().contains("Goodbye"),
        "the agent says why: {agent:#?}"
    );
    stop(stack).await;
}
