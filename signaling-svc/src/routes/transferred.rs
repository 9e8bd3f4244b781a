//! `/telephony/{provider}/transferred/{sealed}`: what has become of a transfer, and what is to be done with a caller whom
//! nobody took. `/telephony/plivo/transfer/{sealed}`: where Plivo fetches whom to dial.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use carriers::{Dial, Origin, TransferSeal, WayBack};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use service_kit::config::TransferNotTaken;
use service_kit::http::ApiError;
use session_store::{NodeRecord, SessionState};
use voxray_proto::control::{ReportTransferRequest, TransferOutcome};

use super::reopening;
use super::telephony::{check_kind, served, unproven};
use crate::app::App;
use crate::telephony::transferred::{self, Transferred};
use crate::telephony::{Document, Provider, Stream, Webhook, signed};
use crate::urls;

/// What Plivo does with a call that is transferred: dials the number that is sealed into the path.
#[utoipa::path(post, path = "/telephony/plivo/transfer/{sealed}", tag = "telephony",
    params(("sealed" = String, Path, description = "Made by this deployment for one transfer; good for two minutes")),
    responses((status = 200, description = "Plivo XML that dials", content_type = "text/xml", body = String),
        (status = 404, description = "Made elsewhere, changed, or too old")))]
pub async fn plivo_dial(State(app): State<Arc<App>>, Path(sealed): Path<String>) -> Result<Response, ApiError> {
    let ring_secs = app.config.telephony.transfer_ring_secs;
    let document = seal(&app)
        .open(&sealed, SystemTime::now())
        .and_then(|Dial { to, report_to }| {
            let way_back = report_to.map(|url| WayBack { url, ring_secs });
            carriers::dial_document(Provider::Plivo, &to, way_back.as_ref())
        })
        .ok_or_else(|| ApiError::NotFound("there is no such transfer, or not any more".to_owned()))?;
    Ok(([(CONTENT_TYPE, "text/xml")], document).into_response())
}

/// What has become of a transfer. Whom nobody took is connected with the agent again, or heard a goodbye
/// (`telephony.transfer_not_taken`).
#[utoipa::path(post, path = "/telephony/{provider}/transferred/{sealed}", tag = "telephony",
    params(("provider" = String, Path, description = "`twilio`, `telnyx`, `plivo` or `vonage`"),
        ("sealed" = String, Path, description = "Made by this deployment for one transfer; good for ten minutes")),
    request_body(content_type = "application/x-www-form-urlencoded", content = String, description = "The provider's report; JSON from Telnyx and Vonage"),
    responses((status = 200, description = "A document that connects the caller again, or ends the call", content_type = "text/xml", body = String),
        (status = 204, description = "Noted; there is nothing to do"), (status = 403, description = "Bad signature"),
        (status = 503, description = "The session store does not answer")))]
pub async fn report(
    State(app): State<Arc<App>>,
    Path((provider, sealed)): Path<(String, String)>,
    webhook: Webhook,
) -> Result<Response, ApiError> {
    let provider = served(&app, &provider)?;
    check_kind(provider, &webhook)?;
    signed::check(&app, provider, &webhook).await.map_err(unproven)?;
    let origin: Option<Origin> = seal(&app).open(&sealed, SystemTime::now());
    let origin = origin.filter(|origin| transferred::is_about(provider, &webhook, &origin.call_id));
    let caller = origin.as_ref().map(|origin| origin.call_id.as_str());
    let outcome = Transferred::read(provider, &webhook, caller);
    let ends = match outcome {
        Transferred::Taken | Transferred::Over => Some(TransferOutcome::Taken),
        Transferred::CallerGone => Some(TransferOutcome::CallerGone),
        Transferred::NotTaken(_) | Transferred::Nothing => None,
    };
    if let (Some(ends), Some(origin)) = (ends, &origin) {
        tell(&app, origin, ends, "", "").await;
    }
    let document = match (outcome, origin) {
        (Transferred::NotTaken(why), Some(origin)) => {
            not_taken(&app, provider, webhook.public_base(), &origin, why).await
        }
        // Too late, or made up: the caller is left with nobody.
        (Transferred::NotTaken(_), None) => goodbye(&app, provider),
        (Transferred::Over | Transferred::CallerGone, _) => transferred::hang_up(provider),
        (Transferred::Taken | Transferred::Nothing, _) => None,
    };
    Ok(match document {
        Some(document) => document.into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// The document for a caller whom nobody took: the stream of the same call once more. Its token counts again, because
/// the media node knows that the caller is being put through.
async fn not_taken(app: &App, provider: Provider, public_base: &str, origin: &Origin, why: &str) -> Option<Document> {
    let polite = app.config.telephony.transfer_not_taken == TransferNotTaken::Goodbye;
    if polite && let Some(document) = goodbye(app, provider) {
        tell(app, origin, TransferOutcome::Taken, "", "").await;
        return Some(document);
    }
    let last_words = if polite {
        app.config.telephony.busy_message.as_str()
    } else {
        ""
    };
    let Some(node) = tell(app, origin, TransferOutcome::NotTaken, why, last_words).await else {
        return goodbye(app, provider);
    };
    let url = format!("{}/telephony/ws/{}", urls::media_base(&app.config, &node), origin.token);
    let fallback = reopening::fallback(provider, public_base, &origin.token);
    let stream = Stream {
        url: &url,
        parameters: &[],
        called: "",
        fallback: &fallback,
    };
    match provider {
        Provider::Twilio | Provider::Plivo | Provider::Vonage => Some(Document::connect(provider, stream)),
        // Its stream has never ended.
        Provider::Telnyx | Provider::Exotel => None,
    }
}

fn goodbye(app: &App, provider: Provider) -> Option<Document> {
    transferred::say_goodbye(provider, &app.config.telephony.busy_message)
}

/// Tells the node that has the call; answers which that is, unless the call is over.
async fn tell(
    app: &App,
    origin: &Origin,
    outcome: TransferOutcome,
    reason: &str,
    last_words: &str,
) -> Option<NodeRecord> {
    let session_id = origin.session_id.as_str();
    let node = match owner(app, session_id).await {
        Ok(node) => node?,
        Err(error) => {
            tracing::warn!(session_id, %error, "what became of a transfer is lost");
            return None;
        }
    };
    let request = ReportTransferRequest {
        session_id: session_id.to_owned(),
        outcome: outcome.into(),
        reason: reason.to_owned(),
        last_words: last_words.to_owned(),
    };
    match app.nodes.report_transfer(&node.control_url, request).await {
        Ok(()) => Some(node),
        Err(status) => {
            tracing::debug!(session_id, code = ?status.code(), "a transfer whose call is over");
            None
        }
    }
}

async fn owner(app: &App, session_id: &str) -> Result<Option<NodeRecord>, ApiError> {
    let record = app
        .store
        .session(session_id)
        .await
        .map_err(crate::error::store_error)?
        .filter(|record| record.state == SessionState::Connected);
    match record.and_then(|record| record.node_id) {
        Some(node_id) => app.node(&node_id).await.map_err(|error| error.into_api("id")),
        None => Ok(None),
    }
}

fn seal(app: &App) -> TransferSeal {
    TransferSeal::new(&app.config.links.service_token)
}
