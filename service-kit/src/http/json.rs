//! JSON bodies whose rejections name the field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use http::StatusCode;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::ApiError;

/// A JSON request body. Not JSON: 400 with line and column; JSON of another shape: 422 naming the field. The body is
/// read as JSON whatever its `Content-Type` says: clients of the original do not all set it.
///
/// As `Option<ApiJson<T>>` an empty body is `None`.
#[derive(Debug, Clone)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = read(request, state).await?;
        if is_blank(&body) {
            return Err(ApiError::BadRequest(
                "the request body is empty: send a JSON object".to_owned(),
            ));
        }
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let body = read(request, state).await?;
        if is_blank(&body) {
            return Ok(None);
        }
        parse(&body).map(|value| Some(Self(value)))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let limit_bytes = super::layers::body_limit(&request);
    Bytes::from_request(request, state)
        .await
        .map_err(|rejection: BytesRejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::BodyTooLarge { limit_bytes }
            } else {
                ApiError::BadRequest("the request body could not be read to its end".to_owned())
            }
        })
}

fn is_blank(body: &[u8]) -> bool {
    body.iter().all(u8::is_ascii_whitespace)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // A wrong type may be met before the place where the text stops being JSON.
        if let Err(syntax) = serde_json::from_slice::<IgnoredAny>(body) {
            return not_json(&syntax);
        }
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        ApiError::invalid_field(field, without_position(error.inner()))
    })?;
    reader.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::BadRequest(format!("the request body is not valid JSON: {error}"))
}

/// Line and column say nothing when the field is named.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}
