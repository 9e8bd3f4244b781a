//! An erasure that could not remove everything does not say that it has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::ThreadId;
use std::time::Duration;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use axum::http::{Method, StatusCode};
use service_kit::config::Secret;
use service_kit::grpc::AttachToken;
use tonic::transport::Channel;
use voxray_proto::archive::archive_query_client::ArchiveQueryClient;
use voxray_proto::archive::{EraseSessionRequest, EraseSessionResponse};
use voxray_testkit::servers::S3;
use voxray_testkit::wait;

use crate::common::{Call, Node, Place, Running, TOKEN};
use crate::proxy::{Proxy, Rule, rule};
use crate::{BUCKET, key, options, s3_with_bucket, start, use_s3};

async fn erase(archiver: &Running, id: &str) -> Result<EraseSessionResponse, tonic::Status> {
    let channel = Channel::from_shared(format!("http://{}", archiver.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut query = ArchiveQueryClient::with_interceptor(channel, AttachToken::new(&Secret::new(TOKEN)));
    let request = EraseSessionRequest {
        session_id: id.to_owned(),
        requested_by: "test".to_owned(),
    };
    Ok(query.erase_session(request).await?.into_inner())
}

/// Requests for versions are answered with this status, while it lasts.
fn versions_answer(status: StatusCode, lasts: &Arc<AtomicBool>) -> Rule {
    let lasts = Arc::clone(lasts);
    rule(move |method, target| {
        let is_asked = *method == Method::GET && target.contains("versions");
        (is_asked && lasts.load(Ordering::SeqCst)).then_some(status).into()
    })
}

async fn versions(s3: &S3, id: &str) -> usize {
    let asked = s3.client().list_object_versions().bucket(BUCKET).prefix(key(id)).send();
    let found = asked.await.unwrap();
    found.versions().len() + found.delete_markers().len()
}

/// A bucket with versions, in which a call has two, and an archiver that reaches it through a proxy.
async fn two_versions(status: StatusCode, lasts: &Arc<AtomicBool>) -> (S3, Proxy, Place, Running) {
    let s3 = s3_with_bucket().await;
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled);
    let asked = s3.client().put_bucket_versioning().bucket(BUCKET);
    asked.versioning_configuration(enabled.build()).send().await.unwrap();
    let proxy = Proxy::start(s3.endpoint(), versions_answer(status, lasts)).await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.s3.endpoint = Some(proxy.endpoint());
    let options = archiver_svc::Options {
        retention_interval: Some(Duration::from_millis(200)),
        ..options(&s3)
    };
    let archiver = start(&place, options).await;
    let call = Call::recorded("call-1", 6, 800);
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;
    let older = s3.client().put_object().bucket(BUCKET).key(key("call-1"));
    older.body(vec![1; 100].into()).send().await.unwrap();
    assert_eq!(versions(&s3, "call-1").await, 2);
    (s3, proxy, place, archiver)
}

/// What was said to the target `audit` and on which thread, in the whole process: a subscriber of one thread may never hear
/// of a place in the code that another thread came by first.
static SAID: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// Keeps it.
struct Audit;

impl tracing::Subscriber for Audit {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "audit"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!("{field}={value:?} "));
        });
        SAID.lock().unwrap().push((std::thread::current().id(), line));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// From here on it is kept. Everything of a test runs on its own thread.
fn listen_to_audit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Audit).unwrap());
}

/// Whether one line of this thread says all of this.
fn audit_says(all: &[&str]) -> bool {
    let lines = SAID.lock().unwrap();
    let mut lines = lines
        .iter()
        .filter(|(thread, _)| *thread == std::thread::current().id());
    lines.any(|(_, line)| all.iter().all(|what| line.contains(what)))
}

#[tokio::test]
async fn an_erasure_during_which_s3_does_not_answer_is_completed_when_it_does() {
    let lasts = Arc::new(AtomicBool::new(true));
    listen_to_audit();
    let (s3, _proxy, _place, archiver) = two_versions(StatusCode::SERVICE_UNAVAILABLE, &lasts).await;

    let refused = erase(&archiver, "call-1").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(versions(&s3, "call-1").await, 2);
    assert!(!audit_says(&["call-1"]));

    lasts.store(false, Ordering::SeqCst);
    let gone = wait::eventually("every version to go", Duration::from_secs(60), || async {
        Ok((versions(&s3, "call-1").await == 0).then_some(()))
    });
    gone.await.unwrap();
    let completed = wait::eventually("the audit log", Duration::from_secs(60), || async {
        let said = audit_says(&[
            "session_id=\"call-1\"",
            "recording=true",
            "an earlier erasure completed",
        ]);
        Ok(said.then_some(()))
    });
    completed.await.unwrap();
    let again = erase(&archiver, "call-1").await.unwrap();
    assert!(again.again);
    let asked = [
        "session erased on request",
        "session_id=\"call-1\"",
        "requested_by=\"test\"",
        "again=true",
    ];
    assert!(audit_says(&asked), "{:?}", SAID.lock().unwrap());
}

#[tokio::test]
async fn an_erasure_that_may_not_see_the_versions_of_a_versioned_bucket_is_not_complete_however_often_it_is_tried() {
    let lasts = Arc::new(AtomicBool::new(true));
    let (s3, _proxy, _place, archiver) = two_versions(StatusCode::FORBIDDEN, &lasts).await;

    for _ in 0..2 {
        let refused = erase(&archiver, "call-1").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(versions(&s3, "call-1").await > 0);
    }

    lasts.store(false, Ordering::SeqCst);
    let gone = wait::eventually("every version to go", Duration::from_secs(60), || async {
        Ok((versions(&s3, "call-1").await == 0).then_some(()))
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_erased_by_age_is_in_the_audit_log() {
    listen_to_audit();
    let mut place = Place::new();
    let archiver = place.start().await;
    let call = Call::recorded("by-age", 6, 800);
    let mut node = Node::connect(archiver.address, "n1").await;
    node.send_all(&call.events).await;
    node.until_durable("by-age", call.last()).await;
    archiver.kill().await;
    assert!(place.recording("by-age").exists() && !audit_says(&["by-age"]));

    place.config.archiver.retention_days = 30;
    let _second = place.start().await;

    let said = wait::eventually("the audit log", Duration::from_secs(60), || async {
        let said = audit_says(&[
            "session erased by age",
            "session_id=\"by-age\"",
            "rows=3",
            "recording=true",
            "again=false",
            "retention_days=30",
        ]);
        Ok(said.then_some(()))
    });
    said.await
        .unwrap_or_else(|error| panic!("{error}: {:?}", SAID.lock().unwrap()));
    assert!(!place.recording("by-age").exists());
}
