//! The control plane: sessions, placement on media nodes, offers, phone webhooks. It owns nothing: everything that
//! must outlive a request is in the session store, so that any instance answers any request.

mod app;
mod archive;
mod error;
mod limits;
mod nodes;
mod outbound;
mod placement;
mod routes;
mod telephony;
mod urls;
mod watch;

use std::sync::Arc;

use axum::Router;
use carriers::Carriers;
use service_kit::config::Config;
use service_kit::exit::Fatal;
use service_kit::health::Readiness;
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use service_kit::token::TokenSigner;
use session_store::Store;

use crate::app::App;
use crate::archive::Archive;
use crate::nodes::MediaNodes;

/// Routes that need no API key, for [`service_kit::http::apply_conventions`]: the API's documentation, the files of the
/// console page (which asks for the key itself), and the phone webhooks, which the provider signs.
pub const OPEN_ROUTES: &[&str] = &[
    "GET /",
    "GET /console",
    "GET /console/*",
    "GET /openapi.json",
    "GET /swagger",
    "GET /swagger/*",
    "GET /telephony/*",
    "POST /telephony/*",
    "POST /",
];

/// A running instance of the control plane.
pub struct Signaling {
    app: Arc<App>,
    readiness: Readiness,
}

impl Signaling {
    /// Starts the watch over store and media nodes, which keeps `readiness` and the gauges true from the first moment.
    /// Services that share a port share one `readiness`.
    ///
    /// Errors: an `archiver_url` that is none, or an account of a phone provider that cannot be used (exit status 64). A store that does not answer is no error: the
    /// instance is not ready until it does.
    pub async fn start(
        config: Arc<Config>,
        store: Arc<dyn Store>,
        readiness: Readiness,
        scope: TaskScope,
        shutdown: Shutdown,
    ) -> Result<Self, Fatal> {
        app::declare_metrics();
        limits::declare_metrics();
        telephony::signed::declare_metrics();
        let app = Arc::new(App {
            signer: TokenSigner::new(config.links.service_token.clone()),
            archive: Archive::new(&config.links)?,
            tasks: scope.child("signaling requests"),
            carriers: Carriers::from_config(&config)?,
            nodes: Arc::new(MediaNodes::new(&config.links)?),
            store,
            config,
        });
        warn_about_open_webhooks(&app);
        warn_about_open_archive(&app.config);
        watch::refresh(&app, &readiness).await;
        let watching = watch::run(Arc::clone(&app), readiness.clone(), scope.token(), shutdown);
        scope.spawn("signaling watch", watching);
        Ok(Self { app, readiness })
    }

    /// All routes of the control plane except `/health`, `/ready` and `/metrics`, with state and without conventions:
    /// merge it with [`service_kit::http::operational_routes`] and give the result to
    /// [`service_kit::http::apply_conventions`] together with [`OPEN_ROUTES`].
    pub fn router(&self) -> Router {
        routes::router(Arc::clone(&self.app))
    }

    /// What `/ready` answers.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }
}

fn warn_about_open_archive(config: &Config) {
    let is_public = config.telephony.proxy_host.is_some();
    if is_public && config.secrets.server_api_keys().is_empty() && config.transcripts.enable {
        tracing::warn!(
            "anyone who reaches this server can read, hear and erase archived calls: set server_api_key (and \
             VOXRAY_SERVER_API_KEY for clients)"
        );
    }
}

/// Unset secrets of providers that nobody uses are no reason to worry: only what the configuration says is in use is
/// asked for.
fn warn_about_open_webhooks(app: &App) {
    let config = &app.config;
    if !config.telephony.verify_signatures {
        // Warned about when the configuration was read.
        return;
    }
    let is_public = !config.secrets.server_api_keys().is_empty();
    for provider in telephony::Provider::ALL {
        let only = config.telephony.runner_transport.as_str();
        let (in_use, setting) = (only == provider.name(), telephony::signed::setting(provider));
        if (in_use || (is_public && only.is_empty())) && !telephony::signed::are_checked(app, provider) {
            tracing::warn!(
                provider = provider.name(),
                "phone webhooks of this provider are open: set {setting} to have their signatures checked, or \
                 runner_transport to the one provider you use"
            );
        }
    }
}
