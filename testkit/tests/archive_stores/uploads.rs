//! Calls of more than one part in S3, of which archivers get the events as they should not.

use crate::common::{Node, Place, assert_rows};
use crate::{BUCKET, Call, key, long_call, open_uploads, options, s3_with_bucket, start, use_s3};

#[tokio::test]
async fn a_long_call_out_of_order_and_with_everything_twice_is_the_same_bytes() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");

    // As far out of order as an archiver waits for what is missing: 4 MiB.
    for window in call.events.chunks(40) {
        let mut events = [window, window].concat();
        events.sort_by_key(|event| event.sequence * 7919 % 101);
        node.send_all(&events).await;
    }
    node.until_durable("long", call.last()).await;

    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_rows(&call, &archiver.rows("long").await);
    assert_eq!(open_uploads(&s3).await, 0);
}

#[tokio::test]
async fn the_end_of_a_long_call_is_durable_at_a_second_archiver_when_the_first_has_stored_it_and_removed_its_first_part()
 {
    let s3 = s3_with_bucket().await;
    let (mut place, mut other) = (Place::new(), Place::new());
    for place in [&mut place, &mut other] {
        use_s3(place, &s3);
    }
    other.config.transcripts.dsn = place.config.transcripts.dsn.clone();
    let (first, second) = (start(&place, options(&s3)).await, start(&other, options(&s3)).await);
    // One whole part: chunk 40 of 128 KiB, event 60, is its end.
    let call = Call::recorded("long", 60, 32 * 1024);
    let mut one = Node::connect(first.address, "n1").await;
    one.send_all(&call.events[..70]).await;
    one.until_durable("long", 59).await;
    let mut two = Node::connect(second.address, "n1").await;
    let rest = call.behind(59);
    let (end, before) = rest.split_last().unwrap();
    two.send_all(before).await;
    two.until_received("long", call.last() - 1).await;

    one.send_all(&call.events[70..]).await;
    one.until_durable("long", call.last()).await;
    assert_eq!(
        s3.keys(BUCKET, "recordings/.open/").await.unwrap(),
        ["recordings/.open/long.json"]
    );
    two.send(end).await;
    two.until_durable("long", call.last()).await;

    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_eq!(open_uploads(&s3).await, 0);
}

#[tokio::test]
async fn an_upload_that_was_aborted_before_its_second_part_is_begun_again() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    let archiver = start(&place, options(&s3)).await;
    let mut node = Node::connect(archiver.address, "n1").await;
    let call = long_call("long");
    node.send_all(&call.events[..70]).await;
    node.until_durable("long", 59).await;

    let uploads = s3
        .client()
        .list_multipart_uploads()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let [upload] = uploads.uploads() else {
        panic!("{uploads:?}")
    };
    let abort = s3.client().abort_multipart_upload().bucket(BUCKET).key(key("long"));
    abort.set_upload_id(upload.upload_id.clone()).send().await.unwrap();
    node.send_all(&call.events[70..]).await;
    node.until_durable("long", call.last()).await;

    assert!(s3.object(BUCKET, &key("long")).await.unwrap() == call.wav());
    assert_eq!(open_uploads(&s3).await, 0);
}
