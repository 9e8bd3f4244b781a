//! `POST /start`: makes a session.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::config::{ClientTransport, IceServer};
use service_kit::http::{ApiError, ApiJson, Data};
use service_kit::ids;
use session_store::SessionState;
use utoipa::ToSchema;
use voxray_proto::control::Transport;

use super::idempotency;
use super::shape::Shape;
use crate::app::{App, NewSession, TOKEN_TTL};
use crate::error::store_error;
use crate::limits::Client;
use crate::urls;

/// How long the same `Idempotency-Key` answers the same session.
const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);

/// What a client asks for. Other fields are ignored.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartRequest {
    /// Accepted for pipecat clients; no Daily room is made.
    #[serde(rename = "createDailyRoom")]
    _create_daily_room: Option<bool>,
    /// Accepted for pipecat clients; the ICE servers are always in the answer.
    #[serde(rename = "enableDefaultIceServers")]
    _enable_default_ice_servers: Option<bool>,
    /// What the client will connect with; `webrtc` when left out.
    transport: Option<StartTransport>,
    /// Anything; the fields of an object reach the agent as template variables.
    body: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StartTransport {
    #[serde(alias = "smallwebrtc")]
    WebRtc,
    WebSocket,
}

/// What was started; kept under the idempotency key.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Started {
    WebRtc(StartedWebRtc),
    WebSocket {
        session_id: String,
        node_id: String,
        answer: StartedWebSocket,
    },
}

/// Answer for WebRTC clients.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartedWebRtc {
    /// UUID; goes into the path of the offer.
    session_id: String,
    /// For `new RTCPeerConnection`.
    ice_config: IceConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IceConfig {
    /// `{urls, username?, credential?}` each.
    #[schema(value_type = Vec<Object>)]
    ice_servers: Vec<IceServer>,
}

/// Answer for WebSocket clients: nothing but these two, because pipecat's client rejects other keys.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartedWebSocket {
    /// Socket on the media node that holds a slot.
    ws_url: String,
    /// Goes into its query as `token`; single use, valid for 300 s.
    token: String,
}

/// Makes a session. With `transport: "websocket"` a slot is reserved on a media node, and the answer is
/// `{"wsUrl", "token"}` alone.
#[utoipa::path(post, path = "/start", tag = "sessions",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key within 24 h, on any instance, answers the same session.")),
    request_body = Option<StartRequest>,
    responses(
        (status = 201, description = "The session", body = StartedWebRtc),
        (status = 422, description = "A field has a wrong value, or the Idempotency-Key was used for another request"),
        (status = 429, description = "`limits.*` are used up; `Retry-After` says until when"),
        (status = 503, description = "No media node accepts WebSocket sessions, or the session store does not answer"),
    ))]
pub async fn start(
    State(app): State<Arc<App>>,
    Extension(shape): Extension<Shape>,
    client: Client,
    headers: HeaderMap,
    request: Option<ApiJson<StartRequest>>,
) -> Result<Response, ApiError> {
    let request = request.map(|ApiJson(request)| request).unwrap_or_default();
    let key = idempotency::key(&app, &headers, &client, "start", &request, IDEMPOTENCY_TTL).await?;
    if let Some(key) = &key
        && let Some(kept) = app.store.kept(key).await.map_err(store_error)?
    {
        return Ok(render(shape, read(&kept)?));
    }
    let started = limited(&app, &client, request).await?;
    if let Some(key) = &key {
        let json = serde_json::to_string(&started).map_err(ApiError::internal)?;
        match app.store.put_if_absent(key, &json, IDEMPOTENCY_TTL).await {
            Ok(None) => {}
            Ok(Some(kept)) => {
                // Another request with this key was faster.
                undo(&app, &client, &started).await;
                return Ok(render(shape, read(&kept)?));
            }
            Err(error) => {
                // Where it was written all the same, who asks again gets it.
                if matches!(app.store.kept(key).await, Ok(None)) {
                    undo(&app, &client, &started).await;
                }
                return Err(store_error(error));
            }
        }
    }
    Ok(render(shape, started))
}

async fn limited(app: &App, client: &Client, request: StartRequest) -> Result<Started, ApiError> {
    let session_id = ids::session_id();
    client.admit(app, &session_id).await?;
    let started = make(app, request, session_id.clone()).await;
    if started.is_err() {
        client.give_back(app, &session_id).await;
    }
    started
}

async fn make(app: &App, request: StartRequest, session_id: String) -> Result<Started, ApiError> {
    let transport = request.transport.unwrap_or(StartTransport::WebRtc);
    check_offered(app.config.transport, transport)?;
    let new = NewSession {
        session_id,
        transport: match transport {
            StartTransport::WebRtc => Transport::Webrtc,
            StartTransport::WebSocket => Transport::Websocket,
        },
        provider: String::new(),
        call_id: String::new(),
        body_json: request
            .body
            .filter(|body| !body.is_null())
            .map_or_else(String::new, |body| body.to_string()),
    };
    match transport {
        StartTransport::WebRtc => {
            let record = new.record(None, SessionState::Created);
            app.store
                .put_session(&record, app.session_ttl())
                .await
                .map_err(store_error)?;
            let (servers, now) = (&app.config.webrtc.ice_servers, SystemTime::now());
            let ice_servers = servers.iter().map(|server| server.for_client(&new.session_id, now));
            Ok(Started::WebRtc(StartedWebRtc {
                ice_config: IceConfig {
                    ice_servers: ice_servers.collect(),
                },
                session_id: new.session_id,
            }))
        }
        StartTransport::WebSocket => {
            // The slot is kept as long as the token is good: whoever holds one gets in.
            let node = app
                .reserve(&new, TOKEN_TTL)
                .await
                .map_err(|error| error.into_api("body"))?;
            let answer = StartedWebSocket {
                ws_url: format!("{}/ws?format=protobuf", urls::media_base(&app.config, &node)),
                token: app.token(&new, &new.body_json),
            };
            Ok(Started::WebSocket {
                session_id: new.session_id,
                node_id: node.node_id,
                answer,
            })
        }
    }
}

/// WebRTC is not checked here: whether a node takes the offer is known when the offer comes.
fn check_offered(offered: ClientTransport, wanted: StartTransport) -> Result<(), ApiError> {
    match (offered, wanted) {
        (ClientTransport::SmallWebRtc, StartTransport::WebSocket) => Err(ApiError::invalid_field(
            "transport",
            "this server offers \"webrtc\" only (transport=smallwebrtc)",
        )),
        (ClientTransport::SmallWebRtc, StartTransport::WebRtc)
        | (ClientTransport::WebSocket | ClientTransport::Both, _) => Ok(()),
    }
}

async fn undo(app: &App, client: &Client, started: &Started) {
    let session_id = match started {
        Started::WebRtc(answer) => &answer.session_id,
        Started::WebSocket {
            session_id, node_id, ..
        } => {
            if let Ok(Some(node)) = app.node(node_id).await {
                app.release(&node, session_id).await;
            }
            session_id
        }
    };
    client.give_back(app, session_id).await;
    if let Err(error) = app.store.remove_session(session_id).await {
        tracing::debug!(%error, "a session that lost its race is left to expire");
    }
}

fn read(kept: &str) -> Result<Started, ApiError> {
    serde_json::from_str(kept).map_err(ApiError::internal)
}

fn render(shape: Shape, started: Started) -> Response {
    let answer = match (shape, started) {
        (_, Started::WebRtc(answer)) => shape.answer(answer),
        (Shape::Unversioned, Started::WebSocket { answer, .. }) => Json(answer).into_response(),
        (Shape::V1, Started::WebSocket { answer, .. }) => Data(answer).into_response(),
    };
    (StatusCode::CREATED, answer).into_response()
}
