//! `POST /calls`: places an outbound call. `/telephony/{provider}/status`: what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::http::{ApiError, ApiJson, Data, FieldError, check_page};
use service_kit::{ids, phone};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::idempotency;
use super::telephony::{check_kind, served, unproven};
use crate::app::App;
use crate::error::store_error;
use crate::limits::Client;
use crate::outbound::{self, Wanted};
use crate::telephony::progress::{CallState, Report};
use crate::telephony::{CALL_QUERY, Provider, Webhook, signed};
use crate::urls;

/// How long the same `Idempotency-Key` answers the same call.
const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);

/// What a client asks for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRequest {
    /// `twilio`, `telnyx`, `plivo`, `vonage` or `exotel`.
    #[serde(default)]
    provider: String,
    /// Number to call, E.164.
    #[serde(default)]
    to: String,
    /// Number to show, E.164; one of the account's, and of `telephony.outbound_from` where that is set.
    #[serde(default)]
    from: String,
    /// Anything; the fields of an object reach the agent as template variables.
    #[serde(default)]
    body: Option<Value>,
    /// Whether an answering machine is told from a person; default: `outbound.machine_detection`.
    #[serde(default, alias = "machine_detection")]
    machine_detection: Option<bool>,
}

/// A call that the provider has accepted.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedCall {
    /// UUID; `GET /sessions/{id}` shows what becomes of it.
    session_id: String,
    /// Provider.
    provider: String,
    /// The provider's id of the call.
    call_id: String,
    /// `queued`.
    #[schema(value_type = String)]
    state: CallState,
}

/// What is kept under an idempotency key.
#[derive(Debug, Serialize, Deserialize)]
enum Kept {
    /// Somebody works on it.
    Pending,
    /// It was placed.
    Placed(PlacedCall),
    /// The provider did not answer: asking again could call twice.
    Unknown(String),
}

/// Places a call at a provider and connects it to the agent when somebody answers.
#[utoipa::path(post, path = "/calls", tag = "telephony",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key within 24 h, on any instance, places one call.")),
    request_body = CallRequest,
    responses((status = 201, description = "`data`: the provider has accepted it", body = PlacedCall),
        (status = 403, description = "Asked by a page of another origin, without `server_api_key`"),
        (status = 409, description = "Another request with this Idempotency-Key is being worked on, or was cut off"),
        (status = 422, description = "A field has a wrong value, the Idempotency-Key was used for another request, the provider refused the call, or `proxy_host` is not set"),
        (status = 429, description = "`limits.*` are used up; `Retry-After` says until when"),
        (status = 502, description = "The provider cannot be reached or refuses this server's credentials"),
        (status = 503, description = "No media node takes it, or the provider is asked too often"),
        (status = 504, description = "The provider did not answer, or with a server error: whether the call was placed is not known")))]
pub async fn place(
    State(app): State<Arc<App>>,
    client: Client,
    headers: HeaderMap,
    ApiJson(request): ApiJson<CallRequest>,
) -> Result<Response, ApiError> {
    if app.config.secrets.server_api_keys().is_empty() {
        check_page(&headers, &app.config.http.cors_allowed_origins)?;
    }
    let provider = check(&app, &request)?;
    let public_base = urls::callback_base(&app.config, client.peer, &headers);
    let public_base = public_base.ok_or_else(no_public_host)?;
    let key = idempotency::key(&app, &headers, &client, "calls", &request, IDEMPOTENCY_TTL).await?;
    if let Some(key) = &key
        && let Some(placed) = begun(&app, key).await?
    {
        return Ok(created(placed));
    }
    let machine_detection = request
        .machine_detection
        .unwrap_or(app.config.telephony.machine_detection);
    let wanted = Wanted {
        session_id: ids::session_id(),
        provider,
        body_json: body_json(&request, machine_detection),
        to: request.to,
        from: request.from,
        machine_detection,
        public_base,
    };
    // In a task of its own: a client that goes away must not leave a call behind that nobody has noted.
    let (tell, outcome) = oneshot::channel();
    let tasks = app.tasks.clone();
    tasks.spawn("place a call", async move {
        let outcome = limited(&app, &client, &wanted).await;
        if let Some(key) = &key {
            finish(&app, key, &outcome).await;
        }
        // A client that has gone needs no answer.
        drop(tell.send(outcome));
    });
    outcome.await.map_err(ApiError::internal)?.map(created)
}

fn no_public_host() -> ApiError {
    ApiError::Validation {
        message: "this server does not know where the provider reaches it: set proxy_host to its public host name"
            .to_owned(),
        details: Vec::new(),
    }
}

fn created(placed: PlacedCall) -> Response {
    (StatusCode::CREATED, Data(placed)).into_response()
}

async fn limited(app: &App, client: &Client, wanted: &Wanted) -> Result<PlacedCall, ApiError> {
    client.admit(app, &wanted.session_id).await?;
    match outbound::place(app, wanted).await {
        Ok(call) => Ok(PlacedCall {
            session_id: wanted.session_id.clone(),
            provider: call.provider,
            call_id: call.call_id,
            state: call.state,
        }),
        // It may exist, and then it counts.
        Err(error @ ApiError::GatewayTimeout(_)) => Err(error),
        Err(error) => {
            client.give_back(app, &wanted.session_id).await;
            Err(error)
        }
    }
}

fn check(app: &App, request: &CallRequest) -> Result<Provider, ApiError> {
    let mut details = Vec::new();
    let provider = Provider::from_name(&request.provider);
    if provider.is_some() && served(app, &request.provider).is_err() {
        details.push(FieldError::new(
            "provider",
            "is not the one that runner_transport names",
        ));
    }
    if provider.is_none() {
        let names: Vec<_> = Provider::ALL.iter().map(|provider| provider.name()).collect();
        details.push(FieldError::new(
            "provider",
            format!("must be one of {}", names.join(", ")),
        ));
    }
    for (field, number) in [("to", &request.to), ("from", &request.from)] {
        if !phone::is_e164(number) {
            let message = "must be a phone number in E.164: + and 7 to 15 digits, such as +15550001111";
            details.push(FieldError::new(field, message));
        }
    }
    let allowed = &app.config.telephony.outbound_from;
    if details.is_empty() && !allowed.is_empty() && !allowed.contains(&request.from) {
        details.push(FieldError::new("from", "is not among telephony.outbound_from"));
    }
    match provider {
        Some(provider) if details.is_empty() => Ok(provider),
        Some(_) | None => Err(ApiError::Validation {
            message: "this call cannot be placed".to_owned(),
            details,
        }),
    }
}

/// Template variables: the numbers, the request's body over them, and what tells the media node that this is a call of
/// ours.
fn body_json(request: &CallRequest, machine_detection: bool) -> String {
    let mut variables = serde_json::Map::new();
    variables.insert("from".to_owned(), request.from.clone().into());
    variables.insert("to".to_owned(), request.to.clone().into());
    match &request.body {
        Some(Value::Object(body)) => variables.extend(body.clone()),
        Some(Value::Null) | None => {}
        Some(other) => drop(variables.insert("body".to_owned(), other.clone())),
    }
    variables.insert("direction".to_owned(), "outbound".into());
    variables.insert("machineDetection".to_owned(), machine_detection.into());
    Value::Object(variables).to_string()
}

/// Makes this request the one that works on its key, or answers what another one has come to. For as long as the key
/// counts: of a request that was cut off in the middle nobody knows whether it has placed a call.
async fn begun(app: &App, key: &str) -> Result<Option<PlacedCall>, ApiError> {
    let pending = serde_json::to_string(&Kept::Pending).map_err(ApiError::internal)?;
    if app
        .store
        .advance(key, 0, &pending, IDEMPOTENCY_TTL)
        .await
        .map_err(store_error)?
    {
        return Ok(None);
    }
    let kept = app.store.progress(key).await.map_err(store_error)?;
    // Gone between the two: the other one has failed just now.
    let kept = kept.map_or(Ok(Kept::Pending), |json| serde_json::from_str(&json));
    match kept.map_err(ApiError::internal)? {
        Kept::Placed(placed) => Ok(Some(placed)),
        Kept::Unknown(message) => Err(ApiError::GatewayTimeout(message)),
        Kept::Pending => Err(ApiError::Conflict(
            "another request with this Idempotency-Key is being worked on: ask again in a few seconds; if that does not \
             change it was cut off, and may have placed the call: look at GET /sessions before using another key"
                .to_owned(),
        )),
    }
}

/// Keeps what a key has come to; after a failure that placed nothing it may be used again.
async fn finish(app: &App, key: &str, outcome: &Result<PlacedCall, ApiError>) {
    let kept = match outcome {
        Ok(placed) => Some(Kept::Placed(placed.clone())),
        Err(ApiError::GatewayTimeout(message)) => Some(Kept::Unknown(message.clone())),
        Err(_) => None,
    };
    let stored = match kept {
        Some(kept) => {
            let json = serde_json::to_string(&kept).unwrap_or_default();
            app.store.advance(key, 1, &json, IDEMPOTENCY_TTL).await.map(drop)
        }
        None => app.store.forget_progress(key).await,
    };
    if let Err(error) = stored {
        tracing::warn!(%error, "what an Idempotency-Key has come to could not be kept: it is refused from now on");
    }
}

/// A report about a call, signed by its provider.
#[utoipa::path(post, path = "/telephony/{provider}/status", tag = "telephony",
    params(("provider" = String, Path, description = "As in `/telephony/{provider}`"),
        ("call" = Option<String>, Query, description = "Given to the provider with the call")),
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's report; JSON from Telnyx and Vonage"),
    responses((status = 204, description = "Taken, or about a call that this server did not place"),
        (status = 403, description = "Bad signature, or not a call of this server"), (status = 503, description = "The session store does not answer")))]
pub async fn status(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    webhook: Webhook,
) -> Result<StatusCode, ApiError> {
    let provider = served(&app, &provider)?;
    check_kind(provider, &webhook)?;
    signed::check(&app, provider, &webhook).await.map_err(unproven)?;
    let token = webhook.query.iter().find(|(name, _)| name == CALL_QUERY);
    if let Some((_, token)) = token {
        outbound::report(&app, provider, token, Report::read(provider, &webhook)).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
