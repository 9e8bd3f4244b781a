//! The one gRPC stream that empties this node's outbox into the archive.
//!
//! After every connect it sends `Hello`, then every event that is not durable in outbox order, read from disk a window at a
//! time, then what calls add. Whatever goes wrong, it connects again and sends again: the archiver is idempotent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service_kit::config::{Links, Secret};
use service_kit::exit::{self, Fatal};
use service_kit::grpc::{AttachToken, PeerTls};
use service_kit::tasks::TaskScope;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use voxray_proto::archive::archive_service_client::ArchiveServiceClient;
use voxray_proto::archive::{Hello, IngestRequest, IngestResponse, ingest_request, ingest_response};

use super::outbox::{Outbox, Reader};

/// Events between the reader and the stream, at most 1 MiB each but usually some tens of KB. When full, reading the
/// outbox waits: the disk is the buffer.
const STREAM_QUEUE: usize = 4;
/// Longest wait for a TCP connection and the HTTP/2 handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle connection is checked, and how long the answer may take: a peer that vanished is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long after it a place of the outbox that could not be read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// How far the patience with a stalled stream grows.
const STALL_MAX_FACTOR: u32 = 16;

/// Waits of the uplink.
#[derive(Debug, Clone, Copy)]
pub struct UplinkTiming {
    /// Wait before the first reconnect; doubles up to `backoff_max`, and each wait is shortened at random by up to half.
    pub backoff_min: Duration,
    /// Longest wait before a reconnect.
    pub backoff_max: Duration,
    /// A stream on which something sent stays without any answer for this long is given up. Doubles up to 16 times as
    /// long from one such stream to the next: an archiver that works but refuses a session must not be sent
    /// everything again every 15 s.
    pub stall: Duration,
}

impl Default for UplinkTiming {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            stall: Duration::from_secs(15),
        }
    }
}

/// What the archive had not acknowledged when the wait was over. It stays on disk.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{events} events are not in the archive yet; they stay in the outbox and are sent after the next start")]
pub struct Undelivered {
    /// Number of events.
    pub events: u64,
}

/// Handle of the uplink's task.
pub struct Uplink {
    outbox: Arc<Outbox>,
    connected: bool,
}

impl Uplink {
    /// Starts sending; it ends with the scope. Without `archiver_url` events only gather on disk.
    ///
    /// # Errors
    /// `archiver_url` is no URL, or a certificate cannot be read.
    pub fn start(
        scope: &TaskScope,
        outbox: Arc<Outbox>,
        links: &Links,
        node_id: &str,
        timing: UplinkTiming,
    ) -> Result<Self, Fatal> {
        let Some(url) = &links.archiver_url else {
            tracing::warn!("archiver_url is not set: recordings and transcripts stay in this node's outbox");
            let connected = false;
            return Ok(Self { outbox, connected });
        };
        let endpoint = endpoint(url, links)?;
        let sender = Sender {
            endpoint,
            token: links.service_token.clone(),
            outbox: Arc::clone(&outbox),
            node_id: node_id.to_owned(),
            timing,
        };
        let cancelled = scope.token().cancelled_owned();
        scope.spawn("archive-uplink", async move {
            tokio::select! {
                () = cancelled => {}
                () = sender.run() => {}
            }
        });
        let connected = true;
        Ok(Self { outbox, connected })
    }

    /// Waits until everything in the outbox is durable in the archive.
    ///
    /// # Errors
    /// It was not within `deadline`, or there is no archiver to send to.
    pub async fn flush(&self, deadline: Duration) -> Result<(), Undelivered> {
        self.outbox.flush_now();
        let mut progress = self.outbox.progress();
        if self.connected {
            let empty = progress.wait_for(|progress| progress.undurable_events == 0);
            if let Ok(Ok(_)) = tokio::time::timeout(deadline, empty).await {
                return Ok(());
            }
        }
        match progress.borrow_and_update().undurable_events {
            0 => Ok(()),
            events => Err(Undelivered { events }),
        }
    }
}

fn endpoint(url: &str, links: &Links) -> Result<Endpoint, Fatal> {
    let unusable = |why: &str| {
        Fatal::new(
            exit::CONFIG,
            format!("archiver_url = {url:?} cannot be used: {why}"),
            "set it to the archiver's gRPC address, like http://archiver:9091",
        )
    };
    let scheme = if links.tls.is_some() { "https://" } else { "http://" };
    if !url.starts_with(scheme) {
        return Err(unusable(&format!("it does not begin with {scheme}")));
    }
    let tls = PeerTls::load(links)?;
    let endpoint = tls.endpoint(url).map_err(|_| unusable("it is not a URL"))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("the archiver ended the stream: {}", .0.message())]
    Refused(#[source] Box<Status>),
    #[error("the archiver closed the stream")]
    Closed,
    #[error("reading the outbox failed")]
    Reader,
    #[error("nothing was acknowledged for too long")]
    Stalled,
}

struct Sender {
    endpoint: Endpoint,
    token: Secret,
    outbox: Arc<Outbox>,
    node_id: String,
    timing: UplinkTiming,
}

impl Sender {
    async fn run(self) {
        let mut backoff = self.timing.backoff_min;
        let mut stall = self.timing.stall;
        let mut reported = false;
        loop {
            let mut answered = false;
            let broken = self.one_stream(stall, &mut answered).await;
            stall = match broken {
                Broken::Stalled => (stall * 2).min(self.timing.stall * STALL_MAX_FACTOR),
                Broken::Connect(_) | Broken::Refused(_) | Broken::Closed | Broken::Reader => self.timing.stall,
            };
            if answered {
                backoff = self.timing.backoff_min;
                reported = false;
            }
            let cause = std::error::Error::source(&broken)
                .map(ToString::to_string)
                .unwrap_or_default();
            // As it does with streams that are old: nothing is wrong.
            if matches!(broken, Broken::Closed) {
                tracing::info!(archiver = %self.endpoint.uri(), "the archiver has closed the stream; connecting again");
            } else if reported {
                tracing::debug!(%broken, cause, "archive stream broken again");
            } else {
                reported = true;
                tracing::warn!(%broken, cause, archiver = %self.endpoint.uri(),
                    "archive stream broken; events stay in the outbox and are sent again");
            }
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..=1.0))).await;
            backoff = (backoff * 2).min(self.timing.backoff_max);
        }
    }

    async fn one_stream(&self, stall: Duration, answered: &mut bool) -> Broken {
        let channel = match self.endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return Broken::Connect(error),
        };
        let (requests, queue) = mpsc::channel(STREAM_QUEUE);
        let waiting = Waiting::default();
        // Sending goes on while the first answer is awaited: some servers answer only after the first message.
        tokio::select! {
            broken = self.feed(requests, &waiting) => broken,
            broken = self.listen(channel, queue, &waiting, stall, answered) => broken,
        }
    }

    /// Sends for as long as the stream takes something. When it takes no more, `listen` knows why: the word is its.
    async fn feed(&self, requests: mpsc::Sender<IngestRequest>, waiting: &Waiting) -> Broken {
        let hello = ingest_request::Message::Hello(Hello {
            node_id: self.node_id.clone(),
        });
        let mut open = requests.send(request(hello)).await.is_ok();
        let mut progress = self.outbox.progress();
        let mut reader = self.outbox.reader();
        while open {
            // Seen before reading: what is flushed while reading ends the wait below at once.
            let seen = progress.borrow_and_update().flushes;
            let Ok((events, back)) = tokio::task::spawn_blocking(move || read(reader)).await else {
                return Broken::Reader;
            };
            reader = back;
            if reader.is_held_up() {
                tokio::time::sleep(READ_AGAIN).await;
            } else if events.is_empty() && progress.wait_for(|now| now.flushes != seen).await.is_err() {
                return Broken::Reader;
            }
            for event in events {
                waiting.sent(&event.session_id, event.sequence);
                let message = request(ingest_request::Message::Event(event));
                open = open && requests.send(message).await.is_ok();
            }
        }
        std::future::pending().await
    }

    /// Takes acknowledgements until the stream breaks or stalls.
    async fn listen(
        &self,
        channel: Channel,
        queue: mpsc::Receiver<IngestRequest>,
        waiting: &Waiting,
        stall: Duration,
        answered: &mut bool,
    ) -> Broken {
        let mut client = ArchiveServiceClient::with_interceptor(channel, AttachToken::new(&self.token));
        let stream = tokio::select! {
            stream = client.ingest(ReceiverStream::new(queue)) => stream,
            () = waiting.stalled(stall) => return Broken::Stalled,
        };
        let mut answers = match stream {
            Ok(response) => response.into_inner(),
            Err(status) => return Broken::Refused(Box::new(status)),
        };
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                () = waiting.stalled(stall) => return Broken::Stalled,
            };
            match answer {
                Ok(Some(answer)) => {
                    if !*answered {
                        *answered = true;
                        tracing::info!(archiver = %self.endpoint.uri(), "archive stream works");
                    }
                    self.take(answer, waiting);
                }
                Ok(None) => return Broken::Closed,
                Err(status) => return Broken::Refused(Box::new(status)),
            }
        }
    }

    fn take(&self, answer: IngestResponse, waiting: &Waiting) {
        match answer.message {
            Some(ingest_response::Message::Received(ack)) => waiting.answered(&ack.session_id, ack.sequence),
            Some(ingest_response::Message::Durable(ack)) => {
                waiting.answered(&ack.session_id, ack.sequence);
                self.outbox.acknowledge(&ack.session_id, ack.sequence);
            }
            // A newer archiver may say more.
            None => {}
        }
    }
}

fn read(mut reader: Reader) -> (Vec<voxray_proto::archive::Event>, Reader) {
    let events = reader.read();
    (events, reader)
}

fn request(message: ingest_request::Message) -> IngestRequest {
    IngestRequest { message: Some(message) }
}

/// What was sent on this stream and has not been answered, be it only with *received*. *Durable* may take as long as SQL
/// and S3 need: that is no reason to send everything again.
#[derive(Default)]
struct Waiting {
    state: Mutex<WaitingState>,
    began: Notify,
}

#[derive(Default)]
struct WaitingState {
    /// Highest sequence sent of sessions with something unanswered.
    sent: HashMap<String, u64>,
    /// Since when there is something to wait for and no answer has come.
    since: Option<Instant>,
}

impl Waiting {
    fn sent(&self, session_id: &str, sequence: u64) {
        let mut state = self.lock();
        if let Some(highest) = state.sent.get_mut(session_id) {
            *highest = sequence.max(*highest);
        } else {
            state.sent.insert(session_id.to_owned(), sequence);
        }
        if state.since.is_none() {
            state.since = Some(Instant::now());
            self.began.notify_one();
        }
    }

    fn answered(&self, session_id: &str, sequence: u64) {
        let mut state = self.lock();
        if state.sent.get(session_id).is_some_and(|highest| *highest <= sequence) {
            state.sent.remove(session_id);
        }
        state.since = (!state.sent.is_empty()).then(Instant::now);
    }

    /// Resolves when something has waited for this long without any answer.
    async fn stalled(&self, limit: Duration) {
        loop {
            let since = self.lock().since;
            match since {
                Some(since) if since.elapsed() >= limit => return,
                Some(since) => tokio::time::sleep_until(since + limit).await,
                None => self.began.notified().await,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WaitingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
