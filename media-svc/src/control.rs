//! The gRPC service `MediaControl`: the control plane reserves, lists, steers and ends sessions here, and drains the node.

mod steer;
mod webrtc;

use std::sync::Arc;
use std::time::Duration;

use media_core::conversation::EndReason;
use service_kit::config::{MediaTransport, Secret};
use service_kit::grpc::{Incoming, RequireToken};
use service_kit::tasks::{TaskHandle, TaskScope};
use service_kit::trace::Parent;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use voxray_proto::control::media_control_server::{MediaControl, MediaControlServer};
use voxray_proto::control::{
    AddCandidatesRequest, AddCandidatesResponse, CreateSessionRequest, CreateSessionResponse, DrainRequest,
    DrainResponse, EndSessionRequest, EndSessionResponse, GetLoadRequest, ListSessionsRequest, ListSessionsResponse,
    Load, MediaReport, OfferRequest, OfferResponse, ReportAnsweredByRequest, ReportAnsweredByResponse,
    ReportTransferRequest, ReportTransferResponse, SendDtmfRequest, SendDtmfResponse, Session, TransferSessionRequest,
    TransferSessionResponse, Transport,
};

use crate::archive::ArchiveSink;
use crate::call::registry::{CallState, Calls, EndError, Listed, RESERVATION_TTL, Refusal, Reservation};
use crate::transport::Gate;

/// What the agent says before a call is ended through the API.
const GOODBYE: &str = "I have to end this call now. Goodbye.";
/// Longest reservation: longer than any phone rings.
const RESERVATION_TTL_MAX: Duration = Duration::from_secs(3600);

/// Serves `MediaControl` until the scope is cancelled. Callers need the `service_token`. With an archive, sessions that
/// it could not take are refused while the caller can still be told why.
pub fn serve(
    incoming: Incoming,
    control: Control,
    token: &Secret,
    mut server: Server,
    scope: &TaskScope,
) -> TaskHandle {
    let service = MediaControlServer::with_interceptor(control, RequireToken::new(token));
    let cancelled = scope.token().cancelled_owned();
    scope.spawn("media-control", async move {
        let served = server
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, cancelled)
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the control listener failed: this node can no longer be given sessions");
        }
    })
}

/// What is controlled.
pub struct Control {
    /// Live calls and reservations.
    pub calls: Calls,
    /// Where calls are archived.
    pub archive: Option<Arc<dyn ArchiveSink>>,
    /// This node.
    pub node_id: Arc<str>,
    /// Where offers become calls; `None` on a node without WebRTC.
    pub webrtc: Option<Arc<Gate>>,
    /// What goes on when the one who asked has gone.
    pub tasks: TaskScope,
}

#[tonic::async_trait]
impl MediaControl for Control {
    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let trace = Parent::from_metadata(request.metadata());
        let request = request.into_inner();
        let transport = transport(request.transport())?;
        if request.session_id.is_empty() {
            return Err(Status::invalid_argument("session_id is missing"));
        }
        let ttl = match request.reservation_ttl_secs {
            0 => RESERVATION_TTL,
            seconds => Duration::from_secs(seconds.into()).min(RESERVATION_TTL_MAX),
        };
        let session_id: Arc<str> = request.session_id.into();
        let reservation = Reservation {
            session_id: Arc::clone(&session_id),
            transport,
            provider: request.provider,
            call_id: request.call_id,
            body_json: request.body_json,
            ttl,
        };
        if let Some(archive) = &self.archive {
            archive.check().map_err(|error| {
                self.calls.count_unrecordable(transport);
                Status::aborted(format!("this call could not be recorded: {error}"))
            })?;
        }
        self.calls.reserve(reservation).map_err(refused)?;
        self.calls.set_trace(&session_id, trace);
        Ok(Response::new(CreateSessionResponse {
            node_id: self.node_id.to_string(),
        }))
    }

    async fn offer(&self, request: Request<OfferRequest>) -> Result<Response<OfferResponse>, Status> {
        let trace = Parent::from_metadata(request.metadata());
        webrtc::offer(self.webrtc.as_ref(), request.into_inner(), trace)
            .await
            .map(Response::new)
    }

    async fn add_candidates(
        &self,
        request: Request<AddCandidatesRequest>,
    ) -> Result<Response<AddCandidatesResponse>, Status> {
        webrtc::add_candidates(self.webrtc.as_ref(), request.into_inner()).await?;
        Ok(Response::new(AddCandidatesResponse {}))
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Result<Response<EndSessionResponse>, Status> {
        let request = request.into_inner();
        tracing::info!(session_id = %request.session_id, reason = %request.reason, "asked to end a session");
        let ended = self
            .calls
            .end(&request.session_id, EndReason::Requested, Some(GOODBYE.to_owned()))
            .await;
        match ended {
            Ok(()) => Ok(Response::new(EndSessionResponse {})),
            Err(error @ EndError::NotFound) => Err(Status::not_found(error.to_string())),
            Err(error @ EndError::Stuck) => Err(Status::deadline_exceeded(error.to_string())),
        }
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let wanted = request.into_inner().session_id;
        let mut listed = self.calls.list();
        listed.retain(|session| wanted.is_empty() || *session.session_id == *wanted);
        let sessions = listed.into_iter().map(session).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn drain(&self, _request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        self.calls.start_draining();
        let remaining = self.calls.load().sessions;
        tracing::info!(remaining, "asked to drain: no new sessions");
        Ok(Response::new(DrainResponse {
            sessions_remaining: count(remaining),
        }))
    }

    async fn transfer_session(
        &self,
        request: Request<TransferSessionRequest>,
    ) -> Result<Response<TransferSessionResponse>, Status> {
        let request = request.into_inner();
        steer::transfer(&self.calls, &request.session_id, &request.to, &self.tasks).await?;
        Ok(Response::new(TransferSessionResponse {}))
    }

    async fn send_dtmf(&self, request: Request<SendDtmfRequest>) -> Result<Response<SendDtmfResponse>, Status> {
        let request = request.into_inner();
        steer::send_dtmf(&self.calls, &request.session_id, request.digits).await?;
        Ok(Response::new(SendDtmfResponse {}))
    }

    async fn report_answered_by(
        &self,
        request: Request<ReportAnsweredByRequest>,
    ) -> Result<Response<ReportAnsweredByResponse>, Status> {
        let request = request.into_inner();
        steer::answered_by(&self.calls, &request.session_id, request.answered_by()).await?;
        Ok(Response::new(ReportAnsweredByResponse {}))
    }

    async fn report_transfer(
        &self,
        request: Request<ReportTransferRequest>,
    ) -> Result<Response<ReportTransferResponse>, Status> {
        steer::transfer_ended(&self.calls, request.into_inner()).await?;
        Ok(Response::new(ReportTransferResponse {}))
    }

    async fn get_load(&self, _request: Request<GetLoadRequest>) -> Result<Response<Load>, Status> {
        let load = self.calls.load();
        Ok(Response::new(Load {
            sessions: count(load.sessions),
            capacity: count(load.capacity),
            draining: load.is_draining(),
            transports: self.calls.transports().iter().map(|t| wire(*t).into()).collect(),
        }))
    }
}

/// How a refusal reads on the wire; the control plane goes by the code.
fn refused(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        Refusal::Full { .. } => Status::resource_exhausted(message),
        Refusal::Draining => Status::unavailable(message),
        Refusal::TransportNotServed(_) => Status::failed_precondition(message),
        Refusal::AlreadyConnected => Status::already_exists(message),
    }
}

fn transport(wire: Transport) -> Result<MediaTransport, Status> {
    match wire {
        Transport::Telephony => Ok(MediaTransport::Telephony),
        Transport::Websocket => Ok(MediaTransport::WebSocket),
        Transport::Webrtc => Ok(MediaTransport::WebRtc),
        Transport::Unspecified => Err(Status::invalid_argument(
            "transport is missing or not known to this node",
        )),
    }
}

fn wire(transport: MediaTransport) -> Transport {
    match transport {
        MediaTransport::Telephony => Transport::Telephony,
        MediaTransport::WebSocket => Transport::Websocket,
        MediaTransport::WebRtc => Transport::Webrtc,
    }
}

fn session(listed: Listed) -> Session {
    let state = match listed.state {
        CallState::Reserved => "reserved",
        CallState::Connected => "connected",
        CallState::Ending => "ending",
    };
    Session {
        session_id: listed.session_id.to_string(),
        transport: wire(listed.transport).into(),
        provider: listed.provider,
        state: state.to_owned(),
        started_at_unix_ms: listed.started_at_unix_ms,
        media: listed.media.map(|media| MediaReport {
            rtt_ms: media.rtt_ms,
            jitter_ms: media.jitter_ms,
            loss_percent: media.loss_percent,
            jitter_buffer_ms: media.jitter_buffer_ms,
        }),
        stream_is_over: listed.stream_is_over,
    }
}

fn count(sessions: usize) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
