//! Where a process listens: for everybody, and for its operators.
//!
//! With `admin.port` what only operators may use (metrics, drain, log level) is on a listener of its own, which a
//! deployment keeps inside. Without it there is one listener, and those routes are for this machine or take an API key.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use super::error::ApiError;
use super::layers::apply_conventions;
use super::operational::{metrics_routes, probe_routes, versioned};
use super::origin::check_page;
use super::server::{bind, bind_address, serve, serve_public};
use crate::config::{Config, Secrets};
use crate::exit::Fatal;
use crate::health::Readiness;
use crate::tasks::TaskScope;

/// Every route of the operators' listener: who reaches it needs no key.
const ADMIN_OPEN: &[&str] = &["/*"];

/// Headers by which a proxy says whom it speaks for.
const FORWARDING_HEADERS: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// The listeners of a process, bound.
#[derive(Debug)]
pub struct Listeners {
    public: TcpListener,
    admin: Option<TcpListener>,
}

/// What a process serves over HTTP, without conventions applied.
#[derive(Debug)]
pub struct Routes<'a> {
    /// For clients and providers.
    pub public: Router,
    /// For operators, unversioned; served under `/api/v1` too. `/metrics` is added to them.
    pub admin: Router,
    /// Public routes that need no API key, as [`apply_conventions`] takes them.
    pub open: &'a [&'a str],
    /// What `/ready` answers, on both listeners.
    pub readiness: Readiness,
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// Exit status 73 with what to do when a port is taken or not allowed.
    pub fn bind(config: &Config) -> Result<Self, Fatal> {
        let public = bind(&config.http)?;
        let admin = config
            .http
            .admin
            .map(|address| bind_address(address, "admin.port (VOXRAY_ADMIN_PORT)"))
            .transpose()?;
        Ok(Self { public, admin })
    }

    /// Where everybody is listened to.
    pub fn public_address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where operators are listened to, when that is another place.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|admin| admin.local_addr().ok())
    }

    /// Serves the routes under the conventions in tasks of `scope`, as [`serve`] does; the limits on connections are for
    /// everybody, not for operators. `/health` and `/ready` are on both
    /// listeners, for load balancers and for probes. `stop` ends the public one; the operators' goes on until `scope`
    /// is cancelled, for what is still running is probed and measured. Returns the public address.
    ///
    /// # Errors
    /// As [`serve`].
    pub fn serve(
        self,
        routes: Routes<'_>,
        config: &Config,
        scope: &TaskScope,
        stop: CancellationToken,
    ) -> Result<SocketAddr, Fatal> {
        let probes = probe_routes(routes.readiness);
        let metrics = metrics_routes(config.metrics_enabled);
        let admin = versioned(routes.admin);
        let mut public = routes.public.merge(probes.clone());
        match self.admin {
            Some(listener) => {
                let admin = admin.layer(from_fn(refuse_pages));
                let admin = apply_conventions(admin.merge(metrics).merge(probes), config, ADMIN_OPEN);
                let address = serve(listener, admin, None, scope, CancellationToken::new())?;
                tracing::info!(%address, "operators are served here");
            }
            None => {
                let secrets = Arc::clone(&config.secrets);
                let guarded = admin.layer(from_fn_with_state(secrets, require_operator));
                public = public.merge(metrics).merge(guarded);
            }
        }
        let public = apply_conventions(public, config, routes.open);
        serve_public(self.public, public, &config.http, scope, stop)
    }
}

/// On the public listener: with API keys the conventions have asked for one; without, this machine alone is believed.
async fn require_operator(State(secrets): State<Arc<Secrets>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let is_local = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) && !is_forwarded(request.headers());
    if !secrets.server_api_keys().is_empty() {
        return next.run(request).await;
    }
    if !is_local {
        let why = "this route is for operators: call it from this machine, or set admin.port and call it there";
        return ApiError::Forbidden(why.to_owned()).into_response();
    }
    refuse_pages(request, next).await
}

/// Where no key is asked for: an operator's browser may be on somebody else's page.
async fn refuse_pages(request: Request, next: Next) -> Response {
    match check_page(request.headers(), &[]) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    FORWARDING_HEADERS.iter().any(|&name| headers.contains_key(name))
}
