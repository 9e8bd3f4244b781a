//! Steering a phone call through the control plane.

use std::sync::Arc;
use std::time::Duration;

use carriers::CarrierError;
use media_core::conversation::{AnsweredBy, EndReason, Input};
use service_kit::tasks::TaskScope;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use voxray_proto::control::{AnsweredBy as Verdict, ReportTransferRequest, TransferOutcome};

use crate::call::phone::{DigitsBy, PhoneLine};
use crate::call::registry::{Calls, SteerError};

/// Longest wait for a call to take an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects the caller with somebody else, and ends the session. In a task of `scope`: who asked may go away, but the
/// call has to hear what has become of it.
pub async fn transfer(calls: &Calls, session_id: &str, to: &str, scope: &TaskScope) -> Result<(), Status> {
    let phone = phone(calls, session_id)?;
    let (session_id, to) = (session_id.to_owned(), to.to_owned());
    let (tell, outcome) = oneshot::channel();
    scope.spawn("transfer", async move {
        // Nobody may be waiting any longer.
        drop(tell.send(put_through(phone, &session_id, &to).await));
    });
    outcome
        .await
        .unwrap_or_else(|_| Err(Status::unavailable("the node is stopping")))
}

async fn put_through((input, line): Phone, session_id: &str, to: &str) -> Result<(), Status> {
    let wait = line.waits_for_return();
    if let Some(wait) = wait {
        order(&input, Input::PutThrough { tool: None, wait }).await?;
    }
    if let Err(error) = line.transfer(to).await {
        if wait.is_some() {
            order(&input, Input::TransferWithdrawn).await?;
        }
        return Err(refused(error));
    }
    tracing::info!(session_id, "transferred through the API");
    match wait {
        // The session ends when somebody takes the caller.
        Some(_) => Ok(()),
        None => order(&input, end(EndReason::Transferred)).await,
    }
}

/// Passes on what has become of a transfer.
pub async fn transfer_ended(calls: &Calls, request: ReportTransferRequest) -> Result<(), Status> {
    let outcome = request.outcome();
    let (input, line) = phone(calls, &request.session_id)?;
    match outcome {
        // A provider may say at last that the leg of somebody who never answered is over.
        TransferOutcome::Taken if !line.is_taken() => Ok(()),
        TransferOutcome::Taken => order(&input, end(EndReason::Transferred)).await,
        TransferOutcome::CallerGone => order(&input, end(EndReason::CallerHungUp)).await,
        TransferOutcome::NotTaken if request.last_words.is_empty() => {
            line.expect_back();
            order(&input, Input::NotPutThrough(request.reason)).await
        }
        TransferOutcome::NotTaken => {
            line.expect_back();
            order(&input, Input::TransferWithdrawn).await?;
            let goodbye = Input::EndRequested {
                reason: EndReason::AgentHungUp,
                last_words: Some(request.last_words),
            };
            order(&input, goodbye).await
        }
        TransferOutcome::Unspecified => Err(Status::invalid_argument("outcome is missing")),
    }
}

fn end(reason: EndReason) -> Input {
    Input::EndRequested {
        reason,
        last_words: None,
    }
}

/// Presses keys for the far end.
pub async fn send_dtmf(calls: &Calls, session_id: &str, digits: String) -> Result<(), Status> {
    if !carriers::is_digits(&digits) {
        return Err(Status::invalid_argument("digits are 0-9, *, # and A-D, at most 64"));
    }
    let (input, line) = phone(calls, session_id)?;
    match line.send_dtmf(&digits).await.map_err(refused)? {
        DigitsBy::Provider => Ok(()),
        DigitsBy::Tones => order(&input, Input::SendKeys(digits)).await,
    }
}

/// Passes on who has answered.
pub async fn answered_by(calls: &Calls, session_id: &str, verdict: Verdict) -> Result<(), Status> {
    let verdict = match verdict {
        Verdict::Human => AnsweredBy::Human,
        Verdict::Machine => AnsweredBy::Machine,
        Verdict::MachineReady => AnsweredBy::MachineReady,
        Verdict::Unspecified => return Err(Status::invalid_argument("answered_by is missing")),
    };
    let (input, _) = phone(calls, session_id)?;
    order(&input, Input::AnsweredBy(verdict)).await
}

/// A call, and the telephone behind it.
type Phone = (mpsc::Sender<Input>, Arc<PhoneLine>);

fn phone(calls: &Calls, session_id: &str) -> Result<Phone, Status> {
    calls.steer(session_id).map_err(|error| match error {
        SteerError::NotFound => Status::not_found(error.to_string()),
        SteerError::NoPhone => Status::unimplemented(error.to_string()),
        SteerError::NotBegun => Status::unavailable(error.to_string()),
    })
}

async fn order(input: &mpsc::Sender<Input>, order: Input) -> Result<(), Status> {
    match tokio::time::timeout(ORDER_TIMEOUT, input.send(order)).await {
        // A closed channel: the call has just ended by itself.
        Ok(Ok(()) | Err(_)) => Ok(()),
        Err(_) => Err(Status::deadline_exceeded("the call takes no orders")),
    }
}

fn refused(error: CarrierError) -> Status {
    let message = error.to_string();
    match error {
        CarrierError::NotFound => Status::not_found(message),
        CarrierError::NotSupported { .. } => Status::unimplemented(message),
        CarrierError::Invalid(_) => Status::invalid_argument(message),
        CarrierError::RateLimited { .. } => Status::resource_exhausted(message),
        CarrierError::Unavailable { .. } | CarrierError::TimedOut(_) => Status::unavailable(message),
        CarrierError::NotConfigured { .. } | CarrierError::Unauthorized { .. } | CarrierError::Refused { .. } => {
            Status::failed_precondition(message)
        }
    }
}
