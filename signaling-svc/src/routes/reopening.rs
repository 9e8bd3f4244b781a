//! `/telephony/{provider}/stream/{token}`: what a provider is to do with a call whose stream has ended, or could not be
//! opened. No provider documents that it opens a stream again by itself: it asks here, and is given the same stream as long
//! as its call lives.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use service_kit::http::ApiError;
use session_store::{NODE_HEARTBEAT, NodeRecord, SessionState, StoreError, patiently};

use super::telephony::{check_kind, served};
use crate::app::App;
use crate::outbound;
use crate::telephony::signed::{self, Unproven};
use crate::telephony::{Document, Provider, Stream, Webhook, busy};
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

/// What is next for a call whose stream has ended. While its node waits for it, the stream was cut, and is opened again. A
/// caller whose stream never came about, or whose node has died, hears an apology. Otherwise nothing is next, which ends the
/// call where nobody else has the caller.
#[utoipa::path(post, path = "/telephony/{provider}/stream/{token}", tag = "telephony",
    params(("provider" = String, Path, description = "`twilio`, `telnyx`, `plivo` or `vonage`"),
        ("token" = String, Path, description = "Of the stream; it may be older than its expiry")),
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's request; JSON from Vonage, whose `status` counts"),
    responses((status = 200, description = "A document that connects the stream again, apologises, or is empty", content_type = "text/xml", body = String),
        (status = 204, description = "Vonage: there is nothing to do"),
        (status = 403, description = "Bad signature"), (status = 404, description = "Provider not served")))]
pub async fn next(
    State(app): State<Arc<App>>,
    Path((provider, token)): Path<(String, String)>,
    webhook: Webhook,
) -> Result<Response, ApiError> {
    let provider = served(&app, &provider)?;
    check_kind(provider, &webhook)?;
    match signed::check(&app, provider, &webhook).await {
        Ok(_) => {}
        Err(Unproven::Refused(error)) => return Err(error),
        // An error would be read out to the caller.
        Err(Unproven::StoreAway(error)) => return Ok(nothing_after(provider, &error)),
    }
    match provider {
        Provider::Twilio | Provider::Telnyx | Provider::Plivo if webhook.field("CallStatus") == "completed" => {
            return Ok(busy::nothing(provider));
        }
        Provider::Twilio | Provider::Telnyx | Provider::Plivo => {}
        Provider::Vonage if is_end_of_stream(webhook.field("status")) => {}
        Provider::Vonage => return Ok(busy::nothing(provider)),
        Provider::Exotel => return Err(ApiError::NotFound("Exotel does not ask what is next".to_owned())),
    }
    let claims = app.signer.read(&token).ok();
    let Some(claims) = claims.filter(|claims| claims.provider == provider.name()) else {
        return Ok(busy::nothing(provider));
    };
    let session_id = claims.session_id.as_str();
    let answer = match look(&app, session_id).await {
        Ok(Found::Waiting(node)) => {
            tracing::info!(
                session_id,
                provider = provider.name(),
                "a stream was cut: it is to be opened again"
            );
            let url = format!("{}/telephony/ws/{token}", urls::media_base(&app.config, &node));
            let fallback = fallback(provider, webhook.public_base(), &token);
            let stream = Stream {
                url: &url,
                parameters: &[],
                called: "",
                fallback: &fallback,
            };
            Document::connect(provider, stream).into_response()
        }
        Ok(Found::NeverBegun) => {
            tracing::warn!(
                session_id,
                provider = provider.name(),
                "a stream could not be opened: its caller is turned away"
            );
            if let Err(error) = outbound::clear(&app, session_id).await {
                tracing::debug!(session_id, %error, "its slot is kept until it expires");
            }
            busy::answer(provider, &app.config.telephony)
        }
        Ok(Found::Orphaned) => {
            tracing::warn!(
                session_id,
                provider = provider.name(),
                "the node of a call is gone: its caller is told so"
            );
            busy::answer(provider, &app.config.telephony)
        }
        Ok(Found::Over) => busy::nothing(provider),
        Err(error) => nothing_after(provider, &error),
    };
    Ok(answer)
}

/// What has become of the session of a stream that has ended.
enum Found {
    /// Its node waits for the stream.
    Waiting(NodeRecord),
    /// Its stream was never there.
    NeverBegun,
    /// Its node is gone.
    Orphaned,
    /// It is over, is being ended, or its caller is being put through to somebody else.
    Over,
}

async fn look(app: &App, session_id: &str) -> Result<Found, StoreError> {
    match patiently(|| find(app, session_id)).await? {
        // A store that has just come back hears of its nodes within this time.
        Found::Orphaned => {
            tokio::time::sleep(NODE_HEARTBEAT).await;
            find(app, session_id).await
        }
        found @ (Found::Waiting(_) | Found::NeverBegun | Found::Over) => Ok(found),
    }
}

async fn find(app: &App, session_id: &str) -> Result<Found, StoreError> {
    let Some(session) = app.store.session(session_id).await? else {
        return Ok(Found::Over);
    };
    match session.state {
        SessionState::Created | SessionState::Reserved => return Ok(Found::NeverBegun),
        SessionState::Ending => return Ok(Found::Over),
        SessionState::Connected => {}
    }
    let nodes = app.store.nodes().await?;
    let mut nodes = nodes.into_iter();
    let Some(node) = nodes.find(|node| Some(&node.node_id) == session.node_id.as_ref()) else {
        return Ok(Found::Orphaned);
    };
    match app.nodes.session(&node.control_url, session_id).await {
        Ok(Some(live)) if live.stream_is_over => Ok(Found::Over),
        Ok(None) => Ok(Found::Over),
        // A node that is too busy to say so is asked by the stream itself.
        Ok(Some(_)) | Err(_) => Ok(Found::Waiting(node)),
    }
}

fn nothing_after(provider: Provider, error: &StoreError) -> Response {
    tracing::warn!(provider = provider.name(), %error, "a stream has ended, and what has become of its call is not known");
    busy::nothing(provider)
}

/// Vonage reports everything about the stream's own leg to this URL.
fn is_end_of_stream(status: &str) -> bool {
    matches!(
        status,
        "disconnected" | "failed" | "unanswered" | "timeout" | "rejected" | "busy"
    )
}
