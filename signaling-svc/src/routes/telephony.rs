//! `POST /telephony/{provider}` and `POST /`: the webhook of an incoming phone call.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, FromRequestParts, OriginalUri, Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value};
use service_kit::http::ApiError;
use service_kit::ids;
use voxray_proto::control::Transport;

use crate::app::{App, NewSession};
use crate::telephony::{TWILIO, signature, twiml};
use crate::urls;

/// How long a slot waits for the provider's media stream, which follows the answer within a second or two.
const SLOT_TTL: Duration = Duration::from_secs(60);

/// What callers hear when nobody can take their call.
const APOLOGY: &str = "We are sorry, we cannot take your call right now. Please call again in a few minutes.";

type Pairs = Vec<(String, String)>;

/// Who calls, and by which URL.
pub struct Caller {
    peer: Option<IpAddr>,
    headers: HeaderMap,
    uri: Uri,
    /// Query of the webhook's URL: what the operator wants the agent to know.
    custom: Pairs,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, ApiError> {
        let Query(custom) = Query::<Pairs>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::BadRequest("the query of the URL cannot be read".to_owned()))?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self {
            peer: peer.map(|ConnectInfo(address)| address.ip()),
            headers: parts.headers.clone(),
            uri: parts
                .extensions
                .get::<OriginalUri>()
                .map_or_else(|| parts.uri.clone(), |uri| uri.0.clone()),
            custom,
        })
    }
}

/// The webhook of one provider, by its own path.
#[utoipa::path(post, path = "/telephony/{provider}", tag = "telephony", params(("provider" = String, Path, description = "`twilio`")),
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "Twilio's voice webhook"),
    responses((status = 200, description = "TwiML that connects the call to a media stream, or an apology", content_type = "text/xml", body = String),
        (status = 403, description = "Bad signature"), (status = 404, description = "Provider not served")))]
pub async fn webhook(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    caller: Caller,
    form: Result<Form<Pairs>, FormRejection>,
) -> Result<Response, ApiError> {
    let only = &app.config.telephony.runner_transport;
    if provider != TWILIO || !(only.is_empty() || only == TWILIO) {
        return Err(ApiError::NotFound(
            "this server does not take calls of this provider".to_owned(),
        ));
    }
    twilio(&app, &caller, form).await
}

/// The webhook of the provider named by `runner_transport`.
#[utoipa::path(post, path = "/", tag = "telephony",
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's webhook"),
    responses((status = 200, description = "As `/telephony/{provider}`", content_type = "text/xml", body = String),
        (status = 403, description = "Bad signature"), (status = 404, description = "`runner_transport` names no provider that is served")))]
pub async fn configured(
    State(app): State<Arc<App>>,
    caller: Caller,
    form: Result<Form<Pairs>, FormRejection>,
) -> Result<Response, ApiError> {
    if app.config.telephony.runner_transport != TWILIO {
        return Err(ApiError::NotFound(
            "no phone provider is served here: set runner_transport, or post to /telephony/twilio".to_owned(),
        ));
    }
    twilio(&app, &caller, form).await
}

async fn twilio(app: &App, caller: &Caller, form: Result<Form<Pairs>, FormRejection>) -> Result<Response, ApiError> {
    let Form(form) = form.map_err(|rejection| refused_form(app, &rejection))?;
    check_signature(app, caller, &form)?;
    let new = NewSession {
        session_id: ids::session_id(),
        transport: Transport::Telephony,
        provider: TWILIO.to_owned(),
        call_id: field(&form, "CallSid").to_owned(),
        body_json: variables(&caller.custom, &form),
    };
    let document = match app.reserve(&new, SLOT_TTL).await {
        Ok(node) => {
            // Twilio allows no query in a stream's URL: the token is the last segment of the path. Numbers of callers
            // stay out of it, because URLs end up in logs.
            let token = app.token(&new, &variables(&caller.custom, &[]));
            let url = format!("{}/telephony/ws/{token}", urls::media_base(&app.config, &node));
            twiml::connect_stream(&url, &caller.custom)
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(session_id = %new.session_id, error, "a phone call was turned away");
            twiml::say_and_hang_up(APOLOGY)
        }
    };
    Ok(([(CONTENT_TYPE, "text/xml")], document).into_response())
}

fn refused_form(app: &App, rejection: &FormRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::BodyTooLarge {
            limit_bytes: app.config.http.max_request_body_bytes,
        }
    } else {
        ApiError::BadRequest("send the provider's webhook as application/x-www-form-urlencoded".to_owned())
    }
}

/// Checked as soon as the auth token is known, unless that was switched off.
fn check_signature(app: &App, caller: &Caller, form: &[(String, String)]) -> Result<(), ApiError> {
    let config = &app.config;
    let Some(auth_token) = config.secrets.api_key(TWILIO).filter(|token| !token.is_empty()) else {
        return Ok(());
    };
    if !config.telephony.verify_signatures {
        return Ok(());
    }
    let url = urls::public_url(config, &app.trusted_proxies, caller.peer, &caller.headers, &caller.uri);
    let given = caller
        .headers
        .get("x-twilio-signature")
        .and_then(|value| value.to_str().ok());
    if given.is_some_and(|given| signature::is_valid(&auth_token, &url, form, given)) {
        return Ok(());
    }
    // The query may hold anything an operator put there.
    let checked = url.split('?').next().unwrap_or(&url);
    tracing::warn!(
        url = checked,
        signed = given.is_some(),
        "a Twilio webhook was refused: its signature does not fit this URL and api_keys.twilio; behind a proxy set proxy_host or telephony.trusted_proxies"
    );
    Err(ApiError::Forbidden(
        "the signature of this webhook is missing or wrong".to_owned(),
    ))
}

/// Template variables of the call as a JSON object: the webhook's query, and `from` and `to` of the call.
fn variables(custom: &[(String, String)], form: &[(String, String)]) -> String {
    let numbers = [("from", "From"), ("to", "To")];
    let numbers = numbers.map(|(name, field_name)| (name.to_owned(), field(form, field_name).to_owned()));
    let numbers = numbers.into_iter().filter(|(_, value)| !value.is_empty());
    let all = numbers.chain(custom.iter().cloned());
    let object: Map<_, _> = all.map(|(name, value)| (name, Value::String(value))).collect();
    if object.is_empty() {
        String::new()
    } else {
        Value::Object(object).to_string()
    }
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}
