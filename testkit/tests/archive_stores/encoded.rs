//! Recordings in S3 that are encoded when the call has ended.

use std::io::Cursor;

use service_kit::config::AudioFormat;

use crate::common::{Call, Node, Place};
use crate::{BUCKET, open_uploads, options, s3_with_bucket, start, use_s3};

/// More than 8 MiB also when it is encoded: that goes up in parts.
const LONG_BYTES: usize = 9 << 20;

/// What no encoder makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes / 8).flatten().collect()
}

#[tokio::test]
async fn a_flac_sent_twice_to_two_archivers_is_one_object_with_the_samples_of_the_call() {
    let s3 = s3_with_bucket().await;
    let mut place = Place::new();
    use_s3(&mut place, &s3);
    place.config.recording.format = AudioFormat::Flac;
    let calls = [
        Call::of_pcm("short", &noise(64_000)),
        Call::of_pcm("long", &noise(LONG_BYTES)),
    ];
    let mut etags = Vec::new();

    for _ in 0..2 {
        let archiver = start(&place, options(&s3)).await;
        let mut node = Node::connect(archiver.address, "n1").await;
        for call in &calls {
            node.send_all(&call.events).await;
            node.until_durable(&call.id, call.last()).await;
            let key = format!("recordings/2026/03/04/{}.flac", call.id);
            let head = s3.client().head_object().bucket(BUCKET).key(&key).send().await.unwrap();
            let known = archiver.transcripts.as_ref().unwrap().session(&call.id).await.unwrap();
            let known = known.unwrap().recording_bytes.unwrap();
            assert_eq!(i64::try_from(known).ok(), head.content_length(), "{key}");
            etags.push(head.e_tag().unwrap().to_owned());
        }
        archiver.kill().await;
    }

    assert_eq!(etags[..2], etags[2..]);
    assert!(!etags[0].contains('-') && etags[1].contains("-2"), "{etags:?}");
    assert_eq!(open_uploads(&s3).await, 0);
    for call in &calls {
        let key = format!("recordings/2026/03/04/{}.flac", call.id);
        let file = s3.object(BUCKET, &key).await.unwrap();
        let mut reader = claxon::FlacReader::new(Cursor::new(&file)).unwrap();
        let decoded = reader.samples().map(|sample| sample.unwrap() as i16);
        let decoded: Vec<u8> = decoded.flat_map(i16::to_le_bytes).collect();
        assert!(decoded == call.pcm, "{key}");
    }
}
