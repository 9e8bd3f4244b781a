//! `POST /sessions/{id}/transfer`, `POST /sessions/{id}/dtmf`: steering the phone call behind a session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use service_kit::http::{ApiError, ApiJson, Data};
use session_store::NodeRecord;
use tonic::{Code, Status};
use utoipa::ToSchema;
use voxray_proto::control::{SendDtmfRequest, TransferSessionRequest};

use super::sessions::find;
use crate::app::App;

/// When to come back to a phone provider that is asked too often.
const BUSY: Duration = Duration::from_secs(5);

/// Who gets the caller.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Phone number (E.164: `+14155550100`) or SIP address (`sip:desk@example.com`).
    to: String,
}

/// Keys to press.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dtmf {
    /// `0-9`, `*`, `#` and `A-D`, at most 64.
    digits: String,
}

/// Confirms a transfer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transferred {
    session_id: String,
    /// Always true.
    transferred: bool,
}

/// Confirms digits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    session_id: String,
    /// Always true.
    sent: bool,
}

/// Connects the caller with somebody else; the session ends. Twilio, Telnyx, Plivo and Vonage.
#[utoipa::path(post, path = "/sessions/{id}/transfer", tag = "sessions", params(("id" = String, Path, description = "Session id")),
    request_body = Transfer,
    responses((status = 200, description = "The provider has done it", body = Transferred),
        (status = 404, description = "Unknown or expired, or the call has ended"),
        (status = 409, description = "This provider or transport cannot, is not configured, or refuses"),
        (status = 422, description = "`to` is neither"), (status = 429, description = "The provider is asked too often"),
        (status = 503, description = "The media node or the provider does not answer")))]
pub async fn transfer(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    ApiJson(wanted): ApiJson<Transfer>,
) -> Result<Data<Transferred>, ApiError> {
    if !carriers::is_destination(&wanted.to) {
        let message = "neither a phone number (+14155550100) nor a SIP address (sip:desk@example.com)";
        return Err(ApiError::invalid_field("to", message));
    }
    let node = owner(&app, &id).await?;
    let request = TransferSessionRequest {
        session_id: id.clone(),
        to: wanted.to,
    };
    let told = app.nodes.transfer_session(&node.control_url, request).await;
    told.map_err(|status| refused(&status, "to"))?;
    Ok(Data(Transferred {
        session_id: id,
        transferred: true,
    }))
}

/// Presses keys for the other side of the call.
#[utoipa::path(post, path = "/sessions/{id}/dtmf", tag = "sessions", params(("id" = String, Path, description = "Session id")),
    request_body = Dtmf,
    responses((status = 200, description = "Sent by the provider, or being played as tones", body = Sent),
        (status = 404, description = "Unknown or expired, or the call has ended"),
        (status = 409, description = "There is no telephone, or the provider refuses"), (status = 422, description = "No digits"),
        (status = 429, description = "The provider is asked too often"),
        (status = 503, description = "The media node or the provider does not answer")))]
pub async fn dtmf(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    ApiJson(wanted): ApiJson<Dtmf>,
) -> Result<Data<Sent>, ApiError> {
    if !carriers::is_digits(&wanted.digits) {
        return Err(ApiError::invalid_field("digits", "0-9, *, # and A-D, at most 64"));
    }
    let node = owner(&app, &id).await?;
    let request = SendDtmfRequest {
        session_id: id.clone(),
        digits: wanted.digits,
    };
    let told = app.nodes.send_dtmf(&node.control_url, request).await;
    told.map_err(|status| refused(&status, "digits"))?;
    Ok(Data(Sent {
        session_id: id,
        sent: true,
    }))
}

/// The node that has the call.
async fn owner(app: &App, id: &str) -> Result<NodeRecord, ApiError> {
    let record = find(app, id).await?;
    let node = match &record.node_id {
        Some(node_id) => app.node(node_id).await.map_err(|error| error.into_api("id"))?,
        None => None,
    };
    node.ok_or_else(|| ApiError::NotFound("no media node has this session".to_owned()))
}

fn refused(status: &Status, field: &str) -> ApiError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => ApiError::NotFound(message),
        Code::InvalidArgument => ApiError::invalid_field(field, message),
        Code::Unimplemented | Code::FailedPrecondition => ApiError::Conflict(message),
        Code::ResourceExhausted => ApiError::RateLimited { retry_after: BUSY },
        // Ours or the provider's: which one did not answer is in the words.
        _ => {
            tracing::warn!(code = ?status.code(), message, "a call could not be steered");
            ApiError::unavailable(message)
        }
    }
}
