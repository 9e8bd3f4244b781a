//! Real processes of the three services on a real Redis, PostgreSQL and S3, with local speech.

mod archiver_killed;
mod draining;
mod many_calls;

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, Row as _};
use voxray_testkit::api::data;
use voxray_testkit::service::Service;
use voxray_testkit::stack::{Stack, StackBuilder};
use voxray_testkit::wait::eventually;

use crate::api::{self, LIMIT, Session};
use crate::recording::Stereo;
use crate::rows::{self, Row};

/// Bytes before the samples of a recording.
const WAV_HEADER: usize = 44;

async fn stack(builder: StackBuilder) -> Stack {
    builder.start().await.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Everything ends by itself and without a complaint.
async fn stop(stack: Stack) {
    stack.stop(Duration::from_secs(60)).await.unwrap();
}

/// The media node a session is on.
fn node<'a>(stack: &'a Stack, session: &Session) -> &'a Service {
    let name = session.node.as_deref().expect("a node was chosen");
    stack.media.iter().find(|media| media.name() == name).unwrap()
}

/// The transcript as it is in PostgreSQL now.
async fn transcript(stack: &Stack, session_id: &str) -> anyhow::Result<Vec<Row>> {
    let mut postgres = PgConnection::connect(&stack.transcripts_dsn).await?;
    let rows =
        sqlx::query("SELECT seq, role, text, created_at FROM call_transcripts WHERE session_id = $1 ORDER BY seq")
            .bind(session_id)
            .fetch_all(&mut postgres)
            .await?;
    postgres.close().await?;
    let read = |row: sqlx::postgres::PgRow| {
        Ok(Row {
            seq: row.try_get(0)?,
            role: row.try_get(1)?,
            text: row.try_get(2)?,
            created_at: row.try_get(3)?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// What clients of the API get of a call is what the archive has, whichever signaling service they ask; and what they
/// erase is gone from it.
async fn read_back_and_erase(stack: &Stack, base: &str, session_id: &str) {
    let rows = transcript(stack, session_id).await.unwrap();
    let kept = data(&format!("{base}/sessions/{session_id}/transcript"))
        .await
        .unwrap()
        .unwrap();
    let turns = kept["turns"].as_array().unwrap();
    assert!(
        turns
            .iter()
            .map(|turn| &turn["text"])
            .eq(rows.iter().map(|row| row.text.as_str()))
    );
    let key = format!("/{session_id}.wav");
    let keys = stack.s3.keys(&stack.bucket, "recordings/").await.unwrap();
    let key = keys.iter().find(|stored| stored.ends_with(&key)).unwrap();
    let stored = stack.s3.object(&stack.bucket, key).await.unwrap();
    // It is noted a moment after it is stored.
    let heard = eventually("the recording", LIMIT, || api::recording(base, session_id));
    assert!(heard.await.unwrap() == stored);
    let day = kept["session"]["startedAt"].as_str().unwrap().get(..10).unwrap();
    let listed = data(&format!("{base}/archive/sessions?day={day}"))
        .await
        .unwrap()
        .unwrap();
    let listed = listed["sessions"].as_array().unwrap();
    let found = listed
        .iter()
        .find(|session| session["sessionId"] == session_id)
        .unwrap();
    assert_eq!(
        (&found["turns"], &found["hasRecording"]),
        (&rows.len().into(), &true.into())
    );

    assert_eq!(api::erase(base, session_id).await, 200);

    assert!(transcript(stack, session_id).await.unwrap().is_empty());
    assert!(!stack.s3.keys(&stack.bucket, "recordings/").await.unwrap().contains(key));
    assert_eq!(
        api::status(&format!("{base}/sessions/{session_id}/transcript"))
            .await
            .unwrap(),
        404
    );
}

/// Waits until the archive has all of a call, and checks that it is whole: the recording is what the node has sent, to
/// the byte, and the rows are in order.
async fn archived(stack: &Stack, session_id: &str) -> (Vec<Row>, Stereo) {
    let name = format!("/{session_id}.wav");
    let key = eventually("the recording in S3", LIMIT, || async {
        let keys = stack.s3.keys(&stack.bucket, "recordings/").await?;
        Ok(keys.into_iter().find(|key| key.ends_with(&name)))
    });
    let key = key.await.unwrap();
    let head = stack.s3.client().head_object().bucket(&stack.bucket).key(&key).send();
    let metadata = head.await.unwrap().metadata.unwrap_or_default();
    let wav = stack.s3.object(&stack.bucket, &key).await.unwrap();
    // The archiver stores nothing whose hash differs from the node's, which it calculates while it records.
    let hash = hex::encode(Sha256::digest(&wav[WAV_HEADER..]));
    assert_eq!(metadata.get("voxray-pcm-sha256"), Some(&hash));
    assert_eq!(metadata.get("voxray-incomplete"), None);
    let base = stack.signaling[0].url();
    voxray_testkit::api::turns(&base, session_id, LIMIT).await.unwrap();
    let rows = transcript(stack, session_id).await.unwrap();
    rows::assert_in_order(&rows);
    (rows, Stereo::read(&wav))
}
