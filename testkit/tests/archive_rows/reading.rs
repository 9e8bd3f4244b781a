//! Archived calls over HTTP: list, transcript, recording, erasure.

use archiver_svc::Options;
use aws_sdk_s3::config::Credentials;
use reqwest::{Method, StatusCode};
use service_kit::config::TranscriptDriver;
use voxray_proto::archive::event::Body;
use voxray_testkit::servers::{Postgres, S3};

use crate::common::{Call, Place, Running};
use crate::databases::{Database, Databases, archive};
use crate::plane::{KEY, Plane};

const ID: &str = "8f14e45f-ceea-467f-a0e6-1c1f0d5f3c1b";
const DAY: &str = "2026-03-04";

async fn plane(place: &Place, archiver: &Running) -> Plane {
    Plane::start(place.config.clone(), Some(archiver.address)).await
}

#[tokio::test]
async fn a_transcript_is_read_back_in_the_order_spoken() {
    let mut place = Place::new();
    place.config.transcripts.extended = true;
    let archiver = place.start().await;
    let call = Call::unrecorded(ID, 4);
    archive(&archiver, "n1", &call).await;
    let plane = plane(&place, &archiver).await;

    for prefix in ["", "/api/v1"] {
        let data = plane
            .data(Method::GET, &format!("{prefix}/sessions/{ID}/transcript"))
            .await;
        assert_eq!(data["sessionId"], ID);
        let texts: Vec<_> = data["turns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|turn| turn["text"].as_str().unwrap())
            .collect();
        assert_eq!(texts, call.texts());
        assert_eq!(data["turns"][1]["role"], "user");
        assert_eq!(data["turns"][1]["createdAt"], "2026-03-04T05:06:08.5Z");
        assert_eq!(data["turns"][0]["interrupted"], false);
        assert!(data["turns"][1].get("interrupted").is_none());
        let session = &data["session"];
        assert_eq!(
            (&session["turns"], &session["durationSeconds"]),
            (&4.into(), &60.0.into())
        );
        assert_eq!(
            (&session["transport"], &session["hasRecording"]),
            (&"telephony".into(), &false.into())
        );
    }
}

#[tokio::test]
async fn a_recording_in_a_folder_is_streamed_and_can_be_sought_in() {
    let place = Place::new();
    let archiver = place.start().await;
    // Longer than what is read ahead.
    let call = Call::recorded(ID, 40, 8000);
    archive(&archiver, "n1", &call).await;
    let (plane, wav) = (plane(&place, &archiver).await, call.wav());
    let path = format!("/sessions/{ID}/recording");

    let whole = plane.get(&path).await;
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(whole.headers()["content-type"], "audio/wav");
    assert_eq!(whole.headers()["content-length"], wav.len().to_string().as_str());
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(whole.headers()["cache-control"], "private, no-store");
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert!(whole.bytes().await.unwrap() == wav);

    for (range, from, to) in [
        ("bytes=0-43", 0, 44),
        ("bytes=100000-299999", 100_000, 300_000),
        ("bytes=1000000-", 1_000_000, wav.len()),
        ("bytes=-10", wav.len() - 10, wav.len()),
    ] {
        let part = plane.range(&path, range).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        let expected = format!("bytes {from}-{}/{}", to - 1, wav.len());
        assert_eq!(part.headers()["content-range"], expected.as_str());
        assert_eq!(part.headers()["content-length"], (to - from).to_string().as_str());
        assert!(part.bytes().await.unwrap() == wav[from..to], "{range}");
    }

    let outside = plane.range(&path, "bytes=99999999-").await;
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        outside.headers()["content-range"],
        format!("bytes */{}", wav.len()).as_str()
    );
    let several = plane.range(&path, "bytes=0-1,5-6").await;
    assert_eq!(several.status(), StatusCode::OK);
    for (etag, status) in [
        (etag.as_str(), StatusCode::PARTIAL_CONTENT),
        ("\"other\"", StatusCode::OK),
    ] {
        let request = plane
            .request(Method::GET, &path)
            .header("range", "bytes=0-9")
            .header("if-range", etag);
        assert_eq!(request.send().await.unwrap().status(), status, "{etag}");
    }
    let head = plane.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], wav.len().to_string().as_str());
}

#[tokio::test]
async fn a_recording_in_s3_is_a_redirect_to_a_url_that_needs_no_key() {
    let (s3, postgres) = tokio::try_join!(S3::start(), Postgres::start()).unwrap();
    s3.create_bucket("calls").await.unwrap();
    let mut database = Database::new("postgres", TranscriptDriver::Postgres, Some(postgres.dsn("postgres")));
    let config = &mut database.place.config;
    config.recording.bucket = Some("calls".to_owned());
    config.s3.endpoint = Some(s3.endpoint());
    // Another name of the same server.
    let public = s3.endpoint().replace("127.0.0.1", "localhost");
    config.s3.public_endpoint = Some(public.clone());
    config.s3.region = s3.region().to_owned();
    let options = Options {
        s3_credentials: Some(Credentials::new(s3.access_key(), s3.secret_key(), None, None, "test")),
        ..Options::default()
    };
    let archiver = database.start_with(options).await;
    let call = Call::recorded(ID, 6, 800);
    archive(&archiver, "n1", &call).await;
    let plane = plane(&database.place, &archiver).await;

    let path = format!("/sessions/{ID}/recording");
    // The URL is good for GET only, so HEAD is not sent there.
    let head = plane.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-type"], "audio/wav");
    assert_eq!(head.headers()["content-length"], call.wav().len().to_string().as_str());
    assert_eq!(head.headers()["cache-control"], "private, no-store");
    let answer = plane.get(&path).await;
    assert_eq!(answer.status(), StatusCode::FOUND);
    let url = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(url.starts_with(&public), "{url}");
    assert!(
        url.contains("X-Amz-Expires=300") && !url.contains(s3.secret_key()),
        "{url}"
    );
    let forbidden = plane.client.head(&url).send().await.unwrap();
    assert_eq!(forbidden.status(), StatusCode::FORBIDDEN);
    // A player asks for ranges there.
    let fetched = plane.client.get(&url).send().await.unwrap();
    assert_eq!(fetched.status(), StatusCode::OK);
    assert_eq!(fetched.headers()["content-type"], "audio/wav");
    assert!(fetched.bytes().await.unwrap() == call.wav());
    let part = plane
        .client
        .get(&url)
        .header("range", "bytes=44-47")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.unwrap(), call.pcm[..4]);
    let tampered = plane.client.get(url.replace(ID, "other")).send().await.unwrap();
    assert_eq!(tampered.status(), StatusCode::FORBIDDEN);

    let erased = plane.data(Method::DELETE, &format!("/sessions/{ID}/archive")).await;
    assert_eq!(erased["recordingRemoved"], true);
    let left = s3.keys("calls", "").await.unwrap();
    // Which archiver a node talks to says nothing of a call.
    assert!(left.iter().all(|key| key.starts_with("recordings/.nodes/")), "{left:?}");
    assert_eq!(
        plane.client.get(&url).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn erasing_in_a_versioned_bucket_leaves_no_version_and_no_part() {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    let s3 = S3::start().await.unwrap();
    s3.create_bucket("calls").await.unwrap();
    let versioned = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let asked = s3.client().put_bucket_versioning().bucket("calls");
    asked.versioning_configuration(versioned).send().await.unwrap();
    let mut place = Place::new();
    place.config.recording.bucket = Some("calls".to_owned());
    place.config.s3.endpoint = Some(s3.endpoint());
    place.config.s3.region = s3.region().to_owned();
    let options = Options {
        s3_credentials: Some(Credentials::new(s3.access_key(), s3.secret_key(), None, None, "test")),
        ..Options::default()
    };
    let archiver = place.try_start(options).await.unwrap_or_else(|fatal| panic!("{fatal}"));
    archive(&archiver, "n1", &Call::recorded(ID, 6, 800)).await;
    let key = format!("recordings/2026/03/04/{ID}.wav");
    // An older version, and an upload that nobody completes.
    let older = s3.client().put_object().bucket("calls").key(&key);
    older.body(vec![1; 100].into()).send().await.unwrap();
    let open = s3.client().create_multipart_upload().bucket("calls").key(&key);
    open.send().await.unwrap();
    let plane = plane(&place, &archiver).await;

    plane.data(Method::DELETE, &format!("/sessions/{ID}/archive")).await;

    let versions = s3.client().list_object_versions().bucket("calls").send().await.unwrap();
    // Which archiver a node talks to says nothing of a call.
    let of_the_call = |key: Option<&str>| key.is_none_or(|key| !key.starts_with("recordings/.nodes/"));
    assert!(
        !versions.versions().iter().any(|version| of_the_call(version.key()))
            && !versions.delete_markers().iter().any(|marker| of_the_call(marker.key())),
        "{versions:?}"
    );
    let uploads = s3
        .client()
        .list_multipart_uploads()
        .bucket("calls")
        .send()
        .await
        .unwrap();
    assert!(uploads.uploads().is_empty(), "{uploads:?}");
}

#[tokio::test]
async fn the_calls_of_a_day_are_listed_page_by_page() {
    let place = Place::new();
    let archiver = place.start().await;
    let plane = plane(&place, &archiver).await;
    let mut ids: Vec<String> = (0..7)
        .map(|n| format!("8f14e45f-ceea-467f-a0e6-00000000000{n}"))
        .collect();
    for id in &ids {
        archive(&archiver, "n1", &Call::recorded(id, 2, 100)).await;
    }

    for prefix in ["", "/api/v1"] {
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        for expected in [3, 3, 1] {
            let path = format!("{prefix}/archive/sessions?day={DAY}&limit=3&cursor={cursor}");
            let page = plane.data(Method::GET, &path).await;
            let sessions = page["sessions"].as_array().unwrap();
            assert_eq!((sessions.len(), &page["day"]), (expected, &DAY.into()));
            listed.extend(
                sessions
                    .iter()
                    .map(|session| session["sessionId"].as_str().unwrap().to_owned()),
            );
            cursor = page["nextCursor"].as_str().unwrap_or_default().to_owned();
        }
        assert_eq!(cursor, "");
        assert_eq!(listed, ids);
    }
    for other in ["2026-03-03", "2026-03-05"] {
        let page = plane.data(Method::GET, &format!("/archive/sessions?day={other}")).await;
        assert_eq!(page["sessions"].as_array().unwrap().len(), 0);
    }
    let gone = ids.remove(2);
    plane.data(Method::DELETE, &format!("/sessions/{gone}/archive")).await;
    let page = plane
        .data(Method::GET, &format!("/api/v1/archive/sessions?day={DAY}"))
        .await;
    assert_eq!(page["sessions"].as_array().unwrap().len(), ids.len());
    assert_eq!(page["sessions"][0]["hasRecording"], true);
    assert_eq!(page["sessions"][0]["startedAt"], "2026-03-04T05:06:07Z");
}

/// A call that began then, milliseconds since 1970.
fn begun_at(id: &str, began: u64) -> Call {
    let mut call = Call::unrecorded(id, 1);
    for event in &mut call.events {
        match &mut event.body {
            Some(Body::Started(started)) => started.started_at_unix_ms = began,
            Some(Body::Turn(turn)) => turn.created_at_unix_ms = began,
            Some(Body::Ended(ended)) => ended.ended_at_unix_ms = began + 1000,
            Some(Body::Audio(_)) | None => {}
        }
    }
    call
}

#[tokio::test]
async fn a_call_is_listed_on_the_day_in_utc_in_which_it_began_to_the_millisecond() {
    let servers = Databases::start().await;
    // 2026-03-05 00:00:00 UTC
    let midnight = 1_772_668_800_000;
    let calls = [
        ("8f14e45f-ceea-467f-a0e6-000000000001", midnight - 1),
        ("8f14e45f-ceea-467f-a0e6-000000000002", midnight),
    ];
    for database in servers.all() {
        let archiver = database.start().await;
        for (id, began) in calls {
            archive(&archiver, "n1", &begun_at(id, began)).await;
        }
        let plane = plane(&database.place, &archiver).await;

        for (day, expected) in [
            ("2026-03-03", vec![]),
            ("2026-03-04", vec![(calls[0].0, "2026-03-04T23:59:59.999Z")]),
            ("2026-03-05", vec![(calls[1].0, "2026-03-05T00:00:00Z")]),
            ("2026-03-06", vec![]),
        ] {
            let page = plane.data(Method::GET, &format!("/archive/sessions?day={day}")).await;
            let listed = page["sessions"].as_array().unwrap().iter();
            let listed: Vec<_> = listed
                .map(|session| {
                    let text = |name: &str| session[name].as_str().unwrap();
                    (text("sessionId"), text("startedAt"))
                })
                .collect();
            assert_eq!(listed, expected, "{} {day}", database.name);
        }
    }
}

#[tokio::test]
async fn an_erased_call_answers_404_and_erasing_it_again_200() {
    let place = Place::new();
    let archiver = place.start().await;
    archive(&archiver, "n1", &Call::recorded(ID, 4, 100)).await;
    let plane = plane(&place, &archiver).await;

    let first = plane.data(Method::DELETE, &format!("/sessions/{ID}/archive")).await;
    assert_eq!((&first["turnsRemoved"], &first["again"]), (&2.into(), &false.into()));
    let second = plane
        .data(Method::DELETE, &format!("/api/v1/sessions/{ID}/archive"))
        .await;
    assert_eq!((&second["turnsRemoved"], &second["again"]), (&0.into(), &true.into()));

    for what in ["transcript", "recording"] {
        let (status, message) = plane.error(Method::GET, &format!("/sessions/{ID}/{what}")).await;
        assert_eq!((status, message.as_str()), (404, "this session was erased"));
    }
}

#[tokio::test]
async fn what_is_not_there_says_why() {
    let place = Place::new();
    let archiver = place.start().await;
    archive(&archiver, "n1", &Call::unrecorded(ID, 1)).await;
    let served = plane(&place, &archiver).await;
    let unknown = "00000000-0000-4000-8000-000000000000";

    for (path, status, said) in [
        (format!("/sessions/{unknown}/transcript"), 404, "knows no session"),
        (format!("/sessions/{unknown}/recording"), 404, "knows no session"),
        (format!("/sessions/{ID}/recording"), 404, "not recorded"),
        ("/sessions/nonsense/transcript".to_owned(), 400, "UUID"),
        ("/archive/sessions?day=yesterday".to_owned(), 422, "2026-03-01"),
        ("/archive/sessions?limit=0".to_owned(), 422, "1 to 500"),
        ("/archive/sessions?cursor=x".to_owned(), 422, "cursor"),
    ] {
        let (got, message) = served.error(Method::GET, &path).await;
        assert_eq!(got, status, "{path}: {message}");
        assert!(message.contains(said), "{path}: {message}");
    }
    for (method, path) in [
        (Method::GET, format!("/sessions/{ID}/transcript")),
        (Method::GET, format!("/sessions/{ID}/recording")),
        (Method::GET, "/archive/sessions".to_owned()),
        (Method::DELETE, format!("/sessions/{ID}/archive")),
    ] {
        let bare = served.client.request(method.clone(), format!("{}{path}", served.base));
        assert_eq!(bare.send().await.unwrap().status(), 401, "{path}");
        let other = served.client.request(method, format!("{}{path}", served.base));
        assert_eq!(other.bearer_auth(format!("{KEY}x")).send().await.unwrap().status(), 401);
    }
    archiver.kill().await;
    let (status, _) = served.error(Method::GET, &format!("/sessions/{ID}/transcript")).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_deployment_without_transcripts_or_without_an_archiver_says_what_is_needed() {
    let mut place = Place::new();
    place.config.transcripts.enable = false;
    let archiver = place.start().await;
    let without_rows = plane(&place, &archiver).await;
    let without_archiver = Plane::start(place.config.clone(), None).await;
    for (method, path) in [
        (Method::GET, format!("/sessions/{ID}/transcript")),
        (Method::GET, format!("/sessions/{ID}/recording")),
        (Method::GET, "/archive/sessions".to_owned()),
        (Method::DELETE, format!("/sessions/{ID}/archive")),
    ] {
        let (status, message) = without_rows.error(method.clone(), &path).await;
        assert_eq!(status, 409, "{path}: {message}");
        assert!(message.contains("transcripts.enable"), "{path}: {message}");
        let (status, message) = without_archiver.error(method, &path).await;
        assert_eq!(status, 409, "{path}: {message}");
        assert!(message.contains("archiver_url"), "{path}: {message}");
    }
}
