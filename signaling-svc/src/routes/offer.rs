//! `POST` and `PATCH /sessions/{id}/api/offer` (`/api/v1/sessions/{id}/offer`): WebRTC for a session made by `/start`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::http::{ApiError, ApiJson};
use service_kit::trace::Parent;
use session_store::{NodeRecord, SessionRecord, SessionState};
use tonic::Code;
use tracing::Instrument;
use utoipa::ToSchema;
use voxray_proto::control::{AddCandidatesRequest, Candidate, OfferRequest, OfferResponse, Transport};

use super::shape::{SessionId, Shape};
use crate::app::{App, TOKEN_TTL, name, placement_lines, placement_trace, say_placed};
use crate::error::store_error;

/// Most candidates in one request. A browser finds some twenty, and sends them as it finds them.
const MAX_CANDIDATES: usize = 100;

/// The client's offer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SessionOffer {
    /// SDP.
    #[serde(default)]
    sdp: Option<String>,
    /// `offer`.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// Peer connection to renegotiate or restart.
    #[serde(default)]
    pc_id: Option<String>,
    /// Drops the peer connection `pc_id` and makes a new one in the same session.
    #[serde(default)]
    restart_pc: Option<bool>,
    /// Template variables; they win over those given to `/start`. Also spelled `requestData`.
    #[serde(default, alias = "requestData")]
    request_data: Option<Value>,
}

/// The server's answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionAnswer {
    /// SDP with all candidates.
    answer: String,
    /// The same.
    sdp: String,
    /// `answer`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Names the peer connection in later offers and candidates.
    pc_id: String,
}

/// Candidates that the client found after its offer.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Trickle {
    #[serde(default)]
    pc_id: Option<String>,
    #[serde(default)]
    candidates: Vec<TrickledCandidate>,
}

/// One candidate; an empty one, or none, ends the list.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TrickledCandidate {
    #[serde(default)]
    candidate: Option<String>,
    #[serde(default, alias = "sdpMid")]
    sdp_mid: Option<String>,
    #[serde(default, alias = "sdpMLineIndex")]
    sdp_mline_index: Option<u32>,
}

/// Answers the first offer of a session on a node chosen for it, and later ones on the same node.
#[utoipa::path(post, path = "/sessions/{id}/api/offer", tag = "webrtc", params(("id" = String, Path, description = "Session id, a UUID")),
    request_body = SessionOffer,
    responses((status = 200, description = "The answer", body = SessionAnswer), (status = 400, description = "The id is no UUID"),
        (status = 404, description = "Unknown or expired, or its media node has failed and the call with it"),
        (status = 409, description = "Another offer is just connecting the session, or a socket has it"),
        (status = 422, description = "No SDP, or none that can be answered"),
        (status = 503, description = "No media node accepts WebRTC sessions")))]
pub async fn offer(
    State(app): State<Arc<App>>,
    Extension(shape): Extension<Shape>,
    SessionId(id): SessionId,
    ApiJson(offer): ApiJson<SessionOffer>,
) -> Result<Response, ApiError> {
    if offer.kind.as_deref().is_some_and(|kind| kind != "offer") {
        return Err(ApiError::invalid_field("type", "must be \"offer\""));
    }
    let sdp = offer.sdp.filter(|sdp| !sdp.trim().is_empty());
    let sdp = sdp.ok_or_else(|| ApiError::invalid_field("sdp", "must not be empty"))?;
    let session = webrtc_session(&app, &id).await?;
    let request = OfferRequest {
        session_id: id.clone(),
        sdp,
        pc_id: offer.pc_id.unwrap_or_default(),
        restart: offer.restart_pc.unwrap_or(false),
        body_json: merged(&session.body_json, offer.request_data),
    };
    let (node, answer) = match on_its_node(&app, &session, &request).await? {
        Some(answered) => answered,
        None => match on_a_new_node(&app, request).await {
            Ok(answered) => answered,
            Err(error) => {
                is_wanted(&app, &id).await?;
                return Err(error);
            }
        },
    };
    let moved = session.node_id.as_ref() != Some(&node.node_id);
    let remembered = match remember(&app, session, &node, moved).await {
        Ok(()) if moved => is_wanted(&app, &id).await,
        remembered => remembered,
    };
    if let Err(error) = remembered {
        if moved {
            app.release(&node, &id).await;
        }
        return Err(error);
    }
    Ok(shape.answer(SessionAnswer {
        answer: answer.sdp.clone(),
        sdp: answer.sdp,
        kind: "answer",
        pc_id: answer.pc_id,
    }))
}

/// Brings candidates to the node that owns the peer connection.
#[utoipa::path(patch, path = "/sessions/{id}/api/offer", tag = "webrtc", params(("id" = String, Path, description = "Session id, a UUID")),
    request_body = Trickle,
    responses((status = 200, description = "`{\"status\": \"success\"}`; 204 under `/api/v1`"), (status = 400, description = "The id is no UUID"),
        (status = 404, description = "Unknown session or `pc_id`"), (status = 422, description = "A candidate that is none, or too many"),
        (status = 503, description = "Its media node does not answer")))]
pub async fn add_candidates(
    State(app): State<Arc<App>>,
    Extension(shape): Extension<Shape>,
    SessionId(id): SessionId,
    ApiJson(trickle): ApiJson<Trickle>,
) -> Result<Response, ApiError> {
    let pc_id = trickle.pc_id.filter(|pc_id| !pc_id.is_empty());
    let pc_id = pc_id.ok_or_else(|| ApiError::invalid_field("pc_id", "must not be empty"))?;
    if trickle.candidates.len() > MAX_CANDIDATES {
        let message = format!("must not be more than {MAX_CANDIDATES} in one request");
        return Err(ApiError::invalid_field("candidates", message));
    }
    let session = webrtc_session(&app, &id).await?;
    let unknown = || ApiError::NotFound("this session has no peer connection with this pc_id".to_owned());
    let node = owner(&app, &session).await?.ok_or_else(unknown)?;
    let request = AddCandidatesRequest {
        session_id: id,
        pc_id,
        candidates: trickle.candidates.into_iter().map(Candidate::from).collect(),
    };
    match app.nodes.add_candidates(&node.control_url, request).await {
        Ok(()) => Ok(match shape {
            Shape::Unversioned => axum::Json(json!({ "status": "success" })).into_response(),
            Shape::V1 => StatusCode::NO_CONTENT.into_response(),
        }),
        Err(status) if status.code() == Code::NotFound => Err(unknown()),
        Err(status) if status.code() == Code::InvalidArgument => {
            Err(ApiError::invalid_field("candidates", status.message()))
        }
        Err(status) => {
            tracing::warn!(media_node = %node.node_id, code = ?status.code(), "candidates did not reach their node");
            Err(does_not_answer())
        }
    }
}

fn does_not_answer() -> ApiError {
    ApiError::unavailable("the media node that owns the session does not answer")
}

fn died() -> ApiError {
    ApiError::NotFound(
        "the media node of this session has failed, and its call with it: call /start for another".to_owned(),
    )
}

async fn webrtc_session(app: &App, id: &str) -> Result<SessionRecord, ApiError> {
    let session = app.store.session(id).await.map_err(store_error)?;
    session
        .filter(|session| session.transport == name(Transport::Webrtc))
        .ok_or_else(|| ApiError::NotFound("there is no live WebRTC session with this id: call /start first".to_owned()))
}

async fn owner(app: &App, session: &SessionRecord) -> Result<Option<NodeRecord>, ApiError> {
    match &session.node_id {
        Some(node_id) => app.node(node_id).await.map_err(|error| error.into_api("id")),
        None => Ok(None),
    }
}

/// The node that has the session answers, if there is one and it can. Its call has a trace already.
async fn on_its_node(
    app: &App,
    session: &SessionRecord,
    request: &OfferRequest,
) -> Result<Option<(NodeRecord, OfferResponse)>, ApiError> {
    let Some(node) = owner(app, session).await? else {
        return if session.has_begun() { Err(died()) } else { Ok(None) };
    };
    match app
        .nodes
        .offer(&node.control_url, request.clone(), &Parent::default())
        .await
    {
        Ok(answer) => Ok(Some((node, answer))),
        Err(status) => match status.code() {
            Code::InvalidArgument => Err(ApiError::invalid_field("sdp", status.message())),
            Code::AlreadyExists => Err(ApiError::Conflict(
                "another offer is just connecting this session, or a socket has it: wait for its answer, or call /start for another".to_owned(),
            )),
            // It may have taken the offer, and one node owns a session: the client asks again. A node that is gone
            // is out of the list by then.
            Code::DeadlineExceeded | Code::Cancelled => Err(does_not_answer()),
            Code::Unavailable if session.has_begun() => Err(does_not_answer()),
            code => {
                tracing::debug!(media_node = %node.node_id, ?code, "the session moves to another node");
                Ok(None)
            }
        },
    }
}

async fn on_a_new_node(app: &App, request: OfferRequest) -> Result<(NodeRecord, OfferResponse), ApiError> {
    let trace = placement_trace(&request.session_id, Transport::Webrtc);
    let logged = placement_lines(&request.session_id, &trace);
    // The old peer connection, if any, is not there.
    let request = OfferRequest {
        pc_id: String::new(),
        restart: false,
        ..request
    };
    let placed = app.place(Transport::Webrtc, |nodes, url| {
        let (request, parent) = (request.clone(), trace.parent());
        async move { nodes.offer(&url, request, &parent).await }
    });
    let placed = placed.instrument(logged.clone()).await;
    let placed = placed.inspect_err(|_| trace.fail("no node has taken it"));
    let (node, answer) = placed.map_err(|error| error.into_api("sdp"))?;
    trace.set("voxray.node", node.node_id.clone());
    logged.in_scope(|| say_placed(&node, Transport::Webrtc));
    Ok((node, answer))
}

/// Writes which node has the session; a session that is connected already is the node's to write.
async fn remember(app: &App, session: SessionRecord, node: &NodeRecord, moved: bool) -> Result<(), ApiError> {
    let stored = if moved {
        let record = SessionRecord {
            node_id: Some(node.node_id.clone()),
            state: SessionState::Reserved,
            ..session
        };
        app.store.put_session(&record, TOKEN_TTL).await
    } else {
        let ttl = if session.has_begun() {
            app.session_ttl()
        } else {
            TOKEN_TTL
        };
        app.store.touch_session(&session.session_id, ttl).await.map(drop)
    };
    stored.map_err(store_error)
}

/// Whether nobody has ended the session while a node was chosen for it; what was written of it then is taken back. Who
/// ends it from now on finds its node.
async fn is_wanted(app: &App, id: &str) -> Result<(), ApiError> {
    if app.store.is_void(id).await.map_err(store_error)? {
        app.store.remove_session(id).await.map_err(store_error)?;
        return Err(ApiError::NotFound(
            "this session was ended: call /start for another".to_owned(),
        ));
    }
    Ok(())
}

/// The body given to `/start` under the offer's own data: the latter wins, field by field where both are objects.
fn merged(body_json: &str, request_data: Option<Value>) -> String {
    let body = serde_json::from_str::<Value>(body_json).ok();
    match (body, request_data.filter(|data| !data.is_null())) {
        (Some(Value::Object(mut body)), Some(Value::Object(data))) => {
            body.extend(data);
            Value::Object(body).to_string()
        }
        (_, Some(data)) => data.to_string(),
        (Some(body), None) => body.to_string(),
        (None, None) => String::new(),
    }
}

impl From<TrickledCandidate> for Candidate {
    fn from(candidate: TrickledCandidate) -> Self {
        Self {
            candidate: candidate.candidate.unwrap_or_default(),
            sdp_mid: candidate.sdp_mid.unwrap_or_default(),
            sdp_mline_index: candidate.sdp_mline_index.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What the node gets is JSON or nothing, whatever the store and the client have.
        #[test]
        fn no_data_of_an_offer_upsets_it(body: String, key: String, value: String, given: bool) {
            for body in [body, json!({ &*key: 1 }).to_string()] {
                let data = given.then(|| json!({ &*key: &value }));
                let merged = merged(&body, data);
                prop_assert!(merged.is_empty() || serde_json::from_str::<Value>(&merged).is_ok());
                prop_assert!(!given || serde_json::from_str::<Value>(&merged).unwrap()[&key] == value);
            }
        }
    }

    #[test]
    fn data_of_the_offer_wins_over_the_body_of_start() {
        // body, request_data, merged
        let cases = [
            ("", None, ""),
            ("", Some(json!({"a": 1})), r#"{"a":1}"#),
            (r#"{"a":1}"#, None, r#"{"a":1}"#),
            (r#"{"a":1}"#, Some(Value::Null), r#"{"a":1}"#),
            (
                r#"{"a":1,"b":1}"#,
                Some(json!({"b": 2, "c": 2})),
                r#"{"a":1,"b":2,"c":2}"#,
            ),
            (r#"["x"]"#, Some(json!({"b": 2})), r#"{"b":2}"#),
        ];
        for (body, data, expected) in cases {
            assert_eq!(merged(body, data), expected);
        }
    }
}
