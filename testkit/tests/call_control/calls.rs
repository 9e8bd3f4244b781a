//! Whole calls over real sockets: what the agent and the API do with them at the provider.

use std::time::Duration;

use carriers::Provider;
use futures_util::{SinkExt, StreamExt};
use media_core::audio::{dtmf, goertzel};
use media_core::conversation::Notice;
use media_core::wire::far_end::FromServer;
use media_core::wire::telephony::{Channels, Codec, MediaFormat, Provider as WireProvider, Start};
use media_core::wire::twilio::far_end::{self, FarEnd};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use voxray::caller::request_stream;
use voxray::single::SingleProcess;
use voxray_testkit::carriers::{Asked, CarrierServer, Fault, TOKEN};
use voxray_testkit::scripted::{Answer, Script};
use voxray_testkit::wait::eventually;

use crate::support::{NUMBER, config};

const LIMIT: Duration = Duration::from_secs(20);
const CALL: &str = "CA0001";

/// A whole server whose phone provider is scripted.
struct Server {
    process: SingleProcess,
    twilio: CarrierServer,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

/// The provider's end of a stream.
struct Phone {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    far_end: FarEnd,
}

impl Server {
    /// The agent says nothing first; the caller asks by pressing `1#`.
    async fn start(script: Script) -> Self {
        let twilio = CarrierServer::start(Provider::Twilio).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let own = [
            ("host", "127.0.0.1"),
            ("port", "0"),
            ("greeting", ""),
            ("data_dir", folder.path().to_str().unwrap()),
            ("telephony.transfer_to", NUMBER),
            ("telephony.request_timeout_secs", "1"),
        ];
        let config = config(&twilio.settings(), &own);
        let process = SingleProcess::start(&config, Some(script.providers())).await.unwrap();
        let server = Self {
            process,
            twilio,
            http: reqwest::Client::new(),
            _folder: folder,
        };
        let ready = eventually("the server is ready", LIMIT, || async {
            let url = format!("{}/ready", server.process.base_url());
            Ok((server.http.get(url).send().await?.status() == 200).then_some(()))
        });
        ready.await.unwrap();
        server
    }

    /// A call that has begun, and its session.
    async fn call(&self) -> (Phone, String) {
        let fields = [("AccountSid", "AC0"), ("CallSid", CALL), ("From", "+15005550006")];
        let stream = request_stream(&self.process.base_url(), &fields, Some(TOKEN))
            .await
            .unwrap();
        let (socket, _) = tokio_tungstenite::connect_async(&stream.url).await.unwrap();
        let far_end = FarEnd::new(Start {
            provider: WireProvider::Twilio,
            stream_id: "MZ1".to_owned(),
            call_id: CALL.to_owned(),
            account_id: None,
            parameters: [].into(),
            format: MediaFormat {
                codec: Codec::Ulaw,
                rate_hz: 8_000,
            },
            channels: Channels::Caller,
        });
        let mut phone = Phone { socket, far_end };
        phone.send(far_end::connected()).await;
        let start = phone.far_end.start();
        phone.send(start).await;
        let id = eventually("the call is connected", LIMIT, || async {
            let sessions = self.sessions().await;
            let connected = sessions.iter().find(|session| session["state"] == "connected");
            Ok(connected.and_then(|session| session["sessionId"].as_str().map(str::to_owned)))
        });
        let id = id.await.unwrap();
        (phone, id)
    }

    async fn sessions(&self) -> Vec<Value> {
        let url = format!("{}/sessions", self.process.base_url());
        let listed: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        listed["data"]["sessions"].as_array().cloned().unwrap_or_default()
    }

    /// Posts; until the stream has begun, which nobody announces, the answer is to come back later.
    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.process.base_url());
        let answered = eventually("an answer", LIMIT, || async {
            let answer = self.http.post(&url).json(&body).send().await?;
            let status = answer.status().as_u16();
            Ok(if status == 503 {
                None
            } else {
                Some((status, answer.json().await.unwrap_or_default()))
            })
        });
        answered.await.unwrap()
    }

    async fn end(&self, id: &str) -> u16 {
        let url = format!("{}/sessions/{id}", self.process.base_url());
        self.http.delete(url).send().await.unwrap().status().as_u16()
    }

    async fn is_idle(&self) {
        let idle = eventually("no session is left", LIMIT, || async {
            let idle = self.process.media().sessions() == 0 && self.sessions().await.is_empty();
            Ok(idle.then_some(()))
        });
        idle.await.unwrap();
    }

    async fn stop(self) {
        tokio::time::timeout(LIMIT, self.process.stop()).await.unwrap();
    }
}

impl Phone {
    async fn send(&mut self, text: String) {
        // A server that has closed meanwhile is noticed when reading.
        let _ = self.socket.send(Message::text(text)).await;
    }

    async fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            let message = self.far_end.dtmf(key);
            self.send(message).await;
        }
    }

    async fn hang_up(&mut self) {
        let stop = self.far_end.stop();
        self.send(stop).await;
    }

    /// What the caller hears until `enough`, or until the stream is over. Marks are echoed at once.
    async fn hears(&mut self, enough: impl Fn(&[i16]) -> bool) -> Vec<i16> {
        let mut heard = Vec::new();
        let hearing = async {
            while let Some(Ok(message)) = self.socket.next().await {
                let Message::Text(text) = message else { continue };
                match self.far_end.read(&text).unwrap() {
                    FromServer::Media(samples) => heard.extend(samples),
                    FromServer::Mark(name) => {
                        let echo = self.far_end.mark(&name);
                        let _ = self.socket.send(Message::text(echo)).await;
                    }
                    FromServer::Clear
                    | FromServer::Opened
                    | FromServer::Disconnect
                    | FromServer::Closed
                    | FromServer::Ignored => {}
                }
                if enough(&heard) {
                    break;
                }
            }
        };
        tokio::time::timeout(LIMIT, hearing).await.unwrap();
        heard
    }

    /// Hears the call to its end.
    async fn is_closed(&mut self) {
        self.hears(|_| false).await;
    }
}

fn asked(server: &Server) -> Vec<Asked> {
    server
        .twilio
        .requests()
        .into_iter()
        .map(|request| request.asked)
        .collect()
}

fn hang_up() -> Asked {
    Asked::HangUp { call: CALL.to_owned() }
}

#[tokio::test]
async fn a_call_that_the_agent_ends_is_ended_at_the_provider() {
    let server = Server::start(Script::new().answers(Answer::say("Bye.").and_call("end_call"))).await;
    let (mut phone, _) = server.call().await;
    phone.press("1#").await;
    phone.is_closed().await;
    assert_eq!(server.twilio.request(0).await.unwrap().asked, hang_up());
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_the_caller_ends_is_over_and_the_provider_is_not_bothered() {
    let server = Server::start(Script::new()).await;
    let (mut phone, _) = server.call().await;
    phone.hang_up().await;
    phone.is_closed().await;
    server.is_idle().await;
    assert_eq!(asked(&server), []);
    server.stop().await;
}

#[tokio::test]
async fn a_provider_that_says_nothing_keeps_no_call_alive() {
    let server = Server::start(Script::new()).await;
    server.twilio.fail_always(Some(Fault::NoAnswer));
    let (mut phone, id) = server.call().await;
    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    server.is_idle().await;
    assert_eq!(server.twilio.request(0).await.unwrap().asked, hang_up());
    server.stop().await;
}

#[tokio::test]
async fn the_agent_puts_a_caller_through_after_saying_so() {
    let server = Server::start(Script::new().answers(Answer::say("One moment.").and_call("transfer_call"))).await;
    let (mut phone, _) = server.call().await;
    phone.press("1#").await;
    let heard = phone.hears(|_| false).await;
    // 11 characters at 50 ms.
    assert!(heard.len() >= 4_400, "the caller was told: {}", heard.len());
    server.is_idle().await;
    let transfer = Asked::Transfer {
        call: CALL.to_owned(),
        to: NUMBER.to_owned(),
    };
    // And nobody hangs up on the two who talk now.
    assert_eq!(asked(&server), [transfer]);
    server.stop().await;
}

#[tokio::test]
async fn a_transfer_that_fails_leaves_the_caller_with_the_agent() {
    let server = Server::start(Script::new().answers(Answer::say("Wait.").and_call("transfer_call"))).await;
    let mut notices = server.process.media().events();
    server.twilio.fail([Fault::Status(400)]);
    let (mut phone, id) = server.call().await;
    phone.press("1#").await;
    let listening = phone.hears(|heard| heard.len() > 800_000);
    let done = async {
        loop {
            if let Ok((_, Notice::ToolDone { content, .. })) = notices.recv().await {
                return content;
            }
        }
    };
    let content = tokio::select! {
        content = done => content,
        _ = listening => panic!("the call has ended"),
    };
    assert!(content.starts_with("error:"), "{content}");
    assert_eq!(server.end(&id).await, 200);
    phone.is_closed().await;
    server.twilio.request(1).await.unwrap();
    assert_eq!(asked(&server)[1], hang_up());
    server.stop().await;
}

#[tokio::test]
async fn a_call_is_transferred_by_the_api_and_not_ended_after_that() {
    let server = Server::start(Script::new()).await;
    let (mut phone, id) = server.call().await;
    let transfer = format!("/sessions/{id}/transfer");
    server.twilio.fail([Fault::Unauthorized, Fault::NotFound]);
    let (status, body) = server.post(&transfer, json!({"to": NUMBER})).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(server.post(&transfer, json!({"to": NUMBER})).await.0, 404);
    let (status, body) = server.post(&transfer, json!({"to": NUMBER})).await;
    assert_eq!(
        (status, body["data"]["transferred"].as_bool()),
        (200, Some(true)),
        "{body}"
    );
    phone.is_closed().await;
    server.is_idle().await;
    let asked = asked(&server);
    assert!(!asked.contains(&hang_up()), "{asked:?}");
    assert_eq!(server.post(&transfer, json!({"to": NUMBER})).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn keys_that_the_provider_cannot_send_are_heard_as_tones() {
    let server = Server::start(Script::new()).await;
    let (mut phone, id) = server.call().await;
    let (status, body) = server
        .post(&format!("/sessions/{id}/dtmf"), json!({"digits": "5#"}))
        .await;
    assert_eq!(status, 200, "{body}");
    let heard = phone.hears(|heard| heard.len() >= 3_200).await;
    for (key, tone) in [('5', &heard[80..720]), ('#', &heard[1_680..2_320])] {
        let (low, high) = dtmf::frequencies(key).unwrap();
        let share = goertzel::share(tone, low, 8_000) + goertzel::share(tone, high, 8_000);
        assert!(share > 0.95, "{key}: {share}");
    }
    assert_eq!(asked(&server), []);
    phone.hang_up().await;
    server.is_idle().await;
    server.stop().await;
}

#[tokio::test]
async fn the_agent_asks_for_keys_and_gets_them() {
    let collect = Answer::say("Code?").and_call_with("collect_dtmf", r#"{"max_digits": 4}"#);
    let server = Server::start(Script::new().answers(collect)).await;
    let mut notices = server.process.media().events();
    let (mut phone, _) = server.call().await;
    phone.press("1#").await;
    // The question: 5 characters at 50 ms.
    phone.hears(|heard| heard.len() >= 2_000).await;
    phone.press("2468").await;
    let listening = phone.hears(|_| false);
    let done = async {
        loop {
            if let Ok((_, Notice::ToolDone { content, .. })) = notices.recv().await {
                return content;
            }
        }
    };
    let content = tokio::select! {
        content = done => content,
        _ = listening => panic!("the call has ended"),
    };
    assert_eq!(content, r#"{"digits":"2468","ended_by":"length"}"#);
    phone.hang_up().await;
    server.is_idle().await;
    server.stop().await;
}
