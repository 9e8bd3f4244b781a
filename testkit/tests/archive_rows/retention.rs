//! Calls older than `archive.retention_days` go, with several archivers at it.

use std::time::Duration;

use archiver_svc::Options;
use time::OffsetDateTime;
use voxray_proto::archive::event::Body;
use voxray_testkit::wait::eventually;

use crate::common::{Call, Node, assert_rows};
use crate::databases::{Databases, archive, session};

const LIMIT: Duration = Duration::from_secs(60);

fn soon() -> Options {
    Options {
        retention_interval: Some(Duration::from_millis(100)),
        ..Options::default()
    }
}

/// The same call, as if it had begun an hour ago.
fn lately(mut call: Call) -> Call {
    let hour_ago = OffsetDateTime::now_utc() - Duration::from_secs(3600);
    let hour_ago = u64::try_from(hour_ago.unix_timestamp()).unwrap() * 1000;
    for event in &mut call.events {
        match &mut event.body {
            Some(Body::Started(started)) => started.started_at_unix_ms = hour_ago,
            Some(Body::Ended(ended)) => ended.ended_at_unix_ms = hour_ago + 60_000,
            Some(Body::Turn(turn)) => turn.created_at_unix_ms = hour_ago + 1000,
            Some(Body::Audio(_)) | None => {}
        }
    }
    call
}

#[tokio::test]
async fn old_calls_go_and_new_ones_stay_with_two_archivers_at_it() {
    let servers = Databases::start().await;
    for mut database in servers.all() {
        let archiver = database.start().await;
        let (old, new) = (Call::recorded("old", 6, 400), lately(Call::unrecorded("new", 4)));
        archive(&archiver, "n1", &old).await;
        archive(&archiver, "n1", &new).await;
        archiver.kill().await;
        let date = if database.name == "sqlite" {
            "2020-01-01T00:00:00Z"
        } else {
            "2020-01-01 00:00:00"
        };
        let earlier = format!(
            "INSERT INTO call_transcripts (session_id, role, text, seq, created_at) \
             VALUES ('of-an-older-release', 'user', 'hello', 0, '{date}')"
        );
        database.execute(&earlier).await;

        database.place.config.archiver.retention_days = 30;
        let mut second = database.again();
        second.place.config.archiver.retention_days = 30;
        second.place.config.recording.folder = database.place.config.recording.folder.clone();
        let archivers = [database.start_with(soon()).await, second.start_with(soon()).await];

        let gone = eventually("the old call to go", LIMIT, || async {
            let rows = archivers[0].rows("old").await.len() + archivers[0].rows("of-an-older-release").await.len();
            let there = database.place.recording("old").exists();
            Ok((rows == 0 && !there).then_some(()))
        });
        gone.await.unwrap_or_else(|error| panic!("{}: {error}", database.name));
        assert!(session(&archivers[1], "old").await.unwrap().erased);
        assert_eq!(archivers[1].rows("new").await.len(), 4, "{}", database.name);
        assert!(!session(&archivers[1], "new").await.unwrap().erased);
    }
}

#[tokio::test]
async fn rows_that_are_too_old_are_deleted_a_few_at_a_time_in_every_database() {
    let servers = Databases::start().await;
    for database in servers.all() {
        let archiver = database.start().await;
        let (old, new) = (Call::unrecorded("old", 5), lately(Call::unrecorded("new", 4)));
        archive(&archiver, "n1", &old).await;
        archive(&archiver, "n1", &new).await;
        let store = archiver.transcripts.clone().unwrap();
        let day_ago = OffsetDateTime::now_utc() - Duration::from_secs(24 * 3600);

        for (deleted, left) in [(2, 3), (2, 1), (1, 0), (0, 0)] {
            assert_eq!(
                store.delete_rows_before(day_ago, 2).await.unwrap(),
                deleted,
                "{}",
                database.name
            );
            assert_eq!(archiver.rows("old").await.len(), left, "{}", database.name);
        }
        assert_eq!(archiver.rows("new").await.len(), 4, "{}", database.name);
    }
}

#[tokio::test]
async fn an_erasure_whose_recording_could_not_be_deleted_is_completed_later() {
    let servers = Databases::start().await;
    let database = servers.all().pop().unwrap();
    let archiver = database.start().await;
    let call = Call::recorded("call-1", 6, 400);
    archive(&archiver, "n1", &call).await;
    assert_rows(&call, &archiver.rows("call-1").await);
    // As after a crash between the two steps.
    let store = archiver.transcripts.clone().unwrap();
    store.erase("call-1", OffsetDateTime::now_utc()).await.unwrap();
    assert!(database.place.recording("call-1").is_file());
    archiver.kill().await;

    let _second = database.start_with(soon()).await;

    let gone = eventually("the recording to go", LIMIT, || async {
        Ok((!database.place.recording("call-1").exists()).then_some(()))
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_call_of_which_only_the_recording_is_known_is_as_old_as_that_says() {
    let servers = Databases::start().await;
    for mut database in servers.all() {
        let call = Call::recorded("call-1", 60, 1600);
        let in_parts = || Options {
            folder_part_bytes: Some(64 * 1024),
            ..Options::default()
        };
        let archiver = database.start_with(in_parts()).await;
        let mut node = Node::connect(archiver.address, "n1").await;
        node.send_all(&call.events[..50]).await;
        // Chunk 31, which is event 47, is the end of the third part.
        node.until_durable("call-1", 46).await;
        archiver.kill().await;
        // As if the database had been away all the time, and the node is lost with its disk.
        for table in ["call_transcripts", "call_transcripts_sessions"] {
            database.execute(&format!("DELETE FROM {table}")).await;
        }

        database.place.config.recording.upload_max_age_secs = 0;
        let archiver = database.start_with(in_parts()).await;
        let noted = eventually("the note of what is stored", LIMIT, || async {
            let known = session(&archiver, "call-1").await;
            Ok(known.filter(|known| known.recording_bytes.is_some()))
        });
        let noted = noted.await.unwrap_or_else(|error| panic!("{}: {error}", database.name));
        let began = time::macros::datetime!(2026-03-04 05:06:07 UTC);
        assert_eq!(noted.started_at, Some(began), "{}", database.name);
        assert_eq!(
            (noted.transport.as_str(), noted.provider.as_str()),
            ("telephony", "twilio")
        );
        assert!(database.place.recording("call-1").exists());
        archiver.kill().await;

        database.place.config.archiver.retention_days = 30;
        let _archiver = database.start_with(soon()).await;
        let gone = eventually("the recording to go", LIMIT, || async {
            Ok((!database.place.recording("call-1").exists()).then_some(()))
        });
        gone.await.unwrap_or_else(|error| panic!("{}: {error}", database.name));
    }
}
