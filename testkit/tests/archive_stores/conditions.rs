//! What a real S3 server says to bytes that have changed and to two archivers at once, and what is asked of it.

use std::sync::Arc;
use std::time::Duration;

use archiver_svc::Options;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use service_kit::config::S3Encryption;
use tokio::sync::Barrier;
use voxray_testkit::wait;

use crate::common::{Call, Node, Place, assert_rows};
use crate::proxy::{Decision, Proxy, Way, rule};
use crate::{BUCKET, key, long_call, options, s3_with_bucket, start, use_s3};

#[tokio::test]
async fn of_two_archivers_that_store_a_call_at_the_same_moment_one_is_told_that_the_other_was_quicker() {
    let s3 = s3_with_bucket().await;
    // Both have looked and found nothing before either of them writes.
    let both = Arc::new(Barrier::new(2));
    let is_recording = |method: &Method, target: &str| {
        *method == Method::PUT && target.contains("/2026/03/04/") && target.contains("call-1.wav")
    };
    let rule = move |method: &Method, target: &str| {
        let waits = is_recording(method, target).then(|| Arc::clone(&both));
        let wait = async move {
            if let Some(both) = waits {
                both.wait().await;
            }
            Way::Through
        };
        Box::pin(wait) as Decision
    };
    let proxy = Proxy::start(s3.endpoint(), Arc::new(rule)).await;
    let (mut place, mut other) = (Place::new(), Place::new());
    for place in [&mut place, &mut other] {
        use_s3(place, &s3);
        place.config.s3.endpoint = Some(proxy.endpoint());
    }
    other.config.transcripts.dsn = place.config.transcripts.dsn.clone();
    let (first, second) = (start(&place, options(&s3)).await, start(&other, options(&s3)).await);
    let call = Call::recorded("call-1", 10, 800);
    let mut nodes = [
        Node::connect(first.address, "n1").await,
        Node::connect(second.address, "n1").await,
    ];

    for node in &mut nodes {
        node.send_all(&call.events).await;
    }
    for node in &mut nodes {
        node.until_durable("call-1", call.last()).await;
    }

    let written = proxy
        .seen()
        .into_iter()
        .filter(|seen| is_recording(&seen.method, &seen.target));
    let mut answers: Vec<_> = written.map(|seen| seen.status.as_u16()).collect();
    answers.sort_unstable();
    // SeaweedFS and AWS answer 412, or 409 where both are in the middle of it.
    assert!(matches!(answers[..], [200, 409 | 412]), "{answers:?}");
    assert_eq!(s3.object(BUCKET, &key("call-1")).await.unwrap(), call.wav());
    assert_eq!(s3.keys(BUCKET, "recordings/2").await.unwrap(), [key("call-1")]);
    assert_rows(&call, &first.rows("call-1").await);
}

#[tokio::test]
async fn a_part_that_changed_on_the_archivers_disk_is_not_stored_and_its_node_sends_it_again() {
    use std::os::unix::fs::FileExt as _;
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");
    // 30 chunks of 128 KiB are no whole part yet.
    node.send_all(&call.events[..40]).await;
    node.until_received("long", 40).await;

    let files = std::fs::read_dir(&place.config.archiver.spool_dir).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let spool = files
        .into_iter()
        .find(|file| file.extension().is_some_and(|name| name == "spool"));
    let spool = std::fs::OpenOptions::new().write(true).open(spool.unwrap()).unwrap();
    spool.write_all_at(&[!call.wav()[100_000]], 100_000).unwrap();
    node.send_all(&call.events[40..100]).await;

    assert_eq!(node.until_closed().await.code(), tonic::Code::Aborted);
    assert_eq!(node.durable.get("long"), None);
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("long", call.last()).await;
    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_rows(&call, &archiver.rows("long").await);
}

#[tokio::test]
async fn every_object_and_every_upload_is_asked_to_be_encrypted_with_the_key_of_the_configuration() {
    let s3 = s3_with_bucket().await;
    // This server has no keys of that kind; what counts is what it is asked for.
    let rule = rule(|method, target| match method.as_str() {
        // Behind the first part the upload is begun.
        "PUT" if target.contains("/.open/long.head") => Way::Answered([("etag", "\"first\"")].into_response()),
        "PUT" | "POST" => Way::Answered(StatusCode::SERVICE_UNAVAILABLE.into_response()),
        _ => Way::Through,
    });
    let proxy = Proxy::start(s3.endpoint(), rule).await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.s3.endpoint = Some(proxy.endpoint());
    place.config.s3.encryption = S3Encryption::Kms;
    place.config.s3.kms_key_id = Some("a-key".to_owned());
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let (short, long) = (Call::recorded("short", 4, 800), long_call("long"));

    node.send_all(&short.events).await;
    node.send_all(&long.events[..100]).await;
    for (method, key, what) in [
        ("PUT", "/short.wav", ""),
        ("PUT", "/.open/long.head", ""),
        ("POST", "/long.wav", "uploads"),
    ] {
        let is_asked = |target: &str| target.contains(key) && target.contains(what);
        let asked = wait::eventually(key, Duration::from_secs(60), || async {
            let seen = proxy.seen().into_iter();
            let mut seen = seen.filter(|seen| seen.method.as_str() == method && is_asked(&seen.target));
            Ok(seen.next())
        });
        let request = asked.await.unwrap();
        assert_eq!(request.headers["x-amz-server-side-encryption"], "aws:kms", "{key}");
        let kms_key = &request.headers["x-amz-server-side-encryption-aws-kms-key-id"];
        assert_eq!(kms_key, "a-key", "{key}");
    }
}

#[tokio::test]
async fn the_mark_of_what_is_not_the_whole_call_is_set_when_s3_has_refused_it_once() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let s3 = s3_with_bucket().await;
    let refused = Arc::new(AtomicBool::new(false));
    let is_tagging = |target: &str| target.contains("/long.wav") && target.contains("tagging");
    let rule = rule(move |method, target| {
        let first = *method == Method::PUT && is_tagging(target) && !refused.swap(true, Ordering::AcqRel);
        first.then_some(StatusCode::SERVICE_UNAVAILABLE).into()
    });
    let proxy = Proxy::start(s3.endpoint(), rule).await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.s3.endpoint = Some(proxy.endpoint());
    let dies_at_once = Options {
        node_dead_after: Some(Duration::ZERO),
        ..options(&s3)
    };
    let archiver = start(&place, dies_at_once).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");
    node.send_all(&call.events[..100]).await;
    node.until_received("long", 100).await;

    drop(node);

    let marked = wait::eventually("the mark", Duration::from_secs(60), || async {
        let asked = s3.client().get_object_tagging().bucket(BUCKET).key(key("long")).send();
        let tags = asked.await.map(|tags| tags.tag_set).unwrap_or_default();
        Ok(tags
            .iter()
            .any(|tag| tag.key() == "complete" && tag.value() == "false")
            .then_some(()))
    });
    marked.await.unwrap();
    let statuses = |what: &dyn Fn(&crate::proxy::Seen) -> bool| -> Vec<u16> {
        let seen = proxy.seen().into_iter().filter(|seen| what(seen));
        seen.map(|seen| seen.status.as_u16()).collect()
    };
    let tagged = statuses(&|seen| seen.method == Method::PUT && is_tagging(&seen.target));
    assert_eq!(tagged, [503, 200]);
    // What was stored is not stored again for it.
    let opened = statuses(&|seen| seen.method == Method::POST && seen.target.contains("uploads"));
    assert_eq!(opened, [200]);
}
