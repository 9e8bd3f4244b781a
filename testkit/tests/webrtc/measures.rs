//! What is counted and measured, and the limit of a session's length.

use std::time::Duration;

use serde_json::Value;
use voxray_testkit::scripted::Script;
use voxray_testkit::webrtc_client::PLAIN;

use crate::plane::{LIMIT, Plane, SHORT};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_tells_what_its_media_is_like_and_the_gauges_count_it() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let mut client = plane.connected(PLAIN).await;
    client.silence(Duration::from_secs(3)).await.unwrap();

    let mut media = Value::Null;
    let measured = async {
        while media["jitterMs"].as_f64().is_none_or(|jitter| jitter <= 0.0) {
            media = plane.session(&client.session_id).await["media"].clone();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, measured).await.unwrap();

    assert_eq!(media["lossPercent"], 0.0, "{media}");
    assert!(
        (20.0..=200.0).contains(&media["jitterBufferMs"].as_f64().unwrap()),
        "{media}"
    );
    assert!(media["rttMs"].as_f64().is_some(), "{media}");
    assert_eq!(plane.metric("http_active_connections{route=\"/webrtc\"}").await, 1.0);
    assert_eq!(plane.metric("webrtc_peer_connections_active").await, 1.0);
    assert!(plane.metric("webrtc_peer_connections_total{state=\"connected\"}").await >= 1.0);
    assert!(plane.metric("webrtc_bytes_received_total").await > 1_000.0);
    assert!(plane.metric("webrtc_bytes_sent_total").await > 0.0);
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_politely_when_its_time_is_over() {
    let plane = Plane::start_with(Script::new(), SHORT, &[("rtc_max_duration_secs", "1")]).await;
    let mut client = plane.connected(PLAIN).await;

    client.silence(Duration::from_millis(1_500)).await.unwrap();

    client
        .message(|message| message["message"]["type"] == "peerLeft")
        .await
        .unwrap();
    let (rows, _) = plane.archived(&client.session_id).await;
    assert!(
        rows.last().is_some_and(|(_, text)| text.contains("time limit")),
        "{rows:?}"
    );
    plane.is_idle().await;
    plane.stop().await;
}
