//! The gRPC side: one task a stream reads batches, a second one writes acknowledgements.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use voxray_proto::archive::archive_service_server::ArchiveService;
use voxray_proto::archive::{Event, IngestRequest, IngestResponse, event, ingest_request};

use super::acks::Acks;
use super::apply::{Archive, Stopped};
use super::nodes::{Attachment, Nodes};

/// Most events applied at once: one SQL transaction and one trip to the blocking pool.
const BATCH_EVENTS: usize = 256;
/// Most audio and text applied at once, in bytes: together with the flow-control window what a stream takes in memory.
const BATCH_BYTES: usize = 256 * 1024;
/// Acknowledgements on their way into the socket. When full, newer watermarks replace those not sent yet.
const RESPONSES: usize = 16;
/// How long a new stream may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The gRPC service.
pub struct IngestService {
    archive: Arc<Archive>,
    nodes: Arc<Nodes>,
    scope: TaskScope,
    writers: TaskScope,
    shutdown: Shutdown,
}

type Responses = mpsc::Sender<Result<IngestResponse, Status>>;

impl IngestService {
    /// Streams run in `scope` and end when `shutdown` drains; what writes rows of nodes runs in `writers`, and ends when
    /// their nodes are closed.
    pub fn new(
        archive: Arc<Archive>,
        nodes: Arc<Nodes>,
        scope: TaskScope,
        writers: TaskScope,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            archive,
            nodes,
            scope,
            writers,
            shutdown,
        }
    }
}

#[tonic::async_trait]
impl ArchiveService for IngestService {
    type IngestStream = ReceiverStream<Result<IngestResponse, Status>>;

    async fn ingest(&self, request: Request<Streaming<IngestRequest>>) -> Result<Response<Self::IngestStream>, Status> {
        if self.shutdown.is_draining() {
            return Err(status(&Stopped::ShuttingDown));
        }
        let (responses, stream) = mpsc::channel(RESPONSES);
        let scope = self.scope.child("stream");
        let archive = Arc::clone(&self.archive);
        let nodes = Arc::clone(&self.nodes);
        let shutdown = self.shutdown.clone();
        let task_scope = scope.clone();
        let writers = self.writers.clone();
        scope.spawn("archive ingest", async move {
            let ended = serve(
                request.into_inner(),
                &archive,
                &nodes,
                &task_scope,
                &writers,
                &shutdown,
                &responses,
            )
            .await;
            if let Err(status) = ended {
                // A full channel means that nobody reads; closing it says the same.
                let _ = responses.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn serve(
    mut inbound: Streaming<IngestRequest>,
    archive: &Arc<Archive>,
    nodes: &Nodes,
    scope: &TaskScope,
    writers: &TaskScope,
    shutdown: &Shutdown,
    responses: &Responses,
) -> Result<(), Status> {
    let node_id = hello(&mut inbound).await?;
    let attachment = nodes.attach(&node_id);
    tracing::info!(node_id, "archive stream opened");
    if attachment.is_new {
        let (archive, node) = (Arc::clone(archive), Arc::clone(&attachment.node));
        let cancelled = writers.token().cancelled_owned();
        writers.child("rows").spawn("transcript rows", async move {
            tokio::select! {
                () = cancelled => {}
                () = archive.write_rows(node) => {}
            }
        });
    }
    let _claim = {
        let (archive, node_id) = (Arc::clone(archive), node_id.clone());
        scope.spawn_owned("claim of a node", async move { archive.claim(&node_id).await })
    };
    let _writer = {
        let stream = attachment.node.acks.claim();
        let node = Arc::clone(&attachment.node);
        let responses = responses.clone();
        scope.spawn_owned("archive acknowledgements", async move {
            write(&node.acks, stream, &responses).await;
        })
    };
    let disconnected = async {
        // Nobody takes answers any more. What had arrived by then may be held back, and is read all the same.
        responses.closed().await;
        attachment.disconnected();
        std::future::pending().await
    };
    tokio::select! {
        outcome = follow(inbound, archive, &attachment, shutdown, responses) => outcome,
        outcome = disconnected => outcome,
    }
}

async fn follow(
    inbound: Streaming<IngestRequest>,
    archive: &Archive,
    attachment: &Attachment,
    shutdown: &Shutdown,
    responses: &Responses,
) -> Result<(), Status> {
    tokio::select! {
        biased;
        stopped = attachment.ends() => return Err(status(&stopped)),
        () = archive.given_up(&attachment.node) => return Err(status(&Stopped::ShuttingDown)),
        sessions = attachment.node.sessions.lock() => read(inbound, archive, attachment, sessions).await?,
    }
    // The node has said all it wants to say; it may still wait for what becomes durable.
    tokio::select! {
        () = responses.closed() => Ok(()),
        stopped = attachment.ends() => Err(status(&stopped)),
        () = shutdown.draining() => Ok(()),
    }
}

async fn hello(inbound: &mut Streaming<IngestRequest>) -> Result<String, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no Hello within 10 s"))??;
    match first.and_then(|request| request.message) {
        Some(ingest_request::Message::Hello(hello)) if !hello.node_id.is_empty() => Ok(hello.node_id),
        Some(ingest_request::Message::Hello(_) | ingest_request::Message::Event(_)) | None => Err(
            Status::invalid_argument("the first message must be Hello with a node_id"),
        ),
    }
}

async fn read(
    mut inbound: Streaming<IngestRequest>,
    archive: &Archive,
    attachment: &Attachment,
    mut sessions: tokio::sync::MutexGuard<'_, std::collections::HashMap<String, super::session::Session>>,
) -> Result<(), Status> {
    loop {
        let batch = tokio::select! {
            biased;
            stopped = attachment.ends() => return Err(status(&stopped)),
            () = archive.given_up(&attachment.node) => return Err(status(&Stopped::ShuttingDown)),
            batch = next_batch(&mut inbound) => batch?,
        };
        let Some(batch) = batch else { return Ok(()) };
        archive
            .apply(&attachment.node, &mut sessions, batch)
            .await
            .map_err(|stopped| status(&stopped))?;
    }
}

/// What has arrived by now, at least one event; `None` at the end of the stream.
async fn next_batch(inbound: &mut Streaming<IngestRequest>) -> Result<Option<Vec<Event>>, Status> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    loop {
        let next = if batch.is_empty() {
            inbound.message().await
        } else {
            match inbound.message().now_or_never() {
                Some(next) => next,
                None => return Ok(Some(batch)),
            }
        };
        let request = match next {
            Ok(Some(request)) => request,
            // What came before the end or the error still counts; the next call meets it again.
            Ok(None) | Err(_) if !batch.is_empty() => return Ok(Some(batch)),
            Ok(None) => return Ok(None),
            Err(status) => return Err(status),
        };
        match request.message {
            Some(ingest_request::Message::Event(event)) => {
                bytes += match &event.body {
                    Some(event::Body::Audio(audio)) => audio.pcm.len(),
                    Some(event::Body::Turn(turn)) => turn.text.len(),
                    Some(event::Body::Started(_) | event::Body::Ended(_)) | None => 0,
                };
                batch.push(event);
            }
            Some(ingest_request::Message::Hello(_)) => {
                return Err(Status::invalid_argument("Hello comes once, first"));
            }
            // A kind of message of a newer node: nothing of it is acknowledged.
            None => {}
        }
        if batch.len() >= BATCH_EVENTS || bytes >= BATCH_BYTES {
            return Ok(Some(batch));
        }
    }
}

async fn write(acks: &Acks, stream: u64, responses: &Responses) {
    // The place is taken first: an acknowledgement that cannot be sent stays where newer ones replace it.
    while let Ok(place) = responses.reserve().await {
        let next = tokio::select! {
            next = acks.next(stream) => next,
            () = responses.closed() => None,
        };
        match next {
            Some(response) => place.send(Ok(response)),
            None => return,
        }
    }
}

fn status(stopped: &Stopped) -> Status {
    match stopped {
        Stopped::ShuttingDown => Status::unavailable(stopped.to_string()),
        Stopped::TakenOver | Stopped::SendAgain => Status::aborted(stopped.to_string()),
        // The end of a stream at which nothing is wrong.
        Stopped::Old => Status::ok(stopped.to_string()),
    }
}
