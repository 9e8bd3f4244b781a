//! What one client may start: so many sessions at a time and so many a minute, counted in the session store, so that
//! all instances count together.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use prometheus::IntCounterVec;
use service_kit::http::{ApiError, presented_api_key};
use service_kit::networks::subscriber;
use session_store::Rate;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::error::store_error;
use crate::urls;

const MINUTE: Duration = Duration::from_secs(60);
/// When to ask again for a session that others have to end first: nobody knows.
const SESSION_RETRY: Duration = Duration::from_secs(10);

static REFUSED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    service_kit::metrics::counter_vec(
        "session_starts_limited_total",
        "Starts of sessions refused because a client had used up what it may: sessions_per_key, starts_per_minute, starts_per_minute_per_address.",
        &["limit"],
    )
});

/// Puts every limit at zero, so that a rate can be taken from the first one on.
pub fn declare_metrics() {
    for limit in ["sessions_per_key", "starts_per_minute", "starts_per_minute_per_address"] {
        REFUSED.with_label_values(&[limit]);
    }
}

/// Who asks: named by the API key it presented, and by its address.
#[derive(Debug, Clone)]
pub struct Client {
    /// Names the API key without telling it; clients without a key share one name.
    tenant: String,
    address: Option<IpAddr>,
    /// The other end of the connection, a proxy perhaps.
    pub peer: Option<IpAddr>,
}

impl FromRequestParts<Arc<App>> for Client {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| address.ip());
        // Without keys in the configuration whatever is presented means nothing, and anybody could be many tenants.
        let keyed = !app.config.secrets.server_api_keys().is_empty();
        let key = presented_api_key(&parts.headers).filter(|_| keyed);
        let tenant = key.map_or_else(
            || "everyone".to_owned(),
            |key| {
                let digest = hex::encode(Sha256::digest(key));
                digest.get(..32).unwrap_or(&digest).to_owned()
            },
        );
        Ok(Self {
            tenant,
            address: urls::client_address(&app.config.http.trusted_proxies, peer, &parts.headers),
            peer,
        })
    }
}

impl Client {
    /// The client's name: of its API key, or of everybody without one.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Takes one start from what this client may start, for this session.
    ///
    /// Errors: 429 with `Retry-After` when it is used up; 503 when the store does not answer.
    pub async fn admit(&self, app: &App, session_id: &str) -> Result<(), ApiError> {
        let limits = app.config.limits;
        // The address first: one that asks too often must not use up what all the others may start.
        self.admit_address(app).await?;
        let by_key = format!("key:{}", self.tenant);
        take(app, "starts_per_minute", &by_key, limits.starts_per_minute).await?;
        if limits.sessions_per_key > 0 {
            let most = limits.sessions_per_key;
            let held = app.store.hold_session(&self.tenant, session_id, most).await;
            if !held.map_err(store_error)? {
                return Err(refused("sessions_per_key", SESSION_RETRY));
            }
        }
        Ok(())
    }

    /// Takes one start from what this address may start: all that is known of who has no key and signs nothing.
    ///
    /// Errors: as [`admit`](Self::admit).
    pub async fn admit_address(&self, app: &App) -> Result<(), ApiError> {
        let Some(address) = self.address else { return Ok(()) };
        let by_address = format!("address:{}", subscriber(address));
        let limit = app.config.limits.starts_per_minute_per_address;
        take(app, "starts_per_minute_per_address", &by_address, limit).await
    }

    /// A session that did not come about counts no longer.
    pub async fn give_back(&self, app: &App, session_id: &str) {
        if app.config.limits.sessions_per_key == 0 {
            return;
        }
        if let Err(error) = app.store.drop_session(&self.tenant, session_id).await {
            tracing::debug!(%error, "a session that did not come about counts for a while");
        }
    }
}

async fn take(app: &App, limit: &'static str, allowance: &str, burst: u32) -> Result<(), ApiError> {
    if burst == 0 {
        return Ok(());
    }
    let rate = Rate { burst, window: MINUTE };
    match app.store.take(allowance, rate).await.map_err(store_error)? {
        None => Ok(()),
        Some(wait) => Err(refused(limit, wait)),
    }
}

fn refused(limit: &'static str, retry_after: Duration) -> ApiError {
    REFUSED.with_label_values(&[limit]).inc();
    ApiError::RateLimited { retry_after }
}
