//! Asking the archiver over gRPC `ArchiveQuery`: this service has no SQL and no S3.

use std::future::Future;
use std::time::Duration;

use service_kit::config::Links;
use service_kit::exit::Fatal;
use service_kit::grpc::{AttachToken, PeerTls, connect_lazily};
use service_kit::http::ApiError;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use voxray_proto::archive::archive_query_client::ArchiveQueryClient;
use voxray_proto::archive::{
    EraseSessionRequest, EraseSessionResponse, GetRecordingRequest, GetRecordingResponse, GetTranscriptRequest,
    GetTranscriptResponse, ListArchivedSessionsRequest, ListArchivedSessionsResponse,
};

/// Longest wait for an answer, or for the first message of one that streams; erasing waits for database and store.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// An archiver that is replaced closes its connection, perhaps on what was just asked. The next attempt reaches another one.
const ATTEMPTS: u32 = 3;
/// Pause before it.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Largest answer: the transcript of a call of a whole day stays far below.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

type Client = ArchiveQueryClient<InterceptedService<Channel, AttachToken>>;

/// The archiver, if this deployment has one.
pub struct Archive(Option<Client>);

impl Archive {
    /// For the archiver at `archiver_url`; it need not be there yet.
    ///
    /// # Errors
    /// Exit status 64 when the URL cannot be used.
    pub fn new(links: &Links) -> Result<Self, Fatal> {
        let Some(url) = &links.archiver_url else {
            return Ok(Self(None));
        };
        let channel = connect_lazily(url, "archiver_url", &PeerTls::load(links)?)?;
        let client = ArchiveQueryClient::with_interceptor(channel, AttachToken::new(&links.service_token));
        Ok(Self(Some(client.max_decoding_message_size(MAX_MESSAGE_BYTES))))
    }

    /// The turns of a session and what is known of it.
    pub async fn transcript(&self, request: GetTranscriptRequest) -> Result<GetTranscriptResponse, ApiError> {
        let client = self.client()?;
        let ask = |mut client: Client, request| async move { client.get_transcript(request).await };
        read(|| ask(client.clone(), request.clone())).await
    }

    /// A recording: first what it is, then its bytes.
    pub async fn recording(&self, request: GetRecordingRequest) -> Result<Streaming<GetRecordingResponse>, ApiError> {
        let client = self.client()?;
        let ask = |mut client: Client, request| async move { client.get_recording(request).await };
        read(|| ask(client.clone(), request.clone())).await
    }

    /// One page of sessions.
    pub async fn sessions(
        &self,
        request: ListArchivedSessionsRequest,
    ) -> Result<ListArchivedSessionsResponse, ApiError> {
        let client = self.client()?;
        let ask = |mut client: Client, request| async move { client.list_sessions(request).await };
        read(|| ask(client.clone(), request.clone())).await
    }

    /// Erases a session.
    pub async fn erase(&self, request: EraseSessionRequest) -> Result<EraseSessionResponse, ApiError> {
        let mut client = self.client()?;
        answer(client.erase_session(request)).await
    }

    fn client(&self) -> Result<Client, ApiError> {
        self.0.clone().ok_or_else(|| {
            ApiError::Conflict("this deployment has no archive: archiver_url is not set for signaling-svc".to_owned())
        })
    }
}

/// Asks for what can be asked again, which changes nothing.
async fn read<T, F>(ask: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let asking = async {
        let mut attempt = 1;
        loop {
            match ask().await {
                Err(status) if is_unheard(&status) && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return answer,
            }
        }
    };
    answer(asking).await
}

async fn answer<T>(asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, ApiError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(api_error(&status)),
        Err(_) => Err(ApiError::unavailable("the archive takes too long to answer")),
    }
}

/// Whether the connection failed: what an archiver says itself has no cause.
fn is_unheard(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// What the archiver says no to, as clients see it.
pub fn api_error(status: &Status) -> ApiError {
    match status.code() {
        Code::NotFound => ApiError::NotFound(status.message().to_owned()),
        Code::FailedPrecondition => {
            ApiError::Conflict(format!("this deployment keeps no such archive: {}", status.message()))
        }
        Code::Unimplemented => {
            ApiError::Conflict("the archiver is of an older release, which cannot be asked".to_owned())
        }
        Code::InvalidArgument => match status.message().split_once(": ") {
            Some((field, message)) => ApiError::invalid_field(field, message),
            None => ApiError::BadRequest(status.message().to_owned()),
        },
        code => {
            if code == Code::Unauthenticated {
                tracing::warn!("the archiver refuses our service_token: all services need the same one");
            } else {
                tracing::warn!(?code, "the archive does not answer");
            }
            ApiError::unavailable("the archive does not answer")
        }
    }
}
