//! What is no offer, no candidate and no message, and what clients are told about it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use voxray_testkit::scripted::{Answer, Script};
use voxray_testkit::webrtc_client::{Client, PLAIN};

use crate::plane::{Plane, SHORT, eventually};

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

/// A connectivity check that names a call by its user name fragment and is signed by nobody (RFC 8489, section 5).
fn check(fragment: &str) -> Vec<u8> {
    let name = format!("{fragment}:stranger");
    let padded = name.len().next_multiple_of(4);
    let mut packet = vec![0, 1];
    packet.extend(u16::try_from(4 + padded).unwrap().to_be_bytes());
    packet.extend([0x21, 0x12, 0xA4, 0x42]);
    packet.extend([7; 12]);
    packet.extend([0, 6]);
    packet.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
    packet.extend(name.as_bytes());
    packet.resize(20 + 4 + padded, 0);
    packet
}

/// Datagrams of every first byte, by which STUN, DTLS, TURN, RTP and RTCP are told apart (RFC 7983), and of lengths around
/// their headers; the rest is noise, the same in each run (Marsaglia's xorshift).
fn rubbish(fragment: &str) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_u32;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    let mut all = vec![Vec::new()];
    for first in 0..=u8::MAX {
        for length in [1, 12, 13, 20, 172, 1_500] {
            let mut datagram: Vec<u8> = (0..length).map(|_| noise()).collect();
            datagram[0] = first;
            all.push(datagram);
        }
    }
    let check = check(fragment);
    for length in 0..check.len() {
        let mut spoilt = check.clone();
        spoilt[length] = noise();
        all.extend([check[..length].to_vec(), spoilt]);
    }
    all.push(vec![0x80; 9_000]);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_on_the_media_port_takes_no_call_its_messages_or_its_sound() {
    let script = Script::new().answers(Answer::say("Still here, and quite undisturbed."));
    let plane = Plane::start_with(script, SHORT, &[]).await;
    let client = plane.connected(PLAIN).await;
    client.hears_out().await.unwrap();
    let port = client.far_end().await.unwrap();
    let answer = client.pc.remote_description().await.unwrap().sdp;
    let fragment = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
    let fragment = fragment.unwrap();

    for names_the_call in [false, true] {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if names_the_call {
            stranger.send_to(&check(fragment), port).await.unwrap();
        }
        let before = plane.metric("webrtc_bytes_received_total").await;
        for datagram in rubbish(fragment) {
            stranger.send_to(&datagram, port).await.unwrap();
            tokio::task::yield_now().await;
        }
        // The call's own packets in that time are a hundredth of it.
        eventually("the rubbish is read", async || {
            plane.metric("webrtc_bytes_received_total").await - before > 100_000.0
        })
        .await;
    }

    client
        .say(r#"{"label":"rtvi-ai","type":"client-message","id":"5","data":{"t":"ping","d":1}}"#)
        .await
        .unwrap();
    client.message(|message| message["id"] == "5").await.unwrap();
    client.voice_heard();
    client
        .tell("send-text", &json!({"content": "Are you there?"}))
        .await
        .unwrap();
    client.hears_voice(Duration::from_millis(300)).await.unwrap();
    assert_eq!(plane.media.sessions(), 1);
    client.close().await.unwrap();
    plane.is_idle().await;
    plane.stop().await;
}
