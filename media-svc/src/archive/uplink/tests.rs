//! What reaches the archive, against a real gRPC server that behaves as told.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Streaming};
use voxray_proto::archive::archive_service_server::{ArchiveService, ArchiveServiceServer};
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{Ack, AudioChunk, Event, SessionEnded, Turn};

use super::*;
use crate::archive::{ArchiveSession, ArchiveSink};

/// Long enough that it never comes into play where it is not meant to.
const PATIENT: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

/// How the scripted archiver behaves on one stream.
#[derive(Debug, Clone, Copy)]
enum Script {
    /// Received and durable for each event.
    Works,
    /// Received only.
    Receives,
    /// Never answers.
    Silent,
    /// Works for this many events, then breaks the stream without acknowledging the last.
    CutsAfter(usize),
    /// Works for this many events, then ends the stream as one at which nothing is wrong, and acknowledges the last.
    EndsAfter(usize),
}

/// One message as it arrived: stream number, and the event.
type Arrivals = mpsc::Receiver<(usize, Event)>;

struct Archiver {
    scripts: Mutex<Vec<Script>>,
    streams: Mutex<usize>,
    arrivals: mpsc::Sender<(usize, Event)>,
    scope: TaskScope,
}

#[tonic::async_trait]
impl ArchiveService for Archiver {
    type IngestStream = ReceiverStream<Result<IngestResponse, Status>>;

    async fn ingest(&self, request: Request<Streaming<IngestRequest>>) -> Result<Response<Self::IngestStream>, Status> {
        let mut incoming = request.into_inner();
        let hello = incoming.message().await?.and_then(|first| first.message);
        assert!(matches!(hello, Some(ingest_request::Message::Hello(hello)) if hello.node_id == "node-1"));
        let script = {
            let mut scripts = self.scripts.lock().unwrap();
            if scripts.len() > 1 {
                scripts.remove(0)
            } else {
                scripts[0]
            }
        };
        let stream = {
            let mut streams = self.streams.lock().unwrap();
            *streams += 1;
            *streams
        };
        let (answers, queue) = mpsc::channel(16);
        let arrivals = self.arrivals.clone();
        self.scope.spawn("stream", async move {
            let mut count = 0;
            while let Ok(Some(message)) = incoming.message().await {
                let Some(ingest_request::Message::Event(event)) = message.message else {
                    continue;
                };
                count += 1;
                let ack = Ack {
                    session_id: event.session_id.clone(),
                    sequence: event.sequence,
                };
                if arrivals.send((stream, event)).await.is_err() {
                    return;
                }
                let received = ingest_response::Message::Received(ack.clone());
                let durable = ingest_response::Message::Durable(ack);
                let messages = match script {
                    Script::Works => vec![received, durable],
                    Script::Receives => vec![received],
                    Script::Silent => vec![],
                    Script::CutsAfter(limit) if count >= limit => {
                        let _ = answers.send(Err(Status::unavailable("cut"))).await;
                        return;
                    }
                    Script::CutsAfter(_) | Script::EndsAfter(_) => vec![received, durable],
                };
                for message in messages {
                    if answers
                        .send(Ok(IngestResponse { message: Some(message) }))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                if matches!(script, Script::EndsAfter(limit) if count >= limit) {
                    let _ = answers.send(Err(Status::ok("this stream is old"))).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(queue)))
    }
}

struct Setup {
    outbox: Arc<Outbox>,
    uplink: Uplink,
    arrivals: Arrivals,
    scope: TaskScope,
    _dir: TempDir,
}

async fn setup(scripts: &[Script], stall: Duration) -> Setup {
    setup_in(tempfile::tempdir().unwrap(), scripts, stall).await
}

async fn setup_in(dir: TempDir, scripts: &[Script], stall: Duration) -> Setup {
    let scope = TaskScope::root("test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let arrivals = serve(&scope, listener, scripts);
    let (outbox, uplink) = start(&scope, &dir, url, stall);
    Setup {
        outbox,
        uplink,
        arrivals,
        scope,
        _dir: dir,
    }
}

fn serve(scope: &TaskScope, listener: TcpListener, scripts: &[Script]) -> Arrivals {
    let (sender, arrivals) = mpsc::channel(4_096);
    let archiver = Archiver {
        scripts: Mutex::new(scripts.to_vec()),
        streams: Mutex::default(),
        arrivals: sender,
        scope: scope.clone(),
    };
    let token = Secret::new("between services");
    let service = ArchiveServiceServer::with_interceptor(archiver, service_kit::grpc::RequireToken::new(&token));
    scope.spawn("archiver", async move {
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    arrivals
}

fn start(scope: &TaskScope, dir: &TempDir, url: String, stall: Duration) -> (Arc<Outbox>, Uplink) {
    let outbox = outbox(dir);
    let timing = UplinkTiming {
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(5),
        stall,
    };
    let uplink = Uplink::start(scope, Arc::clone(&outbox), &links(Some(url)), "node-1", timing).unwrap();
    (outbox, uplink)
}

fn outbox(dir: &TempDir) -> Arc<Outbox> {
    let settings = service_kit::config::Outbox {
        dir: dir.path().to_owned(),
        max_bytes: 1 << 30,
    };
    Arc::new(Outbox::open(&settings).unwrap())
}

fn links(archiver_url: Option<String>) -> Links {
    Links {
        archiver_url,
        media_control_url: None,
        media_advertise_url: None,
        service_token: Secret::new("between services"),
        tls: None,
    }
}

fn session(outbox: &Outbox, id: &str) -> Arc<dyn ArchiveSession> {
    ArchiveSink::open(outbox, id).unwrap()
}

fn turn(seq: u32) -> Body {
    Body::Turn(Turn {
        seq,
        text: format!("turn {seq}"),
        ..Turn::default()
    })
}

fn end(session: &Arc<dyn ArchiveSession>) {
    session.append(Body::Ended(SessionEnded::default())).unwrap();
}

/// What arrived so far, as an idempotent archiver keeps it: every event once. Within one stream the order must be kept.
fn kept(arrivals: &mut Arrivals) -> BTreeMap<(String, u64), Event> {
    let mut kept = BTreeMap::new();
    let mut newest: BTreeMap<(usize, String), u64> = BTreeMap::new();
    while let Ok((stream, event)) = arrivals.try_recv() {
        let before = newest.insert((stream, event.session_id.clone()), event.sequence);
        assert!(before.is_none_or(|before| before < event.sequence), "out of order");
        kept.insert((event.session_id.clone(), event.sequence), event);
    }
    kept
}

#[tokio::test]
async fn everything_arrives_once_and_in_order_and_leaves_the_disk() {
    let mut setup = setup(&[Script::Works], PATIENT).await;
    let a = session(&setup.outbox, "a");
    for seq in 0..50 {
        a.append(turn(seq)).unwrap();
    }
    end(&a);
    setup.uplink.flush(PATIENT).await.unwrap();
    let kept = kept(&mut setup.arrivals);
    assert_eq!(kept.len(), 51);
    assert_eq!(kept[&("a".to_owned(), 7)].body, Some(turn(6)));
    assert_eq!(setup.outbox.used_bytes(), 0);
}

#[tokio::test]
async fn a_stream_cut_again_and_again_loses_nothing() {
    let scripts = [
        Script::CutsAfter(1),
        Script::CutsAfter(7),
        Script::CutsAfter(3),
        Script::CutsAfter(20),
        Script::Works,
    ];
    let mut setup = setup(&scripts, PATIENT).await;
    let (a, b) = (session(&setup.outbox, "a"), session(&setup.outbox, "b"));
    for seq in 0..40 {
        a.append(turn(seq)).unwrap();
        b.append(turn(seq)).unwrap();
    }
    end(&a);
    end(&b);
    setup.uplink.flush(PATIENT).await.unwrap();
    let kept = kept(&mut setup.arrivals);
    let expected: Vec<_> = ["a", "b"]
        .iter()
        .flat_map(|id| (1..=41).map(move |sequence| ((*id).to_owned(), sequence)))
        .collect();
    assert_eq!(kept.into_keys().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_stream_that_is_old_ends_without_an_error_and_the_next_goes_on() {
    let mut setup = setup(&[Script::EndsAfter(3), Script::EndsAfter(3), Script::Works], PATIENT).await;
    let a = session(&setup.outbox, "a");
    for seq in 0..10 {
        a.append(turn(seq)).unwrap();
    }
    end(&a);
    setup.uplink.flush(PATIENT).await.unwrap();
    let expected: Vec<_> = (1..=11).map(|sequence| ("a".to_owned(), sequence)).collect();
    assert_eq!(kept(&mut setup.arrivals).into_keys().collect::<Vec<_>>(), expected);

    let scope = TaskScope::root("test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let _arrivals = serve(&scope, listener, &[Script::EndsAfter(1)]);
    let dir = tempfile::tempdir().unwrap();
    let sender = Sender {
        endpoint: endpoint(&url, &links(Some(url.clone()))).unwrap(),
        token: Secret::new("between services"),
        outbox: outbox(&dir),
        node_id: "node-1".to_owned(),
        timing: UplinkTiming::default(),
    };
    end(&session(&sender.outbox, "b"));
    let mut answered = false;
    let broken = sender.one_stream(PATIENT, &mut answered).await;
    assert!(matches!(broken, Broken::Closed) && answered, "{broken}");
}

#[tokio::test]
async fn an_archiver_that_says_nothing_is_given_up_for_the_next() {
    let mut setup = setup(&[Script::Silent, Script::Silent, Script::Works], SHORT).await;
    let a = session(&setup.outbox, "a");
    end(&a);
    setup.uplink.flush(PATIENT).await.unwrap();
    let (first, event) = setup.arrivals.recv().await.unwrap();
    let (second, again) = setup.arrivals.recv().await.unwrap();
    assert_eq!((first, second), (1, 2));
    assert_eq!(event, again);
}

#[tokio::test]
async fn received_alone_frees_nothing_and_is_no_reason_to_connect_again() {
    let mut setup = setup(&[Script::Receives], Duration::from_secs(3600)).await;
    let a = session(&setup.outbox, "a");
    a.append(turn(0)).unwrap();
    end(&a);
    for sequence in 1..=2 {
        let (stream, event) = setup.arrivals.recv().await.unwrap();
        assert_eq!((stream, event.sequence), (1, sequence));
    }
    assert_eq!(setup.uplink.flush(SHORT).await, Err(Undelivered { events: 2 }));
    assert!(setup.outbox.used_bytes() > 0);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_unanswered_counts_as_a_stall() {
    let waiting = Waiting::default();
    let limit = Duration::from_secs(15);
    waiting.sent("a", 1);
    waiting.sent("a", 2);
    waiting.answered("a", 2);
    assert!(tokio::time::timeout(limit * 100, waiting.stalled(limit)).await.is_err());
    waiting.sent("a", 3);
    tokio::time::timeout(limit * 2, waiting.stalled(limit)).await.unwrap();
}

#[tokio::test]
async fn events_of_an_earlier_process_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let old = outbox(&dir);
    let a = session(&old, "a");
    end(&a);
    drop((a, old));
    let mut setup = setup_in(dir, &[Script::Works], PATIENT).await;
    let b = session(&setup.outbox, "b");
    end(&b);
    let (_, first) = setup.arrivals.recv().await.unwrap();
    let (_, second) = setup.arrivals.recv().await.unwrap();
    assert_eq!((first.session_id.as_str(), second.session_id.as_str()), ("a", "b"));
}

#[tokio::test]
async fn large_audio_goes_through_and_memory_holds_a_window_of_it() {
    let mut setup = setup(&[Script::CutsAfter(5), Script::Works], PATIENT).await;
    let a = session(&setup.outbox, "a");
    let chunk = 500_000_usize;
    for number in 0..40_u64 {
        let pcm = vec![u8::try_from(number).unwrap(); chunk];
        let first_frame = number * (chunk as u64) / 4;
        a.append(Body::Audio(AudioChunk {
            first_frame,
            pcm: pcm.into(),
        }))
        .unwrap();
    }
    end(&a);
    setup.uplink.flush(PATIENT).await.unwrap();
    let kept = kept(&mut setup.arrivals);
    assert_eq!(kept.len(), 41);
    for ((_, sequence), event) in kept.iter().take(40) {
        let Some(Body::Audio(audio)) = &event.body else {
            panic!("{sequence}")
        };
        assert!(audio.pcm.iter().all(|byte| u64::from(*byte) == sequence - 1));
    }
}

#[tokio::test]
async fn without_an_archiver_events_stay_on_disk_and_a_flush_does_not_wait() {
    let scope = TaskScope::root("test");
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(&dir);
    let uplink = Uplink::start(
        &scope,
        Arc::clone(&outbox),
        &links(None),
        "node-1",
        UplinkTiming::default(),
    )
    .unwrap();
    uplink.flush(PATIENT).await.unwrap();
    let a = session(&outbox, "a");
    end(&a);
    assert_eq!(
        uplink.flush(Duration::from_secs(3600)).await,
        Err(Undelivered { events: 1 })
    );
}

#[tokio::test]
async fn an_address_that_cannot_work_is_a_configuration_error() {
    let scope = TaskScope::root("test");
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(&dir);
    for url in ["archiver:9091", "https://archiver:9091", "http://"] {
        let refused = Uplink::start(
            &scope,
            Arc::clone(&outbox),
            &links(Some(url.to_owned())),
            "n",
            UplinkTiming::default(),
        );
        assert_eq!(refused.err().map(|fatal| fatal.status), Some(exit::CONFIG), "{url}");
    }
}

#[tokio::test]
async fn the_uplink_ends_with_its_scope() {
    let setup = setup(&[Script::Works], PATIENT).await;
    let uplink_scope = setup.scope.child("uplink");
    let url = Some("http://127.0.0.1:9".to_owned());
    Uplink::start(
        &uplink_scope,
        Arc::clone(&setup.outbox),
        &links(url),
        "node-1",
        UplinkTiming::default(),
    )
    .unwrap();
    uplink_scope.cancel();
    uplink_scope.join().await;
}

#[tokio::test]
async fn an_archiver_that_comes_later_gets_everything() {
    let scope = TaskScope::root("test");
    let dir = tempfile::tempdir().unwrap();
    // Bound but not listening: the port is ours, and connections are refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let (outbox, uplink) = start(&scope, &dir, url, PATIENT);
    let a = session(&outbox, "a");
    a.append(turn(0)).unwrap();
    end(&a);
    assert_eq!(uplink.flush(SHORT).await, Err(Undelivered { events: 2 }));
    let mut arrivals = serve(&scope, socket.listen(16).unwrap(), &[Script::Works]);
    uplink.flush(PATIENT).await.unwrap();
    assert_eq!(kept(&mut arrivals).len(), 2);
}
