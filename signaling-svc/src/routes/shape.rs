//! Unversioned routes answer two audiences in one object; `/api/v1` answers the plain envelope.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;
use service_kit::http::{ApiError, Data, TwoAudiences};

use crate::app::App;

/// Which of the two a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `/start`, `/sessions/…`
    Unversioned,
    /// `/api/v1/…`
    V1,
}

impl Shape {
    /// The answer in this shape.
    pub fn answer<T: Serialize>(self, answer: T) -> Response {
        match self {
            Self::Unversioned => TwoAudiences(answer).into_response(),
            Self::V1 => Data(answer).into_response(),
        }
    }
}

/// A session id from the path, in its canonical spelling; 400 when it is no UUID.
#[derive(Debug, Clone)]
pub struct SessionId(pub String);

impl FromRequestParts<Arc<App>> for SessionId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, ApiError> {
        let bad =
            || ApiError::BadRequest("the session id is not a UUID: use the sessionId that /start answered".to_owned());
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| bad())?;
        let id = uuid::Uuid::try_parse(&id).map_err(|_| bad())?;
        Ok(Self(id.to_string()))
    }
}
