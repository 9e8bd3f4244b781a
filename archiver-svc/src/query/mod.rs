//! Reading back and erasing, for signaling-svc: gRPC `ArchiveQuery`.

mod convert;
mod recording;
mod retention;

use std::sync::Arc;

use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use voxray_proto::archive::archive_query_server::ArchiveQuery;
use voxray_proto::archive::{
    EraseSessionRequest, EraseSessionResponse, GetRecordingRequest, GetRecordingResponse, GetTranscriptRequest,
    GetTranscriptResponse, ListArchivedSessionsRequest, ListArchivedSessionsResponse,
};

use self::convert::{cursor, page, session, turn};
pub use self::retention::keep_retention;
use crate::metrics;
use crate::recordings::chain;
use crate::register::{Register, RegisterError};
use crate::transcripts::{StoreError, TranscriptStore};

/// The gRPC service.
pub struct QueryService {
    register: Register,
    scope: TaskScope,
    shutdown: Shutdown,
}

impl QueryService {
    /// Files are read in `scope`, until `shutdown` drains.
    pub fn new(register: Register, scope: TaskScope, shutdown: Shutdown) -> Self {
        Self {
            register,
            scope,
            shutdown,
        }
    }

    fn transcripts(&self) -> Result<&Arc<dyn TranscriptStore>, Status> {
        self.register
            .transcripts
            .as_ref()
            .ok_or_else(|| status(&RegisterError::Off("transcripts.enable")))
    }
}

#[tonic::async_trait]
impl ArchiveQuery for QueryService {
    type GetRecordingStream = ReceiverStream<Result<GetRecordingResponse, Status>>;

    async fn get_transcript(
        &self,
        request: Request<GetTranscriptRequest>,
    ) -> Result<Response<GetTranscriptResponse>, Status> {
        let id = request.into_inner().session_id;
        let store = self.transcripts()?;
        let known = metrics::query(store.session(&id)).await.map_err(sql_status)?;
        if known.as_ref().is_some_and(|known| known.erased) {
            return Err(Status::not_found("this session was erased"));
        }
        let rows = metrics::query(store.rows(&id)).await.map_err(sql_status)?;
        if known.is_none() && rows.is_empty() {
            return Err(Status::not_found("the archive knows no session with this id"));
        }
        Ok(Response::new(GetTranscriptResponse {
            session: known.map(session),
            turns: rows.into_iter().map(turn).collect(),
        }))
    }

    async fn get_recording(
        &self,
        request: Request<GetRecordingRequest>,
    ) -> Result<Response<Self::GetRecordingStream>, Status> {
        let request = request.into_inner();
        let store = self.transcripts()?;
        let recordings = self
            .register
            .recordings
            .as_ref()
            .ok_or_else(|| status(&RegisterError::Off("recording.enable")))?;
        let known = metrics::query(store.session(&request.session_id))
            .await
            .map_err(sql_status)?;
        let known = known.ok_or_else(|| Status::not_found("the archive knows no session with this id"))?;
        if known.erased {
            return Err(Status::not_found("this session was erased"));
        }
        let (key, bytes) = match (known.recording_key, known.recording_bytes) {
            (Some(key), Some(bytes)) => (key, bytes),
            (Some(_), None) => return Err(Status::not_found("the recording of this session is not stored yet")),
            (None, _) => return Err(Status::not_found("this session was not recorded")),
        };
        let readable = recordings.read(&key).await.map_err(|error| status(&error.into()))?;
        let readable = readable.ok_or_else(|| Status::not_found("the recording of this session is gone"))?;
        let stream = recording::stream(readable, (&key, bytes), &request, &self.scope, &self.shutdown);
        Ok(Response::new(stream))
    }

    async fn list_sessions(
        &self,
        request: Request<ListArchivedSessionsRequest>,
    ) -> Result<Response<ListArchivedSessionsResponse>, Status> {
        let page = page(&request.into_inner())?;
        let store = self.transcripts()?;
        let found = metrics::query(store.sessions(&page)).await.map_err(sql_status)?;
        // A page that is not full is the last one.
        let full = found.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
        let next_cursor = found.last().filter(|_| full).map(cursor).unwrap_or_default();
        Ok(Response::new(ListArchivedSessionsResponse {
            sessions: found.into_iter().map(session).collect(),
            next_cursor,
        }))
    }

    async fn erase_session(
        &self,
        request: Request<EraseSessionRequest>,
    ) -> Result<Response<EraseSessionResponse>, Status> {
        let EraseSessionRequest {
            session_id,
            requested_by,
        } = request.into_inner();
        if session_id.is_empty() || session_id.len() > MAX_SESSION_ID_BYTES {
            return Err(Status::invalid_argument("session_id is empty or too long"));
        }
        let erased = self.register.erase(&session_id).await.map_err(|error| {
            tracing::warn!(
                session_id,
                requested_by,
                error = chain(&error),
                "a session is not erased completely; it is tried again within the hour"
            );
            status(&error)
        })?;
        tracing::info!(
            target: "audit",
            session_id,
            requested_by,
            rows = erased.rows,
            recording = erased.recording,
            again = erased.again,
            "session erased on request"
        );
        Ok(Response::new(EraseSessionResponse {
            rows: erased.rows,
            recording: erased.recording,
            again: erased.again,
        }))
    }
}

/// As ingest takes them.
const MAX_SESSION_ID_BYTES: usize = 128;

fn sql_status(error: StoreError) -> Status {
    status(&error.into())
}

fn status(error: &RegisterError) -> Status {
    match error {
        RegisterError::Off(_) => Status::failed_precondition(error.to_string()),
        RegisterError::Sql(_) | RegisterError::Recordings(_) => {
            tracing::warn!(error = chain(error), "the archive cannot be read now");
            Status::unavailable(error.to_string())
        }
    }
}
