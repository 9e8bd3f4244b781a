//! Nobody in between takes silence for a dead line: nginx by itself cuts a connection after 60 quiet seconds.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::wire::pipecat;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use voxray::caller::{Call, Step};

use crate::support::{Fleet, LIMIT};

const CALLER_QUIET: Duration = Duration::from_secs(70);
const CLIENT_QUIET: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_and_a_client_who_say_nothing_for_long_stay_connected() {
    let fleet = Fleet::start("", |builder| builder).await;
    let greeted = Step::WaitForSpeech {
        heard: Duration::from_millis(200),
        timeout: LIMIT,
    };
    let caller = Call::new(fleet.nginx.url(), vec![greeted, Step::Silence(CALLER_QUIET)]).place();

    let (caller, ()) = tokio::join!(caller, silent_client(&fleet));

    let on_the_line = caller.unwrap().sent.len() / 8_000;
    assert!(on_the_line as u64 >= CALLER_QUIET.as_secs(), "{on_the_line} s");
    fleet.stop().await;
}

/// Says that it is ready and from then on nothing but pongs, and is still answered at the end.
async fn silent_client(fleet: &Fleet) {
    let url = format!("{}/start", fleet.nginx.url());
    let started = fleet
        .http
        .post(url)
        .json(&json!({"transport": "websocket"}))
        .send()
        .await
        .unwrap();
    let started: Value = started.json().await.unwrap();
    let (url, token) = (started["wsUrl"].as_str().unwrap(), started["token"].as_str().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("{url}&token={token}"))
        .await
        .unwrap();
    socket
        .send(rtvi("client-ready", "1", json!({"version": "2.0.0"})))
        .await
        .unwrap();

    // Reading is what answers pings.
    let quiet = async {
        while let Some(message) = socket.next().await {
            assert!(!message.unwrap().is_close(), "closed while it was quiet");
        }
        panic!("cut off while it was quiet");
    };
    let _ = tokio::time::timeout(CLIENT_QUIET, quiet).await;

    socket
        .send(rtvi("no-such-type", "still-here", json!({})))
        .await
        .unwrap();
    let answered = async {
        loop {
            let message = socket.next().await.expect("still connected").unwrap();
            if message.into_data().windows(10).any(|part| part == b"still-here") {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, answered).await.unwrap();
    socket.close(None).await.unwrap();
}

fn rtvi(kind: &str, id: &str, data: Value) -> Message {
    let data = json!({"label": "rtvi-ai", "type": kind, "id": id, "data": data}).to_string();
    Message::binary(pipecat::message_frame(data))
}
