//! Calls as networks and clients make them: over WebRTC with packets lost, on a phone line that is cut, to somebody who
//! does not read, from somebody who cannot be reached.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use media_core::rtp::SEND_RATE_HZ;
use media_core::wire::far_end::FarEnd;
use media_core::wire::telephony::{Channels, MediaFormat, Message as WireMessage, Provider, Start};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use voxray::caller::request_stream;
use voxray_testkit::openai::{Answer, Endpoint, Gate, tone};
use voxray_testkit::wait::eventually;
use voxray_testkit::webrtc_client::{Client, Kind, PLAIN};
use voxray_testkit::{api, carriers};

use crate::client::{Browser, LIMIT, http};
use crate::scene::Scene;
use crate::scraper::Scraper;

/// The agent's voice in a WebRTC call.
const VOICE_HZ: f64 = 700.0;
const KIND: Kind = Kind {
    cable: true,
    voice_hz: VOICE_HZ,
    ..PLAIN
};
/// More pieces of one answer than wait for a client that does not read.
const PIECES: usize = 600;

impl Scene {
    /// A client that is answered, and whose packets never arrive: it is given up after 15 s, while others call.
    pub async fn unreachable_client(&self) -> Client {
        let mut client = self.webrtc_client().await;
        client.cable.cut();
        client.offer(&self.stack.signaling[0].url(), &json!({})).await.unwrap();
        client
    }

    /// A call over WebRTC: a greeting, a turn with every tenth packet lost, another peer connection by way of the other
    /// signaling service, a key, and the end. Its session.
    pub async fn webrtc_call(&self) -> String {
        let said = Answer::transcript("Please tell her to call me back.");
        self.openai.otherwise(Endpoint::Transcriptions, said);
        self.openai
            .otherwise(Endpoint::Chat, Answer::chat(["I will ", "tell her."]));
        self.openai
            .otherwise(Endpoint::Speech, Answer::speech(&tone(VOICE_HZ, 600)));
        let [here, there] = [0, 1].map(|number: usize| self.stack.signaling[number].url());
        let voice = Duration::from_millis(300);

        let mut client = self.webrtc_client().await;
        client.offer(&here, &json!({})).await.unwrap();
        client.is_connected().await.unwrap();
        client.hears_voice(voice).await.unwrap();
        client.hears_out().await.unwrap();
        client.cable.lose_every(10);
        client.speak().await.unwrap();
        client.message_of("user-transcription").await.unwrap();
        client.hears_voice(voice).await.unwrap();
        client.hears_out().await.unwrap();

        let mut again = Client::new(&client.session_id, KIND).await.unwrap();
        let instead = json!({"pc_id": client.pc_id, "restart_pc": true});
        again.offer(&there, &instead).await.unwrap();
        again.is_connected().await.unwrap();
        let quarter = usize::try_from(SEND_RATE_HZ / 4).unwrap();
        again.play(&vec![0; quarter], Some(5)).await.unwrap();
        again.tell("disconnect-bot", &json!({})).await.unwrap();
        again
            .message(|message| message["message"]["type"] == "peerLeft")
            .await
            .unwrap();
        let session_id = client.session_id.clone();
        client.close().await.unwrap();
        again.close().await.unwrap();
        session_id
    }

    /// A phone stream in which audio comes twice, and which the network cuts: the provider opens it again, and its caller is
    /// put through to somebody else.
    pub async fn phone_stream_comes_back(&self, scraper: &Scraper) {
        let call_id = "CA00000000000000000000000000000007";
        let fields = [
            ("AccountSid", "AC00000000000000000000000000000000"),
            ("CallSid", call_id),
            ("CallStatus", "ringing"),
            ("Direction", "inbound"),
            ("From", "+15005550006"),
            ("To", "+15005550001"),
        ];
        let signaling = self.stack.signaling[1].url();
        let stream = request_stream(&signaling, &fields, Some(carriers::TOKEN))
            .await
            .unwrap();
        let mut far_end = FarEnd::new(start(call_id));
        let mut messages = far_end.opening();
        let audio: Vec<_> = (0..10).map(|number| far_end.media(number * 20, &[0; 160])).collect();
        messages.extend(audio.iter().cloned());
        messages.push(audio[4].clone());
        let (mut socket, _) = connect_async(&stream.url).await.unwrap();
        for message in messages {
            socket.send(wire(message)).await.unwrap();
        }
        let late = eventually("what came twice is noticed", LIMIT, || async {
            Ok((scraper.sum("media", "voxray_phone_frames_late_total", "twilio") > 0.0).then_some(()))
        });
        late.await.unwrap();
        drop(socket);

        let back = eventually("the stream is open again", LIMIT, || async {
            Ok(connect_async(&stream.url).await.ok())
        });
        let (mut socket, _) = back.await.unwrap();
        let mut far_end = FarEnd::new(start(call_id));
        for message in far_end.opening() {
            socket.send(wire(message)).await.unwrap();
        }
        let returned = eventually("the stream is back", LIMIT, || async {
            Ok((scraper.sum("media", "voxray_phone_stream_cuts_total", "returned") > 0.0).then_some(()))
        });
        returned.await.unwrap();
        let transferred = eventually("the caller is put through", LIMIT, || async {
            let listed = api::data(&format!("{signaling}/sessions")).await?.unwrap_or_default();
            let sessions = listed["sessions"].as_array().cloned().unwrap_or_default();
            let Some(session) = sessions.iter().find(|session| session["callId"] == call_id) else {
                return Ok(None);
            };
            let id = session["sessionId"].as_str().unwrap_or_default();
            let request = http().post(format!("{signaling}/sessions/{id}/transfer"));
            let answer = request.json(&json!({"to": "+15005550009"})).send().await?;
            Ok(answer.status().is_success().then_some(()))
        });
        transferred.await.unwrap();
        let leave = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::time::timeout(LIMIT, leave).await.unwrap();
    }

    /// A client that asks and does not read, while the agent has much to tell.
    pub async fn client_that_does_not_read(&self, scraper: &Scraper) {
        let gate = Gate::new();
        let mut much = Answer::chat_beginning([]).hold(gate.hold());
        for _ in 0..PIECES {
            much = much.text("and so on ");
        }
        self.openai.answer(Endpoint::Chat, [much.chat_end("stop")]);
        self.openai
            .otherwise(Endpoint::Speech, Answer::speech(&tone(VOICE_HZ, 20_000)));
        let mut browser = Browser::with_a_small_window(&self.stack.media[0]).await;
        browser.type_text("Tell me everything.").await;
        // Until nothing goes any more. Should this machine only have been slow, asking goes on and the speech is long.
        let stuck = Duration::from_secs(1);
        while tokio::time::timeout(stuck, browser.ask_what_nobody_knows())
            .await
            .is_ok()
        {}
        gate.open();
        let dropped = eventually("frames are dropped", LIMIT, || async {
            Ok((scraper.sum("media", "voxray_frames_dropped_total", "websocket") > 0.0).then_some(()))
        });
        let asking = async {
            loop {
                browser.ask_what_nobody_knows().await;
            }
        };
        tokio::select! {
            dropped = dropped => dropped.unwrap(),
            () = asking => {}
        }
        let short = Answer::speech(&tone(VOICE_HZ, 300));
        self.openai.otherwise(Endpoint::Speech, short);
    }

    async fn webrtc_client(&self) -> Client {
        let url = format!("{}/start", self.stack.signaling[0].url());
        let body = json!({"transport": "webrtc"});
        let started = http().post(url).json(&body).send().await.unwrap();
        let started: Value = started.json().await.unwrap();
        let session_id = started["sessionId"].as_str().unwrap_or_else(|| panic!("{started}"));
        Client::new(session_id, KIND).await.unwrap()
    }
}

fn start(call_id: &str) -> Start {
    Start {
        provider: Provider::Twilio,
        stream_id: "MZ1".to_owned(),
        call_id: call_id.to_owned(),
        account_id: None,
        parameters: [].into(),
        format: MediaFormat::ULAW_8K,
        channels: Channels::Caller,
    }
}

fn wire(message: WireMessage) -> Message {
    match message {
        WireMessage::Text(text) => Message::text(text),
        WireMessage::Binary(bytes) => Message::binary(bytes),
    }
}
