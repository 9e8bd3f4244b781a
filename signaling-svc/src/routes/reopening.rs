//! `/telephony/{provider}/stream/{token}`: what a provider is to do with a call whose stream has ended, or could not be
//! opened. No provider documents that it opens a stream again by itself: it asks here, and is given the same stream as long
//! as its call lives.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use service_kit::http::ApiError;
use session_store::SessionState;

use super::telephony::{check_kind, served, unproven};
use super::transferred::owner;
use crate::app::App;
use crate::error::store_error;
use crate::telephony::{Document, Provider, Stream, Webhook, busy, signed};
use crate::urls;

/// Where a provider asks what is next when the stream of this token has ended; empty for one that does not ask.
pub(super) fn fallback(provider: Provider, public_base: &str, token: &str) -> String {
    match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Plivo | Provider::Vonage => {
            format!("{public_base}/telephony/{}/stream/{token}", provider.name())
        }
        // Its flow goes on with the next applet, whatever that is.
        Provider::Exotel => String::new(),
    }
}

/// What is next for a call whose stream has ended. While the call lives, the stream was cut, and is opened again: the node
/// that has the call takes it back. A caller whose stream never came about hears an apology. Else the call is over.
#[utoipa::path(post, path = "/telephony/{provider}/stream/{token}", tag = "telephony",
    params(("provider" = String, Path, description = "`twilio`, `telnyx`, `plivo` or `vonage`"),
        ("token" = String, Path, description = "Of the stream; it may be older than its expiry")),
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's request; JSON from Vonage, whose `status` counts"),
    responses((status = 200, description = "A document that connects the stream again, apologises, or ends the call", content_type = "text/xml", body = String),
        (status = 204, description = "Vonage: an event after which there is nothing to do"),
        (status = 403, description = "Bad signature"), (status = 404, description = "Provider not served"),
        (status = 503, description = "The session store does not answer")))]
pub async fn next(
    State(app): State<Arc<App>>,
    Path((provider, token)): Path<(String, String)>,
    webhook: Webhook,
) -> Result<Response, ApiError> {
    let provider = served(&app, &provider)?;
    check_kind(provider, &webhook)?;
    signed::check(&app, provider, &webhook).await.map_err(unproven)?;
    match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Plivo => {}
        Provider::Vonage if is_end_of_stream(webhook.field("status")) => {}
        Provider::Vonage => return Ok(StatusCode::NO_CONTENT.into_response()),
        Provider::Exotel => return Err(ApiError::NotFound("Exotel does not ask what is next".to_owned())),
    }
    let claims = app.signer.read(&token).ok();
    let Some(claims) = claims.filter(|claims| claims.provider == provider.name()) else {
        return Ok(busy::hang_up(provider));
    };
    let session_id = claims.session_id;
    if let Some(node) = owner(&app, &session_id).await? {
        tracing::info!(%session_id, provider = provider.name(), "a stream has ended before its call: it is to be opened again");
        let url = format!("{}/telephony/ws/{token}", urls::media_base(&app.config, &node));
        let fallback = fallback(provider, webhook.public_base(), &token);
        let stream = Stream {
            url: &url,
            parameters: &[],
            called: "",
            fallback: &fallback,
        };
        return Ok(Document::connect(provider, stream).into_response());
    }
    let session = app.store.session(&session_id).await.map_err(store_error)?;
    if session.is_some_and(|session| session.state == SessionState::Reserved) {
        tracing::warn!(%session_id, provider = provider.name(), "a stream could not be opened: its caller is turned away");
        return Ok(busy::answer(provider, &app.config.telephony));
    }
    Ok(busy::hang_up(provider))
}

/// Vonage reports everything about the stream's own leg to this URL.
fn is_end_of_stream(status: &str) -> bool {
    matches!(
        status,
        "disconnected" | "failed" | "unanswered" | "timeout" | "rejected" | "busy"
    )
}
