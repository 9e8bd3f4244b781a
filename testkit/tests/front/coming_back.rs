//! A socket that is cut comes back through an address that knows no nodes, and reaches a node that has not got its call.

use futures_util::{SinkExt, StreamExt};
use media_core::wire::far_end::{FarEnd, FromServer};
use media_core::wire::telephony::{Channels, Frame, MediaFormat, Message as WireMessage, Provider, Start};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use voxray::caller::{TICK, TICK_SAMPLES, request_stream, rms};
use voxray::wav;
use voxray_testkit::servers::tools::workspace_root;
use voxray_testkit::wait::eventually;

use crate::draining;
use crate::support::{ANSWER, Fleet, LIMIT, QUESTION};

/// Root mean square above which a packet is the agent.
const AUDIBLE_RMS: f64 = 200.0;
/// Packets of the agent that are an answer, and no remainder of anything.
const AN_ANSWER: usize = 8;
/// Packets of quiet after which an answer is over.
const QUIET: usize = 40;
/// Returns through nginx, which takes the nodes in turn: one of them reaches a node without the call.
const RETURNS: usize = 12;

/// The provider's side of one call, over the sockets that carry it.
pub struct Line {
    call_id: String,
    /// `/telephony/ws/…`
    pub path: String,
    through_nginx: String,
    socket: Socket,
    far_end: FarEnd,
    ticks: u64,
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a socket; the status of a refusal if it is one.
pub async fn opened(url: &str, header: Option<(&'static str, &'static str)>) -> Result<Socket, u16> {
    let mut request = url.into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// The stream that the webhook names for a call that comes in.
async fn called(fleet: &Fleet, call_id: &str) -> String {
    let fields = [("AccountSid", "AC0"), ("CallSid", call_id), ("From", "+15005550006")];
    request_stream(&fleet.nginx.url(), &fields, None).await.unwrap().url
}

fn far_end(call_id: &str) -> FarEnd {
    FarEnd::new(Start {
        provider: Provider::Twilio,
        stream_id: "MZ1".to_owned(),
        call_id: call_id.to_owned(),
        account_id: None,
        parameters: [].into(),
        format: MediaFormat::ULAW_8K,
        channels: Channels::Caller,
    })
}

impl Line {
    /// A call through nginx whose greeting was heard.
    async fn open(fleet: &Fleet, call_id: &str) -> Self {
        Self::open_at(fleet, call_id, None).await
    }

    /// The same; its stream comes to this node, where a node is named.
    pub async fn open_at(fleet: &Fleet, call_id: &str, node: Option<&str>) -> Self {
        let url = called(fleet, call_id).await;
        Self::open_stream(call_id, url, node).await
    }

    async fn open_stream(call_id: &str, url: String, node: Option<&str>) -> Self {
        let (_, path) = url.split_once("/telephony").unwrap();
        let path = format!("/telephony{path}");
        let at = node.map_or(url.clone(), |node| format!("{node}{path}"));
        let mut line = Self {
            socket: opened(&at, None).await.unwrap(),
            call_id: call_id.to_owned(),
            path,
            through_nginx: url,
            far_end: far_end(call_id),
            ticks: 0,
        };
        line.begin().await;
        line.hear(&[]).await;
        line
    }

    async fn begin(&mut self) {
        for message in self.far_end.opening() {
            self.put(message).await;
        }
    }

    async fn put(&mut self, message: WireMessage) {
        let message = match message {
            WireMessage::Text(text) => Message::text(text),
            WireMessage::Binary(bytes) => Message::binary(bytes),
        };
        self.socket.send(message).await.unwrap();
    }

    /// The network breaks. The provider connects again as soon as it is let in, to this address.
    async fn come_back(self, url: &str) -> Self {
        let Self {
            call_id,
            path,
            through_nginx,
            socket,
            ticks,
            ..
        } = self;
        drop(socket);
        // Refused until the cut has been noticed.
        let socket = eventually("the stream to be let in again", LIMIT, || async {
            Ok(opened(url, None).await.ok())
        });
        let mut line = Self {
            socket: socket.await.unwrap(),
            far_end: far_end(&call_id),
            call_id,
            path,
            through_nginx,
            ticks,
        };
        line.begin().await;
        line
    }

    /// Says this at the pace of speech, then silence until the agent has answered and is quiet.
    pub async fn hear(&mut self, say: &[i16]) {
        let talking = async {
            let mut pace = tokio::time::interval(TICK);
            let mut packets = say.chunks(TICK_SAMPLES);
            let (mut heard, mut quiet, mut spoken) = (0, 0, false);
            while !spoken || heard < AN_ANSWER || quiet < QUIET {
                tokio::select! {
                    _ = pace.tick() => {
                        let mut packet = packets.next().unwrap_or_default().to_vec();
                        spoken = packets.len() == 0;
                        packet.resize(TICK_SAMPLES, 0);
                        quiet += 1;
                        self.ticks += 1;
                        let message = self.far_end.media(self.ticks * 20, &packet);
                        self.put(message).await;
                    }
                    message = self.socket.next() => {
                        let Message::Text(text) = message.expect("still connected").unwrap() else { continue };
                        match self.far_end.read(Frame::Text(&text)).unwrap() {
                            FromServer::Media(samples) if rms(&samples) > AUDIBLE_RMS => {
                                // What the agent says before the caller has finished is no answer.
                                heard += usize::from(spoken);
                                quiet = 0;
                            }
                            FromServer::Mark(name) => {
                                let played = self.far_end.played(&name).unwrap();
                                self.put(played).await;
                            }
                            FromServer::Media(_)
                            | FromServer::Clear
                            | FromServer::Opened
                            | FromServer::Disconnect
                            | FromServer::Closed
                            | FromServer::Ignored => {}
                        }
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, talking).await.expect("the agent answers");
    }

    /// The provider says that the caller has hung up: code of the close frame that comes back.
    pub async fn hang_up(mut self) -> u16 {
        let stop = self.far_end.stop().unwrap();
        self.put(stop).await;
        self.closed().await
    }

    /// Reads to the close frame: its code.
    async fn closed(&mut self) -> u16 {
        let closing = async {
            loop {
                let message = self.socket.next().await.expect("closed, not cut").unwrap();
                if let Message::Close(frame) = message {
                    return frame.expect("a code").code.into();
                }
            }
        };
        tokio::time::timeout(LIMIT, closing).await.unwrap()
    }
}

/// The node that has the only session of this call. A slot that was kept for an earlier one, elsewhere, may be listed.
async fn owner(fleet: &Fleet, call_id: &str) -> String {
    let found = eventually("the session to be connected", LIMIT, || async {
        let mut sessions = fleet.sessions().await?;
        sessions.retain(|session| session["callId"] == call_id);
        assert_eq!(
            sessions.len(),
            1,
            "one session from the first socket to the last: {sessions:?}"
        );
        Ok((sessions[0]["state"] == "connected").then(|| sessions[0]["node"].as_str().unwrap().to_owned()))
    });
    found.await.unwrap()
}

/// The sum of a metric over these labels, by node; nodes that have none are left out.
async fn by_node(fleet: &Fleet, name: &str, label: &str) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for media in fleet.stack.media.iter().filter(|media| media.process().is_ok()) {
        let answer = fleet.http.get(format!("{}/metrics", media.url())).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        let value: f64 = lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        if value > 0.0 {
            found.push((media.name().to_owned(), value));
        }
    }
    found
}

async fn passed_on(fleet: &Fleet) -> f64 {
    let nodes = by_node(fleet, "voxray_phone_stream_cuts_total", "passed_on").await;
    nodes.iter().map(|(_, count)| count).sum()
}

pub async fn open_streams(fleet: &Fleet) -> Vec<(String, f64)> {
    by_node(fleet, "http_active_connections", "/telephony/ws").await
}

pub fn clip() -> Vec<i16> {
    wav::read_file(&workspace_root().join("testdata/speech/austen-0880.wav")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_comes_back_to_another_node_goes_on_with_its_conversation() {
    let mut fleet = Fleet::start("", |builder| builder).await;
    goes_on(&fleet).await;
    is_refused_as_by_its_owner(&fleet).await;
    begins_though_the_store_is_stalled(&fleet).await;
    ends_with_its_owner(&mut fleet).await;
    finds_its_call_though_the_store_has_lost_everything(&fleet).await;
    draining::whoever_comes_to_a_node_that_drains_is_led_to_the_slot(&mut fleet).await;
    fleet.stop().await;
}

async fn goes_on(fleet: &Fleet) {
    let line = Line::open(fleet, "CA1").await;
    let owner_name = owner(fleet, "CA1").await;
    let (owners, others): (Vec<_>, Vec<_>) = fleet.stack.media.iter().partition(|node| node.name() == owner_name);
    let (path, through_nginx) = (line.path.clone(), line.through_nginx.clone());
    let at = |node: &voxray_testkit::service::Service| format!("{}{path}", node.ws_url());
    assert_eq!(
        opened(&at(others[0]), None).await.err(),
        Some(403),
        "the first socket lives"
    );

    let mut line = line.come_back(&at(others[0])).await;
    line.hear(&clip()).await;

    assert_eq!(owner(fleet, "CA1").await, owner_name);
    assert_eq!(passed_on(fleet).await, 1.0);
    let open = open_streams(fleet).await;
    assert_eq!(open.len(), 2, "the owner and the node in between: {open:?}");
    let carried = by_node(fleet, "voxray_sessions_active", "telephony").await;
    assert_eq!(carried, [(owner_name.clone(), 1.0)], "only the owner carries the call");
    assert_eq!(
        opened(&at(others[1]), None).await.err(),
        Some(403),
        "the second socket lives"
    );

    let mut line = line.come_back(&at(others[1])).await;
    assert_eq!(passed_on(fleet).await, 2.0);
    for _ in 0..RETURNS {
        line = line.come_back(&through_nginx).await;
        if passed_on(fleet).await > 2.0 {
            break;
        }
    }
    assert_eq!(passed_on(fleet).await, 3.0, "nginx takes the nodes in turn");
    line.hear(&clip()).await;
    assert_eq!(owner(fleet, "CA1").await, owner_name);
    assert_eq!(line.hang_up().await, 1000, "the owner's own goodbye");

    eventually("no session and no socket to be left", LIMIT, || async {
        let idle = fleet.sessions().await?.is_empty() && fleet.load().await? == 0;
        Ok((idle && open_streams(fleet).await.is_empty()).then_some(()))
    })
    .await
    .unwrap();
    for node in owners.iter().chain(&others) {
        assert_eq!(opened(&at(node), None).await.err(), Some(403), "the call is over");
    }
    let recordings = eventually("the recording", LIMIT, || async {
        let keys = fleet.stack.s3.keys(&fleet.stack.bucket, "recordings/").await?;
        let keys: Vec<String> = keys.into_iter().filter(|key| key.ends_with(".wav")).collect();
        Ok((!keys.is_empty()).then_some(keys))
    });
    assert_eq!(recordings.await.unwrap().len(), 1, "one recording");
    let rows = transcript(&fleet.stack.transcripts_dsn).await;
    let sessions: std::collections::BTreeSet<&String> = rows.iter().map(|(session, _, _)| session).collect();
    assert_eq!(sessions.len(), 1, "one transcript: {rows:#?}");
    let said: Vec<(&str, &str)> = rows
        .iter()
        .map(|(_, role, text)| (role.as_str(), text.as_str()))
        .collect();
    let turns = [("user", QUESTION), ("assistant", ANSWER)];
    let expected: Vec<_> = [("assistant", "Hello.")]
        .into_iter()
        .chain(turns)
        .chain(turns)
        .collect();
    assert_eq!(said, expected);
}

/// What the owner refuses is refused with its own close code, and what no socket of ours takes ends the call.
async fn is_refused_as_by_its_owner(fleet: &Fleet) {
    let line = Line::open(fleet, "CA3").await;
    let owner_name = owner(fleet, "CA3").await;
    let other = fleet.stack.media.iter().find(|node| node.name() != owner_name);
    let url = format!("{}{}", other.unwrap().ws_url(), line.path);

    let wrong = Line {
        call_id: "CA4".to_owned(),
        ..line
    };
    let mut wrong = wrong.come_back(&url).await;
    assert_eq!(wrong.closed().await, 1008, "a token for another call");

    let right = Line {
        call_id: "CA3".to_owned(),
        ..wrong
    };
    let mut right = right.come_back(&url).await;
    right.socket.send(Message::text("x".repeat(70_000))).await.unwrap();
    assert_eq!(right.closed().await, 1009, "too large");
    drop(right);
    eventually("no session and no socket to be left", LIMIT, || async {
        Ok((fleet.sessions().await?.is_empty() && open_streams(fleet).await.is_empty()).then_some(()))
    })
    .await
    .unwrap();
}

/// The provider's only attempt falls into a pause that is longer than an answer of the store may take.
async fn begins_though_the_store_is_stalled(fleet: &Fleet) {
    let url = called(fleet, "CA8").await;
    fleet
        .tell_redis(redis::cmd("CLIENT").arg("PAUSE").arg(800).arg("ALL"))
        .await;

    let line = Line::open_stream("CA8", url, None).await;

    assert_eq!(line.hang_up().await, 1000);
    eventually("no socket to be left", LIMIT, || async {
        Ok(open_streams(fleet).await.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

/// Neither that the token was used is known any more, nor who has the session, until its owner says so again.
async fn finds_its_call_though_the_store_has_lost_everything(fleet: &Fleet) {
    let carrying = async || {
        let found = eventually("the session to be connected", LIMIT, || async {
            let sessions = fleet.sessions().await?;
            let ours = sessions.iter().find(|session| session["callId"] == "CA5");
            let ours = ours.filter(|session| session["state"] == "connected");
            Ok(ours.map(|session| session["node"].as_str().unwrap().to_owned()))
        });
        found.await.unwrap()
    };
    let line = Line::open(fleet, "CA5").await;
    let owner_name = carrying().await;
    let mut alive = fleet.stack.media.iter().filter(|node| node.process().is_ok());
    let other = alive.find(|node| node.name() != owner_name).unwrap();
    let url = format!("{}{}", other.ws_url(), line.path);
    let before = passed_on(fleet).await;
    eventually("slots kept for calls that went elsewhere to be free", LIMIT, || async {
        Ok((fleet.load().await? == 1).then_some(()))
    })
    .await
    .unwrap();

    fleet.tell_redis(&redis::cmd("FLUSHALL")).await;
    let mut line = line.come_back(&url).await;

    line.hear(&clip()).await;
    assert_eq!(passed_on(fleet).await, before + 1.0);
    assert_eq!(carrying().await, owner_name, "it is the same call");
    assert_eq!(line.hang_up().await, 1000);
    eventually("no socket to be left", LIMIT, || async {
        Ok(open_streams(fleet).await.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

/// The node that has the call dies: the provider sees the same cut as if it were connected there.
async fn ends_with_its_owner(fleet: &mut Fleet) {
    let line = Line::open(fleet, "CA2").await;
    let owner_name = owner(fleet, "CA2").await;
    let other = fleet.stack.media.iter().find(|node| node.name() != owner_name).unwrap();
    let url = format!("{}{}", other.ws_url(), line.path);
    let relayed = Some(("x-voxray-relayed", "1"));
    let mut line = line.come_back(&url).await;
    assert_eq!(
        opened(&url, relayed).await.err(),
        Some(403),
        "nothing is passed on twice"
    );

    let owner = fleet
        .stack
        .media
        .iter_mut()
        .find(|node| node.name() == owner_name)
        .unwrap();
    owner.kill9();

    let ending = async {
        while let Some(Ok(message)) = line.socket.next().await {
            assert!(!message.is_close(), "a cut is no goodbye");
        }
    };
    tokio::time::timeout(LIMIT, ending).await.unwrap();
    eventually("no socket to be left", LIMIT, || async {
        Ok(open_streams(fleet).await.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

/// Session, role and text of everything that was said, in order.
async fn transcript(dsn: &str) -> Vec<(String, String, String)> {
    let mut postgres = PgConnection::connect(dsn).await.unwrap();
    let rows = sqlx::query("SELECT session_id, role, text FROM call_transcripts ORDER BY session_id, seq")
        .fetch_all(&mut postgres)
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}
