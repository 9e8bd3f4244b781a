//! Answers of S3 that do not arrive, or do not say what they seem to: what was done may have been done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;

use crate::common::{Call, Node, Place, assert_rows, metric};
use crate::proxy::{Proxy, Seen, Way, rule};
use crate::{BUCKET, key, long_call, open_uploads, options, s3_with_bucket, start, use_s3};

const MANIFEST: &str = "/.open/long.json";

/// A request to make an object of parts.
fn is_complete(method: &Method, target: &str) -> bool {
    *method == Method::POST && target.contains("uploadId=")
}

/// What is asked for, whatever upload it is of.
fn kind(method: &Method, target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter(|pair| !pair.starts_with("uploadId="));
    format!("{method} {path} {:?}", query.collect::<Vec<_>>())
}

#[tokio::test]
async fn a_long_recording_is_stored_once_when_the_first_answer_to_everything_is_lost() {
    let s3 = s3_with_bucket().await;
    let asked = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let rule = rule(move |method, target| {
        // Not the look at the bucket at start, and not the name of a new upload: those nobody asks for are swept up a day
        // later.
        if !target.contains("/recordings/") || target.contains("uploads") {
            return Way::Through;
        }
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(kind(method, target)).or_default();
        *times += 1;
        // Of the manifest's the first, and the first that replaces it.
        let lost = if *method == Method::PUT && target.contains(MANIFEST) {
            2
        } else {
            1
        };
        if *times <= lost {
            Way::Lost(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        } else {
            Way::Through
        }
    });
    let proxy = Proxy::start(s3.endpoint(), rule).await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.s3.endpoint = Some(proxy.endpoint());
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");

    node.send_all(&call.events).await;
    node.until_durable("long", call.last()).await;

    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_rows(&call, &archiver.rows("long").await);
    assert_eq!(open_uploads(&s3).await, 0);
    let statuses = |what: &dyn Fn(&Seen) -> bool| -> Vec<u16> {
        let seen = proxy.seen().into_iter().filter(|seen| what(seen));
        seen.map(|seen| seen.status.as_u16()).collect()
    };
    // The second try to replace a manifest that was replaced is refused: SeaweedFS and AWS answer 412.
    let manifests = statuses(&|seen| seen.method == Method::PUT && seen.target.contains(MANIFEST));
    assert!(matches!(manifests[..], [500, 500, 412, ..]), "{manifests:?}");
    let completed = statuses(&|seen| is_complete(&seen.method, &seen.target));
    assert_eq!(completed[0], 500, "{completed:?}");
}

#[tokio::test]
async fn a_short_recording_whose_answer_was_lost_is_found_and_not_stored_again() {
    let s3 = s3_with_bucket().await;
    let is_recording = |method: &Method, target: &str| *method == Method::PUT && target.contains("/call-1.wav");
    let rule = rule(move |method, target| {
        if is_recording(method, target) {
            Way::Lost(StatusCode::GATEWAY_TIMEOUT.into_response())
        } else {
            Way::Through
        }
    });
    let proxy = Proxy::start(s3.endpoint(), rule).await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.s3.endpoint = Some(proxy.endpoint());
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = Call::recorded("call-1", 10, 800);

    node.send_all(&call.events).await;
    node.until_durable("call-1", call.last()).await;

    let puts = proxy.seen().into_iter();
    let puts = puts.filter(|seen| is_recording(&seen.method, &seen.target));
    assert_eq!(puts.count(), 1);
    assert_eq!(s3.object(BUCKET, &key("call-1")).await.unwrap(), call.wav());
}

/// S3 sends the head of this answer before it knows what comes of it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>).
const ERROR_AFTER_ALL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>InternalError</Code>\
     <Message>We encountered an internal error. Please try again.</Message></Error>";

#[tokio::test]
async fn an_error_in_an_answer_that_says_200_is_an_error() {
    let s3 = s3_with_bucket().await;
    let refused = Mutex::new(false);
    let rule = rule(move |method, target| {
        if is_complete(method, target) && !std::mem::replace(&mut *refused.lock().unwrap(), true) {
            Way::Answered(([("content-type", "application/xml")], ERROR_AFTER_ALL).into_response())
        } else {
            Way::Through
        }
    });
    let proxy = Proxy::start(s3.endpoint(), rule).await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.s3.endpoint = Some(proxy.endpoint());
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");

    node.send_all(&call.events).await;
    node.until_durable("long", call.last()).await;

    let seen = proxy.seen().into_iter();
    let completed = seen.filter(|seen| is_complete(&seen.method, &seen.target));
    assert_eq!(completed.count(), 2);
    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_eq!(open_uploads(&s3).await, 0);
    let errors = "s3_errors_total{error_type=\"server\",operation=\"complete_multipart_upload\"}";
    assert!(metric(errors) >= 1.0);
}
