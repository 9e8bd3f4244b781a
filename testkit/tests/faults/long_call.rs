//! A call whose recording is long: calls of people are too short for a second part, which at S3 is at least 5 MiB, and nobody
//! can speak faster. It comes from a node of its own, on the same way as the calls beside it, goes on until it is told to
//! end, and sends again what was not durable when its stream breaks, as a node does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use rand::Rng;
use service_kit::config::Secret;
use service_kit::grpc::AttachToken;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use voxray_proto::archive::archive_service_client::ArchiveServiceClient;
use voxray_proto::archive::event::Body;
use voxray_proto::archive::{
    AudioChunk, Event, Hello, IngestRequest, IngestResponse, RecordingFormat, SessionEnded, SessionStarted,
    ingest_request, ingest_response,
};
use voxray_testkit::stack::Stack;
use voxray_testkit::wait::eventually;

use crate::{scale, truth};

const SESSION: &str = "a-long-call";
/// Least size of a part.
const PART_BYTES: f64 = (5 << 20) as f64;
const CHUNK_BYTES: usize = 6_400;
const FRAME_BYTES: usize = 4;
const TICK: Duration = Duration::from_millis(50);
/// Events on the way; more wait until the archiver takes them.
const QUEUE: usize = 64;
/// Pause of a node whose stream is broken.
const AGAIN: Duration = Duration::from_millis(200);

/// What was said so far.
#[derive(Default)]
struct Said {
    pcm: Vec<u8>,
    events: Vec<Event>,
    ended: bool,
}

impl Said {
    fn push(&mut self, body: Body) {
        self.events.push(Event {
            session_id: SESSION.to_owned(),
            sequence: self.events.len() as u64 + 1,
            body: Some(body),
            durable: 0,
        });
    }

    fn frames(&self) -> u64 {
        (self.pcm.len() / FRAME_BYTES) as u64
    }

    fn begin(&mut self) {
        self.push(Body::Started(SessionStarted {
            started_at_unix_ms: now_ms(),
            node_id: "a-node-of-its-own".to_owned(),
            transport: "telephony".to_owned(),
            recording: Some(RecordingFormat {
                sample_rate_hz: 8_000,
                channels: 2,
            }),
            ..SessionStarted::default()
        }));
    }

    fn go_on(&mut self) {
        let mut pcm = vec![0; CHUNK_BYTES];
        rand::rng().fill_bytes(&mut pcm);
        let first_frame = self.frames();
        self.pcm.extend_from_slice(&pcm);
        let pcm = pcm.into();
        self.push(Body::Audio(AudioChunk { first_frame, pcm }));
    }

    fn end(&mut self) {
        self.push(Body::Ended(SessionEnded {
            ended_at_unix_ms: now_ms(),
            reason: "caller_hung_up".to_owned(),
            total_frames: self.frames(),
            pcm_sha256: Sha256::digest(&self.pcm).to_vec(),
            turns: 0,
        }));
        self.ended = true;
    }

    /// Whether there is nothing behind this event.
    fn ends_at(&self, sequence: u64) -> bool {
        self.ended && sequence >= self.events.len() as u64
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The call, and its node at work.
pub struct LongCall {
    said: Arc<Mutex<Said>>,
    hang_up: CancellationToken,
    /// Parts that are to be said at once.
    more: Arc<AtomicU32>,
    delivering: JoinHandle<()>,
    /// The last event that is durable.
    stored: watch::Receiver<u64>,
}

impl LongCall {
    /// A call that fills a part in this time, in a deployment with relays. Its first part is stored.
    pub async fn begin(stack: &Stack, a_part_takes: Duration) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        said.lock().unwrap().begin();
        let hang_up = CancellationToken::new();
        let (grown, growing) = watch::channel(());
        let more = Arc::new(AtomicU32::new(0));
        let pace = (a_part_takes, Arc::clone(&more));
        tokio::spawn(speak(Arc::clone(&said), grown, hang_up.clone(), pace));
        let node = LongNode {
            archivers: stack.relays.as_ref().unwrap().archive.address(),
            token: stack.service_token.clone(),
            said: Arc::clone(&said),
        };
        let (durable, mut stored) = watch::channel(0);
        let delivering = tokio::spawn(node.deliver(growing, durable));
        // The first event is durable by itself.
        let first_part = tokio::time::timeout(scale::patience(), stored.wait_for(|sequence| *sequence > 1));
        first_part.await.expect("the first part is stored").unwrap();
        Self {
            said,
            hang_up,
            more,
            delivering,
            stored,
        }
    }

    /// How often it was reported that a part of it could not be stored. Of a part that fails again and again every failure
    /// is not reported.
    pub fn failures(&self, stack: &Stack) -> usize {
        let failures = stack.archiver.iter().flat_map(|archiver| {
            let first = truth::logged(archiver, "a recording is not stored yet");
            let later = truth::logged(archiver, "a recording cannot be stored");
            first.into_iter().chain(later)
        });
        let of_call = |line: &serde_json::Value| line["key"].as_str().unwrap_or_default().contains(SESSION);
        failures.filter(of_call).count()
    }

    /// Fills a part at once.
    pub fn fill_a_part(&self) {
        self.more.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until every part that is whole by now is stored.
    pub async fn catch_up(&self) {
        let bytes = self.said.lock().unwrap().pcm.len();
        let whole = bytes - bytes % PART_BYTES as usize;
        // The first event begins the call, and what is not yet a part by the store's count is left out.
        let due = (whole.saturating_sub(CHUNK_BYTES) / CHUNK_BYTES) as u64;
        let mut stored = self.stored.clone();
        let caught_up = tokio::time::timeout(scale::catch_up(), stored.wait_for(|sequence| *sequence >= due));
        caught_up
            .await
            .expect("the parts of the long call are stored in time")
            .unwrap();
    }

    /// The caller hangs up.
    pub fn hang_up(&self) {
        self.hang_up.cancel();
    }

    /// The call is over, and stored to the byte, as an upload in parts, and known to be.
    pub async fn assert_stored(self, stack: &Stack) {
        self.hang_up();
        tokio::time::timeout(scale::catch_up(), self.delivering)
            .await
            .expect("the long call is stored in time")
            .unwrap();
        let keys = truth::keys(stack).await.unwrap();
        let key = &keys[SESSION];
        let stored = truth::stored(stack, key).await.unwrap();
        let said = self.said.lock().unwrap().pcm.clone();
        assert_eq!(stored.frames(), (said.len() / FRAME_BYTES) as u64);
        assert!(stored.pcm() == said, "the long call is not what its node sent");
        let head = stack.s3.client().head_object().bucket(&stack.bucket).key(key);
        let etag = head.send().await.unwrap().e_tag.unwrap_or_default();
        let parts: usize = etag
            .trim_matches('"')
            .rsplit_once('-')
            .map_or(0, |(_, parts)| parts.parse().unwrap());
        assert!(parts > 1, "{etag} is not of an upload in parts");
        let known = eventually("the size of the long call to be known", scale::catch_up(), || async {
            Ok(truth::recording_bytes(stack).await?.get(SESSION).copied())
        });
        assert_eq!(known.await.unwrap(), stored.wav.len() as u64);
        println!("a recording of {} bytes was stored in {parts} parts", stored.wav.len());
    }
}

/// Says something all the time, a part in `a_part_takes`, until the caller hangs up.
async fn speak(
    said: Arc<Mutex<Said>>,
    grown: watch::Sender<()>,
    hang_up: CancellationToken,
    (a_part_takes, more): (Duration, Arc<AtomicU32>),
) {
    // The first part at once.
    let began = Instant::now();
    let mut clock = tokio::time::interval(TICK);
    while !hang_up.is_cancelled() {
        tokio::select! {
            _ = clock.tick() => {}
            () = hang_up.cancelled() => {}
        }
        let parts = 1.2 + began.elapsed().as_secs_f64() / a_part_takes.as_secs_f64();
        let due = PART_BYTES * (parts + f64::from(more.load(Ordering::Relaxed)));
        let mut said = said.lock().unwrap();
        while (said.pcm.len() as f64) < due {
            said.go_on();
        }
        drop(said);
        grown.send_replace(());
    }
    said.lock().unwrap().end();
    grown.send_replace(());
}

/// What sends the call.
struct LongNode {
    archivers: SocketAddr,
    token: String,
    said: Arc<Mutex<Said>>,
}

impl LongNode {
    /// Sends what is not durable, on one stream after the other, until all of it is.
    async fn deliver(self, mut grown: watch::Receiver<()>, durable: watch::Sender<u64>) {
        let mut breaks = 0;
        while let Err(error) = self.stream(&mut grown, &durable).await {
            breaks += 1;
            if breaks == 1 {
                println!("the stream of the long call is broken: {error:#}");
            }
            tokio::time::sleep(AGAIN).await;
        }
        println!("the stream of the long call broke {breaks} times");
    }

    async fn stream(&self, grown: &mut watch::Receiver<()>, durable: &watch::Sender<u64>) -> anyhow::Result<()> {
        let channel = Channel::from_shared(format!("http://{}", self.archivers))?
            .connect()
            .await?;
        let service = InterceptedService::new(channel, AttachToken::new(&Secret::new(self.token.as_str())));
        let (requests, outgoing) = mpsc::channel(QUEUE);
        let node_id = "a-node-of-its-own".to_owned();
        requests
            .send(request(ingest_request::Message::Hello(Hello { node_id })))
            .await?;
        let stream = ReceiverStream::new(outgoing);
        let mut responses = ArchiveServiceClient::new(service).ingest(stream).await?.into_inner();
        let known = *durable.borrow();
        tokio::select! {
            ended = self.read(&mut responses, durable) => ended,
            failed = self.send(&requests, grown, known) => failed,
        }
    }

    /// Sends everything behind `known` as it is said; does not end by itself.
    async fn send(
        &self,
        requests: &mpsc::Sender<IngestRequest>,
        grown: &mut watch::Receiver<()>,
        known: u64,
    ) -> anyhow::Result<()> {
        let mut next = usize::try_from(known)?;
        loop {
            let event = self.said.lock().unwrap().events.get(next).cloned();
            let Some(event) = event else {
                // Whoever says something goes on until the last event is said; then answers are all that comes.
                if grown.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            next += 1;
            let event = Event {
                durable: known,
                ..event
            };
            requests.send(request(ingest_request::Message::Event(event))).await?;
        }
    }

    /// Takes answers until everything is durable.
    async fn read(
        &self,
        responses: &mut tonic::Streaming<IngestResponse>,
        durable: &watch::Sender<u64>,
    ) -> anyhow::Result<()> {
        loop {
            let answer = responses
                .message()
                .await?
                .context("the archiver has ended the stream")?;
            match answer.message {
                Some(ingest_response::Message::Durable(ack)) if ack.session_id == SESSION => {
                    durable.send_replace(ack.sequence);
                    if self.said.lock().unwrap().ends_at(ack.sequence) {
                        return Ok(());
                    }
                }
                Some(ingest_response::Message::Durable(_) | ingest_response::Message::Received(_)) | None => {}
            }
        }
    }
}

fn request(message: ingest_request::Message) -> IngestRequest {
    IngestRequest { message: Some(message) }
}
