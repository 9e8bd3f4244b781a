//! Clients that lose their connection, and what becomes of their calls.

use std::time::Duration;

use media_svc::transport::RtcTimeouts;
use reqwest::Method;
use serde_json::{Value, json};
use voxray_testkit::scripted::{Answer, Script};
use voxray_testkit::webrtc_client::{Client, Kind, PLAIN};

use crate::plane::{LIMIT, Plane, SHORT, eventually};

const CABLE: Kind = Kind { cable: true, ..PLAIN };
/// The client hangs up by a message.
pub const LEAVE: &str = r#"{"label":"rtvi-ai","type":"disconnect-bot","id":"d1"}"#;

fn two_turns() -> Script {
    Script::new()
        .hears("First.")
        .hears("Second.")
        .answers(Answer::say("One."))
        .answers(Answer::say("Two."))
}

/// Both turns of the conversation are in one transcript and one recording.
async fn is_one_conversation(plane: &Plane, session_id: &str) {
    let (rows, recording) = plane.archived(session_id).await;
    let said: Vec<&str> = rows.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(said, ["Hello.", "First.", "One.", "Second.", "Two."]);
    assert!(hound::WavReader::open(recording).unwrap().duration() > 5 * 16_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ice_restart_keeps_the_call_and_its_recording() {
    let plane = Plane::start_with(two_turns(), SHORT, &[]).await;
    let mut client = plane.connected(PLAIN).await;
    client.hears_out().await.unwrap();
    client.voice_heard();
    client.speak().await.unwrap();
    client.hears_out().await.unwrap();
    let pc_id = client.pc_id.clone();

    let sdp = client.local_offer(true).await.unwrap();
    client
        .offer_this(&plane.a, sdp, &json!({ "pc_id": pc_id, "restart_pc": false }))
        .await
        .unwrap();
    client.is_connected().await.unwrap();
    assert_eq!(client.pc_id, pc_id);
    client.voice_heard();
    client.speak().await.unwrap();
    client.hears_out().await.unwrap();

    assert!(plane.metric("webrtc_reconnection_attempts_total").await >= 1.0);
    client.say(LEAVE).await.unwrap();
    is_one_conversation(&plane, &client.session_id).await;
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

/// It has offered, and does not take the answer. ICE alone would look for it twice as long.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_found_after_an_ice_restart_is_waited_for_as_long_as_any_other() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let client = plane.connected(PLAIN).await;
    client.hears_out().await.unwrap();
    let failures = "webrtc_connection_failures_total{reason=\"failed\"}";
    let before = plane.metric(failures).await;

    let sdp = client.local_offer(true).await.unwrap();
    let url = format!("{}/sessions/{}/api/offer", plane.a, client.session_id);
    let again = json!({ "sdp": sdp, "type": "offer", "pc_id": client.pc_id });
    assert_eq!(plane.ask(Method::POST, &url, &again).await.0, 200);

    plane.archived(&client.session_id).await;
    assert_eq!(plane.metric(failures).await, before, "it was ICE that gave up");
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanished_comes_back_with_another_connection_to_the_same_call() {
    let plane = Plane::start_with(two_turns(), SHORT, &[]).await;
    let mut client = plane.connected(CABLE).await;
    client.hears_out().await.unwrap();
    client.voice_heard();
    client.speak().await.unwrap();
    client.hears_out().await.unwrap();
    client.cable.cut();
    let disconnected = "webrtc_peer_connections_total{state=\"disconnected\"}";
    let before = plane.metric(disconnected).await;
    eventually("the cut is noticed", async || plane.metric(disconnected).await > before).await;

    let mut again = Client::new(&client.session_id, PLAIN).await.unwrap();
    again
        .offer(&plane.a, &json!({ "pc_id": client.pc_id, "restart_pc": true }))
        .await
        .unwrap();
    again.is_connected().await.unwrap();
    assert_ne!(again.pc_id, client.pc_id);
    again.speak().await.unwrap();
    again.hears_voice(Duration::from_millis(150)).await.unwrap();
    again.hears_out().await.unwrap();

    again.say(LEAVE).await.unwrap();
    is_one_conversation(&plane, &client.session_id).await;
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_that_is_mended_in_time_is_no_more_than_a_pause() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let client = plane.connected(CABLE).await;
    let disconnected = "webrtc_peer_connections_total{state=\"disconnected\"}";
    let before = plane.metric(disconnected).await;

    client.cable.cut();
    eventually("the cut is noticed", async || plane.metric(disconnected).await > before).await;
    client.cable.mend();

    client
        .say(r#"{"label":"rtvi-ai","type":"client-message","id":"9","data":{"t":"ping","d":1}}"#)
        .await
        .unwrap();
    client.message(|message| message["id"] == "9").await.unwrap();
    assert_eq!(plane.session(&client.session_id).await["state"], "connected");
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

/// Its track has ended, which its connection has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_taken_its_audio_away_is_waited_for_like_any_other() {
    let patient = RtcTimeouts {
        hold: LIMIT,
        left: Duration::from_millis(1),
        ..SHORT
    };
    let plane = Plane::start_with(Script::new(), patient, &[]).await;
    let mut client = plane.connected(CABLE).await;
    client.silence(Duration::from_millis(200)).await.unwrap();
    let sdp = client.local_offer(false).await.unwrap();
    let lines = sdp
        .lines()
        .filter(|line| !line.starts_with("a=ssrc") && !line.starts_with("a=msid:"));
    let silent: String = lines.map(|line| format!("{line}\r\n")).collect();
    let silent = silent.replace("a=sendrecv", "a=recvonly");
    assert_ne!(silent, sdp);
    let same = json!({ "pc_id": client.pc_id });
    client.offer_this(&plane.a, silent, &same).await.unwrap();
    let disconnected = "webrtc_peer_connections_total{state=\"disconnected\"}";
    let before = plane.metric(disconnected).await;

    client.cable.cut();
    eventually("the cut is noticed", async || plane.metric(disconnected).await > before).await;
    client.cable.mend();

    client
        .say(r#"{"label":"rtvi-ai","type":"client-message","id":"9","data":{"t":"ping","d":1}}"#)
        .await
        .unwrap();
    client.message(|message| message["id"] == "9").await.unwrap();
    assert_eq!(plane.session(&client.session_id).await["state"], "connected");
    client.say(LEAVE).await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_for_good_is_ended_and_archived() {
    let plane = Plane::start_with(two_turns(), SHORT, &[]).await;
    let mut client = plane.connected(CABLE).await;
    client.hears_out().await.unwrap();
    client.voice_heard();
    client.speak().await.unwrap();
    client.hears_out().await.unwrap();

    client.cable.cut();

    let (rows, _) = plane.archived(&client.session_id).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(plane.session(&client.session_id).await, Value::Null);
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_connects_gives_its_place_back() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let session_id = plane.begin(Value::Null).await;
    let mut client = Client::new(&session_id, CABLE).await.unwrap();
    client.cable.cut();

    client.offer(&plane.a, &json!({})).await.unwrap();
    assert_eq!(plane.media.sessions(), 1);

    plane.is_idle().await;
    plane.stop().await;
}
