//! `/telephony/{provider}` and `POST /`: the webhook of a phone call.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use service_kit::http::ApiError;
use service_kit::ids;
use session_store::{NodeRecord, SessionState};
use voxray_proto::control::Transport;

use super::reopening;
use crate::app::{App, NewSession};
use crate::error::{PlaceError, store_error};
use crate::limits::Client;
use crate::outbound;
use crate::telephony::signed::{self, Proof, Unproven};
use crate::telephony::{CALL_QUERY, CallFacts, Document, Provider, Stream, Webhook, busy, custom_parameters, exotel};
use crate::urls;

/// How long a slot waits for the provider's media stream, which follows the answer within a second or two.
const SLOT_TTL: Duration = Duration::from_secs(60);

/// The webhook of one provider, by its own path.
#[utoipa::path(post, path = "/telephony/{provider}", tag = "telephony",
    params(("provider" = String, Path, description = "`twilio`, `telnyx`, `plivo`, `exotel` or `vonage`")),
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's webhook; JSON from Vonage. GET takes the same fields in the query."),
    responses((status = 200, description = "A document that connects the call to a media stream (TwiML, TeXML, Plivo XML, an NCCO, Exotel's JSON), or a polite refusal", content_type = "text/xml", body = String),
        (status = 403, description = "Bad, old or repeated signature"), (status = 404, description = "Provider not served"),
        (status = 503, description = "Exotel only: no media node takes the call")))]
pub async fn webhook(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    client: Client,
    webhook: Webhook,
) -> Result<Response, ApiError> {
    take(&app, served(&app, &provider)?, &client, &webhook).await
}

/// The webhook of the provider named by `runner_transport`.
#[utoipa::path(post, path = "/", tag = "telephony",
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's webhook"),
    responses((status = 200, description = "As `/telephony/{provider}`", content_type = "text/xml", body = String),
        (status = 403, description = "Bad signature"), (status = 404, description = "`runner_transport` names no provider that is served")))]
pub async fn configured(State(app): State<Arc<App>>, client: Client, webhook: Webhook) -> Result<Response, ApiError> {
    let provider = app.config.telephony.runner_transport.as_str();
    if provider.is_empty() {
        return Err(ApiError::NotFound(
            "no phone provider is served here: set runner_transport, or post to /telephony/{provider}".to_owned(),
        ));
    }
    take(&app, served(&app, provider)?, &client, &webhook).await
}

/// The provider by its name in the path, if this server takes its calls.
pub(super) fn served(app: &App, name: &str) -> Result<Provider, ApiError> {
    let only = &app.config.telephony.runner_transport;
    let provider = Provider::from_name(name).filter(|_| only.is_empty() || only == name);
    provider.ok_or_else(|| {
        ApiError::NotFound(if name == "genesys" {
            "Genesys AudioHook sends no webhook: point the integration at the media socket, wss://HOST/telephony/genesys/ws"
                .to_owned()
        } else {
            "this server does not take calls of this provider".to_owned()
        })
    })
}

/// Refuses a body that the provider does not send, because its signature would not cover it.
pub(super) fn check_kind(provider: Provider, webhook: &Webhook) -> Result<(), ApiError> {
    let wants_form = match provider {
        Provider::Twilio | Provider::Plivo => true,
        // Exotel signs nothing: its secret is in the URL.
        Provider::Telnyx | Provider::Vonage | Provider::Exotel => false,
    };
    if wants_form && !webhook.json.is_null() {
        return Err(ApiError::BadRequest(
            "send the provider's webhook as application/x-www-form-urlencoded".to_owned(),
        ));
    }
    Ok(())
}

/// Why a caller hears an apology.
#[derive(Debug, thiserror::Error)]
enum TurnedAway {
    #[error("its webhook is not checked, and its address may start no more (limits.starts_per_minute_per_address)")]
    NotAdmitted(#[source] ApiError),
    #[error(transparent)]
    NotPlaced(#[from] PlaceError),
}

async fn take(app: &Arc<App>, provider: Provider, client: &Client, webhook: &Webhook) -> Result<Response, ApiError> {
    check_kind(provider, webhook)?;
    // Whom no provider vouches for is anybody.
    let anybody = match signed::check(app, provider, webhook).await {
        Ok(Proof::Signed) => None,
        Ok(Proof::Unchecked) => Some(client),
        Err(Unproven::Refused(error)) => return Err(error),
        Err(Unproven::StoreAway(error)) => {
            tracing::warn!(%error, "a phone call was turned away");
            return Ok(busy::answer(provider, &app.config.telephony));
        }
    };
    if provider == Provider::Telnyx && !webhook.json.is_null() {
        return Err(ApiError::BadRequest(
            "this is an event of a Voice API application: give the number to a TeXML application".to_owned(),
        ));
    }
    let facts = CallFacts::read(provider, webhook);
    let custom = custom_parameters(provider, webhook);
    let placed = match outbound_token(app, provider, webhook) {
        Some(token) => match outbound::answered(app, provider, token, &facts).await? {
            Some(placed) => placed.map(|placed| stream_url(app, &placed)).map_err(TurnedAway::from),
            None => return Ok(busy::hang_up(provider)),
        },
        None => incoming(app, provider, anybody, &facts, &custom).await,
    };
    let answer = match placed {
        Ok(url) => {
            let token = url.rsplit('/').next().unwrap_or_default();
            let fallback = reopening::fallback(provider, webhook.public_base(), token);
            let stream = Stream {
                url: &url,
                parameters: &custom,
                called: &facts.to,
                fallback: &fallback,
            };
            Document::connect(provider, stream).into_response()
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(provider = provider.name(), error, "a phone call was turned away");
            busy::answer(provider, &app.config.telephony)
        }
    };
    Ok(answer)
}

/// What `POST /calls` gave the provider, if this call is one of ours.
///
/// An operator's own flow may put something else where Exotel brings it back; such a call is like any other.
fn outbound_token<'a>(app: &App, provider: Provider, webhook: &'a Webhook) -> Option<&'a str> {
    let own = webhook.query.iter().find(|(name, _)| name == CALL_QUERY);
    let own = own.map(|(_, token)| token.as_str());
    let reference = Some(webhook.field(exotel::REFERENCE)).filter(|_| provider == Provider::Exotel);
    let reference = reference.filter(|reference| outbound::is_reference(app, provider, reference));
    own.or(reference).filter(|token| !token.is_empty())
}

/// A session, its node, and what of its body goes into the stream's token.
pub type Placed = Result<(NewSession, NodeRecord, String), PlaceError>;

/// Ends with the stream's token.
fn stream_url(app: &App, (new, node, in_token): &(NewSession, NodeRecord, String)) -> String {
    let token = app.token(new, in_token);
    format!("{}/telephony/ws/{token}", urls::media_base(&app.config, node))
}

/// The stream's URL for a call that comes in. Providers ask again when the answer is late, of any instance: as long as
/// nobody has opened the stream they are answered the same. What `anybody` starts is counted, once for each call.
async fn incoming(
    app: &App,
    provider: Provider,
    anybody: Option<&Client>,
    facts: &CallFacts,
    custom: &[(String, String)],
) -> Result<String, TurnedAway> {
    let known = (!facts.call_id.is_empty()).then(|| format!("incoming:{}:{}", provider.name(), facts.call_id));
    // A store that does not answer is told of by the placement.
    if let Some(known) = &known
        && let Ok(Some(url)) = waiting(app, known).await
    {
        return Ok(url);
    }
    if let Some(client) = anybody {
        client.admit_address(app).await.map_err(TurnedAway::NotAdmitted)?;
    }
    let placed = place(app, provider, facts, custom).await?;
    let url = stream_url(app, &placed);
    let Some(known) = &known else { return Ok(url) };
    let (new, node, _) = &placed;
    let answer = format!("{} {url}", new.session_id);
    let is_first = app.store.advance(known, 0, &answer, SLOT_TTL).await;
    if is_first.unwrap_or(true) {
        return Ok(url);
    }
    // The same call was being placed elsewhere, and that was faster.
    let Ok(Some(first)) = waiting(app, known).await else {
        return Ok(url);
    };
    app.release(node, &new.session_id).await;
    if let Err(error) = app.store.remove_session(&new.session_id).await {
        tracing::debug!(%error, "the second session of a call is left to expire");
    }
    Ok(first)
}

/// The stream's URL that was answered about a call before, while its session waits for the stream on a node that lives.
async fn waiting(app: &App, known: &str) -> Result<Option<String>, PlaceError> {
    let kept = app.store.progress(known).await?;
    let Some((session_id, url)) = kept.as_deref().and_then(|kept| kept.split_once(' ')) else {
        return Ok(None);
    };
    let session = app.store.session(session_id).await?;
    let reserved = session.filter(|session| session.state == SessionState::Reserved);
    if let Some(node_id) = reserved.and_then(|session| session.node_id)
        && app.node(&node_id).await?.is_some()
    {
        return Ok(Some(url.to_owned()));
    }
    // The call has been here, and its flow has brought it once more.
    app.store.forget_progress(known).await?;
    Ok(None)
}

async fn place(app: &App, provider: Provider, facts: &CallFacts, custom: &[(String, String)]) -> Placed {
    let new = NewSession {
        session_id: ids::session_id(),
        transport: Transport::Telephony,
        provider: provider.name().to_owned(),
        call_id: facts.call_id.clone(),
        body_json: variables(custom, &[("from", &facts.from), ("to", &facts.to)]),
    };
    let node = app.reserve(&new, SLOT_TTL).await?;
    // Numbers of callers stay out of it, because URLs end up in logs. Exotel's URLs are short.
    let in_token = match provider {
        Provider::Exotel => String::new(),
        Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Vonage => variables(custom, &[]),
    };
    Ok((new, node, in_token))
}

/// Template variables of the call as a JSON object: the numbers, and what the operator wrote into the webhook's URL.
fn variables(custom: &[(String, String)], numbers: &[(&str, &str)]) -> String {
    let numbers = numbers.iter().filter(|(_, value)| !value.is_empty());
    let numbers = numbers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let all = numbers.chain(custom.iter().cloned());
    let object: Map<_, _> = all.map(|(name, value)| (name, Value::String(value))).collect();
    if object.is_empty() {
        String::new()
    } else {
        Value::Object(object).to_string()
    }
}

/// A webhook that could not be proven, where nobody is on the line.
pub(super) fn unproven(error: Unproven) -> ApiError {
    match error {
        Unproven::Refused(error) => error,
        Unproven::StoreAway(error) => store_error(error),
    }
}
