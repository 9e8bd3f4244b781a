//! A media node that is asked to end lets its calls finish first.

use voxray::caller::CallError;
use voxray_testkit::service::Service;
use voxray_testkit::stack::Stack;

use super::{archived, stack, stop};
use crate::api::{self, LIMIT};
use crate::clips::{self, answer};
use crate::recording::{BUSY, assert_faithful};
use crate::rows::{Errors, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_to_end_leaves_placement_finishes_its_call_and_exits() {
    let stack = stack(Stack::builder().signaling(1)).await;
    for node in &stack.media {
        assert_loaded_before_listening(node);
    }
    let url = stack.signaling[0].url();
    let said = ["austen-0880.wav", "cards-005.wav"].map(clips::named);
    let mut steps = vec![answer()];
    for clip in &said {
        steps.extend([clip.say(), answer()]);
    }
    let (call, id) = api::call(&url, steps);
    let call = tokio::spawn(call.place());
    let session = api::connected(&url, &id).await;
    let leaving = super::node(&stack, &session);
    let staying = stack.media.iter().find(|media| media.name() != leaving.name()).unwrap();

    leaving.terminate().unwrap();

    api::has_status(&format!("{}/ready", leaving.url()), 503).await;
    let others = (0..3).map(|_| api::place(&url, &url, vec![clips::named("cards-001.wav").say(), answer()]));
    for (report, other) in futures_util::future::join_all(others).await {
        assert_eq!(
            other.node.as_deref(),
            Some(staying.name()),
            "new calls go to the other node"
        );
        assert_eq!(staying.url(), format!("http://{}", report.media_host));
    }
    assert_eq!(api::status(&format!("{url}/ready")).await.unwrap(), 200);
    assert!(!call.is_finished() && leaving.process().unwrap().exited().unwrap().is_none());

    let report = call.await.unwrap().unwrap();
    let status = tokio::time::timeout(LIMIT, leaving.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    // The node is gone, and what it had to say has arrived.
    let (rows, recording) = archived(&stack, &session.session_id).await;
    let spoken: Vec<&str> = said.iter().map(|clip| clip.text.as_str()).collect();
    let errors = Errors::between(&spoken.join(" "), &texts(&rows, "user").join(" "));
    println!("on the node that left: {errors}");
    assert!(errors.rate() <= 0.15, "{errors}: {rows:#?}");
    assert_eq!(texts(&rows, "assistant").len(), said.len() + 1, "{rows:#?}");
    assert_faithful(&report, &recording, BUSY);

    staying.terminate().unwrap();
    let status = tokio::time::timeout(LIMIT, staying.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    api::has_status(&format!("{url}/ready"), 503).await;
    let (refused, _) = api::call(&url, vec![answer()]);
    assert!(matches!(refused.place().await, Err(CallError::Refused(_))));
    stop(stack).await;
}

/// Nobody can ask a node anything, `/ready` included, and no signaling service finds it, before a call would be served at
/// once.
fn assert_loaded_before_listening(node: &Service) {
    let log = std::fs::read_to_string(node.log()).unwrap();
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("no {what:?} in {log}"));
    assert!(
        place("speech models are loaded") < place("media-svc is listening"),
        "{log}"
    );
}
