//! What is no offer, no candidate and no message, and what clients are told about it.

use reqwest::Method;
use serde_json::{Value, json};
use voxray_testkit::scripted::Script;
use voxray_testkit::webrtc_client::{Client, PLAIN};

use crate::plane::{Plane, SHORT};

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_cannot_be_answered_gets_the_documented_error_and_costs_nothing() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let client = Client::new("", PLAIN).await.unwrap();
    let good = client.local_offer(false).await.unwrap();
    let many = "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n".repeat(2_000);
    // the offer, status, a word of the message
    let cases = [
        (String::new(), 422, "must not be empty"),
        ("hello".to_owned(), 422, "not SDP"),
        ("v=0\r\n".to_owned(), 422, "no audio"),
        (good.replace("m=audio", "m=video"), 422, "no audio"),
        (good.replace("opus/48000/2", "speex/8000"), 422, "no audio codec"),
        (good.replace("a=ice-ufrag:", "a=x-ufrag:"), 422, "ice-ufrag"),
        (good.replace("a=fingerprint:", "a=x-fingerprint:"), 422, "fingerprint"),
        (
            good.replace("a=fingerprint:sha-256 ", "a=fingerprint:"),
            422,
            "cannot be answered",
        ),
        (good.replace("a=mid:0", "a=mid:"), 422, ""),
        (good.clone() + &many, 422, "candidates"),
        (good.clone() + "a=candidate:rubbish\r\n", 422, "not an ICE candidate"),
        ("x".repeat(1_000_000), 413, ""),
    ];
    for (sdp, expected, word) in cases {
        let session_id = plane.begin(Value::Null).await;
        let url = format!("{}/sessions/{session_id}/api/offer", plane.a);
        let (status, error) = plane.ask(Method::POST, &url, &json!({ "sdp": sdp })).await;
        let shown: String = sdp.chars().take(60).collect();
        assert_eq!(status, expected, "{shown}: {error}");
        assert!(error.to_string().contains(word), "{shown}: {error}");
        assert_eq!(plane.media.sessions(), 0);
    }
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_candidates_and_rubbish_leave_the_connection_as_it_was() {
    let plane = Plane::start_with(Script::new(), SHORT, &[("max_request_body_bytes", "0")]).await;
    let client = plane.connected(PLAIN).await;
    let url = format!("{}/sessions/{}/api/offer", plane.b, client.session_id);
    let candidate = |number: u32| {
        let port = 1_024 + number % 60_000;
        json!({ "candidate": format!("candidate:{number} 1 udp 1 127.0.0.1 {port} typ host"), "sdp_mid": "0" })
    };
    let many: Vec<Value> = (0..10_000).map(candidate).collect();
    let rubbish = vec![json!({ "candidate": "rubbish", "sdp_mid": "0" })];

    for candidates in [many, rubbish] {
        let body = json!({ "pc_id": client.pc_id, "candidates": candidates });
        let (status, error) = plane.ask(Method::PATCH, &url, &body).await;
        assert_eq!(
            (status, &error["error"]["code"]),
            (422, &json!("VALIDATION_ERROR")),
            "{error}"
        );
    }
    // A few at a time, until there are more than any client has.
    let mut statuses = Vec::new();
    for batch in 0..12 {
        let candidates: Vec<Value> = (batch * 10..batch * 10 + 10).map(candidate).collect();
        let body = json!({ "pc_id": client.pc_id, "candidates": candidates });
        statuses.push(plane.ask(Method::PATCH, &url, &body).await.0);
    }
    assert_eq!(
        (statuses.first(), statuses.last()),
        (Some(&200), Some(&422)),
        "{statuses:?}"
    );
    // Those that are known are no more by being said again, and another offer brings no more of them than a message.
    let known = json!({ "pc_id": client.pc_id, "candidates": (0..10).map(candidate).collect::<Vec<_>>() });
    assert_eq!(plane.ask(Method::PATCH, &url, &known).await.0, 200);
    let fresh = (0..60).map(|number| format!("a=candidate:9{number} 1 udp 1 127.0.0.1 9{number} typ host\r\n"));
    let sdp = client.local_offer(false).await.unwrap() + &fresh.collect::<String>();
    let body = json!({ "pc_id": client.pc_id, "type": "offer", "sdp": sdp });
    let (status, error) = plane.ask(Method::POST, &url, &body).await;
    assert_eq!(status, 422, "{error}");
    assert!(error.to_string().contains("more than 100 candidates"), "{error}");

    client
        .say(r#"{"label":"rtvi-ai","type":"client-message","id":"9","data":{"t":"ping","d":1}}"#)
        .await
        .unwrap();
    client.message(|message| message["id"] == "9").await.unwrap();
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_on_the_data_channel_is_answered_and_a_wrong_version_ends_the_session() {
    let plane = Plane::start_with(Script::new(), SHORT, &[]).await;
    let client = plane.connected(PLAIN).await;

    client.say("ping: 1").await.unwrap();
    client.say("rubbish").await.unwrap();
    client.message_of("error").await.unwrap();
    client.say(&"x".repeat(60_000)).await.unwrap();
    // Bytes mean nothing on this channel, whatever they would say as text.
    client.say_bytes(&[0xff; 1_000]).await.unwrap();
    client
        .say_bytes(br#"{"label":"rtvi-ai","type":"disconnect-bot","id":"6"}"#)
        .await
        .unwrap();
    client
        .say(r#"{"label":"rtvi-ai","type":"sing","id":"7","data":{}}"#)
        .await
        .unwrap();
    client
        .message(|message| message["type"] == "error-response" && message["id"] == "7")
        .await
        .unwrap();
    client
        .say(r#"{"label":"rtvi-ai","type":"client-ready","id":"8","data":{"version":"0.1.0"}}"#)
        .await
        .unwrap();
    client
        .message(|message| message["type"] == "error-response" && message["id"] == "8")
        .await
        .unwrap();

    plane.is_idle().await;
    plane.stop().await;
}
