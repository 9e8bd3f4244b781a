//! `POST /webrtc/offer`: a WebRTC session in one request, as the original server offers it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use service_kit::http::{ApiError, ApiJson};
use service_kit::ids;
use session_store::SessionState;
use tracing::Instrument;
use utoipa::ToSchema;
use voxray_proto::control::{OfferRequest, Transport};

use super::shape::Shape;
use crate::app::{App, NewSession, TOKEN_TTL, placement_lines, placement_trace, say_placed};
use crate::error::store_error;
use crate::limits::Client;

/// The client's offer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WebRtcOffer {
    /// SDP, or a JSON text `{"type": "offer", "sdp": …}`.
    #[serde(default)]
    offer: Option<String>,
}

/// The server's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebRtcAnswer {
    /// SDP with all candidates.
    answer: String,
}

/// Answers an offer on a media node chosen for it.
#[utoipa::path(post, path = "/webrtc/offer", tag = "webrtc", request_body = WebRtcOffer,
    responses((status = 200, description = "The answer", body = WebRtcAnswer), (status = 422, description = "No SDP"),
        (status = 429, description = "`limits.*` are used up"),
        (status = 503, description = "No media node accepts WebRTC sessions")))]
pub async fn offer(
    State(app): State<Arc<App>>,
    Extension(shape): Extension<Shape>,
    client: Client,
    ApiJson(request): ApiJson<WebRtcOffer>,
) -> Result<Response, ApiError> {
    let sdp = sdp_of(request.offer.as_deref().unwrap_or_default())?;
    let new = NewSession {
        session_id: ids::session_id(),
        transport: Transport::Webrtc,
        provider: String::new(),
        call_id: String::new(),
        body_json: String::new(),
    };
    client.admit(&app, &new.session_id).await?;
    let request = OfferRequest {
        session_id: new.session_id.clone(),
        sdp,
        ..OfferRequest::default()
    };
    let trace = placement_trace(&new.session_id, Transport::Webrtc);
    let logged = placement_lines(&new.session_id, &trace);
    let placed = app
        .place(Transport::Webrtc, |nodes, url| {
            let (request, parent) = (request.clone(), trace.parent());
            async move { nodes.offer(&url, request, &parent).await }
        })
        .instrument(logged.clone())
        .await;
    let (node, answer) = match placed {
        Ok(placed) => placed,
        Err(error) => {
            trace.fail("no node has taken it");
            client.give_back(&app, &new.session_id).await;
            return Err(error.into_api("offer"));
        }
    };
    trace.set("voxray.node", node.node_id.clone());
    logged.in_scope(|| say_placed(&node, Transport::Webrtc));
    // Written before the client has the answer: the node says `connected` over it, never the other way round.
    let record = new.record(Some(&node.node_id), SessionState::Reserved);
    if let Err(error) = app.store.put_session(&record, TOKEN_TTL).await {
        app.release(&node, &new.session_id).await;
        client.give_back(&app, &new.session_id).await;
        return Err(store_error(error));
    }
    Ok(shape.answer(WebRtcAnswer { answer: answer.sdp }))
}

fn sdp_of(offer: &str) -> Result<String, ApiError> {
    #[derive(Deserialize)]
    struct Described {
        #[serde(default)]
        sdp: String,
    }
    let offer = offer.trim_start();
    let sdp = if offer.starts_with('{') {
        serde_json::from_str::<Described>(offer)
            .map_err(|_| ApiError::invalid_field("offer", "must be SDP, or a JSON text {\"type\", \"sdp\"}"))?
            .sdp
    } else {
        offer.to_owned()
    };
    if sdp.trim().is_empty() {
        return Err(ApiError::invalid_field("offer", "must not be empty"));
    }
    Ok(sdp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_offer_in_json_is_the_sdp_in_it() {
        assert_eq!(sdp_of("  v=0\r\n").unwrap(), "v=0\r\n");
        assert_eq!(sdp_of(r#"{"type":"offer","sdp":"v=0"}"#).unwrap(), "v=0");
        for nothing in ["", " ", "{}", r#"{"sdp":" "}"#, r#"{"sdp":1}"#, "{"] {
            assert!(sdp_of(nothing).is_err(), "{nothing}");
        }
    }

    proptest! {
        /// Whatever is no JSON is what the media node gets, and nothing is read as an empty offer.
        #[test]
        fn no_offer_upsets_it(offer: String, json in "\\{.{0,40}") {
            if let Ok(sdp) = sdp_of(&offer) {
                prop_assert!(!sdp.trim().is_empty());
                let as_it_was = offer.ends_with(&sdp);
                prop_assert!(as_it_was || serde_json::from_str::<serde_json::Value>(&offer).is_ok());
            }
            prop_assert!(sdp_of(&json).is_err() || serde_json::from_str::<serde_json::Value>(&json).is_ok());
        }
    }
}
