//! The same in one process, as on a laptop: SQLite and a folder.

use reqwest::{Method, StatusCode};
use serde_json::json;
use service_kit::config::{Profile, Sources, load};
use service_kit::tasks::TaskScope;
use tokio_util::sync::CancellationToken;
use voxray::single::SingleProcess;
use voxray_proto::archive::TurnTiming;
use voxray_proto::archive::event::Body;
use voxray_testkit::scripted::Script;

use crate::common::{Call, Node};
use crate::plane::Plane;

#[tokio::test]
async fn one_process_alone_reads_back_and_erases_what_it_archived() {
    const ID: &str = "8f14e45f-ceea-467f-a0e6-1c1f0d5f3c1b";
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("host", "127.0.0.1"),
        ("port", "0"),
        ("data_dir", folder.path().to_str().unwrap()),
    ];
    let sources = Sources {
        flags: flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Sources::default()
    };
    let config = load(&sources, Profile::SingleProcess).unwrap().config;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let process = SingleProcess::start(&config, Some(Script::new().providers()))
        .await
        .unwrap();
    let plane = Plane::at(&process.base_url(), TaskScope::root("test"), CancellationToken::new());
    let mut call = Call::recorded(ID, 6, 400);
    for event in &mut call.events {
        if let Some(Body::Turn(turn)) = &mut event.body
            && turn.seq == 2
        {
            (turn.started_ms, turn.ended_ms) = (Some(2_100), Some(3_400));
            turn.timing = Some(TurnTiming {
                endpoint_ms: 700,
                transcript_ms: 710,
                first_token_ms: 800,
                first_audio_ms: 912,
            });
        }
    }
    let token = process.config().links.service_token.expose().to_owned();
    let mut node = Node::without_hello(process.archiver().address(), &token).await.unwrap();
    node.hello("another node").await;
    node.send_all(&call.events).await;
    node.until_durable(ID, call.last()).await;

    let listed = plane.data(Method::GET, "/archive/sessions?day=2026-03-04").await;
    assert_eq!(listed["sessions"][0]["sessionId"], ID);
    let transcript = plane.data(Method::GET, &format!("/sessions/{ID}/transcript")).await;
    let turns = transcript["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 3);
    // Nobody on a laptop sets transcripts.extended.
    let timing = json!({"endpointMs": 700, "transcriptMs": 710, "firstTokenMs": 800, "firstAudioMs": 912});
    assert_eq!(
        (&turns[2]["startMs"], &turns[2]["endMs"], &turns[2]["timing"]),
        (&json!(2_100), &json!(3_400), &timing)
    );
    assert!(turns[1].get("timing").is_none() && turns[1].get("startMs").is_none());
    let recording = plane.get(&format!("/sessions/{ID}/recording")).await;
    assert_eq!(recording.status(), StatusCode::OK);
    assert!(recording.bytes().await.unwrap() == call.wav());

    plane.data(Method::DELETE, &format!("/sessions/{ID}/archive")).await;
    assert_eq!(
        plane.get(&format!("/sessions/{ID}/recording")).await.status(),
        StatusCode::NOT_FOUND
    );
    drop(node);
    process.stop().await;
}
