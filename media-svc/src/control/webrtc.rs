//! Offers and candidates, as the control plane passes them on.

use std::sync::Arc;

use tonic::Status;
use voxray_proto::control::{AddCandidatesRequest, OfferRequest, OfferResponse};

use super::refused;
use service_kit::trace::Parent;

use crate::transport::{Gate, NotAdmitted, OfferOrder, OfferRefused, WebRtc};

/// Answers an offer.
pub async fn offer(gate: Option<&Arc<Gate>>, request: OfferRequest, trace: Parent) -> Result<OfferResponse, Status> {
    if request.session_id.is_empty() {
        return Err(Status::invalid_argument("session_id is missing"));
    }
    let order = OfferOrder {
        session_id: request.session_id,
        sdp: request.sdp,
        pc_id: request.pc_id,
        restart: request.restart,
        body_json: request.body_json,
        trace,
    };
    let (gate, webrtc) = served(gate)?;
    let answered = webrtc.offer(gate, order).await.map_err(status)?;
    Ok(OfferResponse {
        sdp: answered.sdp,
        pc_id: answered.pc_id,
    })
}

/// Brings candidates to their peer connection.
pub async fn add_candidates(gate: Option<&Arc<Gate>>, request: AddCandidatesRequest) -> Result<(), Status> {
    let lines = request.candidates.into_iter().map(|candidate| candidate.candidate);
    let (_, webrtc) = served(gate)?;
    let added = webrtc.add_candidates(&request.session_id, request.pc_id, lines.collect());
    added.await.map_err(status)
}

fn served(gate: Option<&Arc<Gate>>) -> Result<(&Arc<Gate>, &WebRtc), Status> {
    let served = gate.and_then(|gate| Some((gate, gate.webrtc.as_ref()?)));
    served.ok_or_else(|| status(OfferRefused::NotServed))
}

fn status(why: OfferRefused) -> Status {
    let message = why.to_string();
    match why {
        OfferRefused::NotServed => Status::failed_precondition(message),
        OfferRefused::Offer(_) | OfferRefused::Candidate(_) | OfferRefused::TooManyCandidates => {
            Status::invalid_argument(message)
        }
        OfferRefused::Peer(why) if why.is_the_offers_fault() => Status::invalid_argument(message),
        OfferRefused::Peer(_) => Status::internal(message),
        OfferRefused::NotAdmitted(NotAdmitted::Refused(refusal)) => refused(refusal),
        OfferRefused::NotAdmitted(NotAdmitted::NotRecordable(_)) => Status::aborted(message),
        OfferRefused::NotAdmitted(NotAdmitted::OwnedBy(_)) => Status::already_exists(message),
        OfferRefused::NotAdmitted(NotAdmitted::Store(_)) => Status::unavailable(message),
        // Not UNAVAILABLE, on which the session would be moved: its call is here, and goes on.
        OfferRefused::Busy => Status::deadline_exceeded(message),
        OfferRefused::Unknown => Status::not_found(message),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::call::registry::Refusal;

    #[test]
    fn a_session_moves_from_a_node_that_does_not_take_it_and_never_from_one_that_is_busy_with_it() {
        assert_eq!(status(OfferRefused::Busy).code(), Code::DeadlineExceeded);
        let draining = OfferRefused::NotAdmitted(NotAdmitted::Refused(Refusal::Draining));
        assert_eq!(status(draining).code(), Code::Unavailable);
    }
}
