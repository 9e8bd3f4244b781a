//! The success envelope and the request id that every answer carries.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;
use serde_json::{Map, Value, json};

tokio::task_local! {
    /// What is known about the request that this task is answering.
    static CURRENT: RequestContext;
}

/// Set by the outermost layer, read by everything that writes an answer.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    /// Id of the request.
    pub(super) id: RequestId,
    /// Whether errors carry a top-level `detail` for pipecat clients.
    pub(super) with_detail: bool,
}

impl RequestContext {
    /// Runs an answer's future with this context.
    pub(super) async fn scope<F: Future>(self, answer: F) -> F::Output {
        CURRENT.scope(self, answer).await
    }

    /// The context of the request being answered, if there is one.
    pub(super) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }
}

/// Longest request id accepted from a client, in characters.
const MAX_REQUEST_ID_CHARS: usize = 128;

/// Id of a request: the client's `X-Request-ID` when it is sane, else a new UUID. Also a request extension and an
/// extractor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

impl RequestId {
    /// Takes the client's id when it is 1 to 128 visible ASCII characters, else makes one.
    pub(super) fn accept_or_make(given: Option<&http::HeaderValue>) -> Self {
        let sane = given
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
            .filter(|id| (1..=MAX_REQUEST_ID_CHARS).contains(&id.len()))
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_graphic()));
        Self(sane.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(current_request_id))
    }
}

/// Id of the request that this task is answering; a new one outside of any request.
pub fn current_request_id() -> RequestId {
    RequestContext::current().map_or_else(|| RequestId::accept_or_make(None), |context| context.id)
}

/// Answers `{"data": T, "meta": {"requestId": …}}`. For another status than 200: `(StatusCode::CREATED, Data(x))`.
#[derive(Debug, Clone)]
pub struct Data<T>(pub T);

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        Json(json!({ "data": to_value(&self.0), "meta": meta() })).into_response()
    }
}

/// Answers one object for both kinds of clients: the fields of `T` at top level (pipecat clients), and again in `data`
/// beside `meta` (the original's clients). `T` must serialize to an object without fields named `data` or `meta`.
#[derive(Debug, Clone)]
pub struct TwoAudiences<T>(pub T);

impl<T: Serialize> IntoResponse for TwoAudiences<T> {
    fn into_response(self) -> Response {
        let data = to_value(&self.0);
        let mut object = match &data {
            Value::Object(fields) => fields.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
        };
        object.insert("data".to_owned(), data);
        object.insert("meta".to_owned(), meta());
        Json(Value::Object(object)).into_response()
    }
}

fn meta() -> Value {
    json!({ "requestId": current_request_id().0 })
}

/// Serializing our own answer types fails only for maps with keys that are not strings, which we do not have.
fn to_value<T: Serialize>(data: &T) -> Value {
    serde_json::to_value(data).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        Value::Null
    })
}
