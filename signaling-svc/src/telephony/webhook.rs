//! A provider's request as it came, with everything that may be signed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, OriginalUri, Request};
use axum::http::Method;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use service_kit::http::ApiError;

use crate::app::App;
use crate::urls;

/// Names and values in the order in which they came.
pub type Pairs = Vec<(String, String)>;

/// A webhook. Its body is a form or JSON, whatever the provider sends; the other one is empty.
#[derive(Debug)]
pub struct Webhook {
    /// POST; else GET.
    pub is_post: bool,
    /// Headers.
    pub headers: HeaderMap,
    /// The URL as the provider called it.
    pub url: String,
    /// Path and query as they came.
    pub uri: Uri,
    /// The query, decoded.
    pub query: Pairs,
    /// The body as it came.
    pub body: Bytes,
    /// The form in it, decoded.
    pub form: Pairs,
    /// The JSON in it.
    pub json: Value,
}

impl FromRequest<Arc<App>> for Webhook {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let is_post = request.method() == Method::POST;
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| address.ip());
        let uri = request
            .extensions()
            .get::<OriginalUri>()
            .map_or_else(|| request.uri().clone(), |uri| uri.0.clone());
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, app).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::BodyTooLarge {
                    limit_bytes: app.config.http.max_request_body_bytes,
                }
            } else {
                ApiError::BadRequest("the body of this webhook did not arrive whole".to_owned())
            }
        })?;
        let (form, json) = read_body(&headers, &body)?;
        Ok(Self {
            is_post,
            url: urls::public_url(&app.config, peer, &headers, &uri),
            query: pairs(uri.query().unwrap_or_default().as_bytes()),
            headers,
            uri,
            body,
            form,
            json,
        })
    }
}

impl Webhook {
    /// A field of the form, the JSON object or the query; empty when there is none.
    pub fn field(&self, name: &str) -> &str {
        value_of(&self.form, name)
            .or_else(|| self.json.get(name).and_then(Value::as_str))
            .or_else(|| value_of(&self.query, name))
            .unwrap_or_default()
    }

    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Where the provider reaches this server: scheme, host, and `/api/v1` where it uses that.
    pub fn public_base(&self) -> &str {
        let url = self.base_url();
        let before = url.find("/telephony/").and_then(|at| url.get(..at));
        before.unwrap_or_else(|| url.trim_end_matches('/'))
    }

    /// The URL up to its question mark.
    pub fn base_url(&self) -> &str {
        self.url.split('?').next().unwrap_or(&self.url)
    }
}

fn read_body(headers: &HeaderMap, body: &Bytes) -> Result<(Pairs, Value), ApiError> {
    if body.is_empty() {
        return Ok((Pairs::new(), Value::Null));
    }
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok((pairs(body), Value::Null))
    } else if kind.eq_ignore_ascii_case("application/json") {
        let json = serde_json::from_slice(body);
        json.map(|json| (Pairs::new(), json))
            .map_err(|_| ApiError::BadRequest("the body of this webhook is not JSON".to_owned()))
    } else {
        Err(ApiError::BadRequest(
            "send the provider's webhook as application/x-www-form-urlencoded or application/json".to_owned(),
        ))
    }
}

fn value_of<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str())
}

fn pairs(encoded: &[u8]) -> Pairs {
    form_urlencoded::parse(encoded).into_owned().collect()
}
