//! One service of a deployment each: `voxray signaling`, `voxray media`, `voxray archiver`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use archiver_svc::Archiver;
use axum::Router;
use media_svc::{Media, MediaListeners};
use service_kit::config::{Config, StoreKind};
use service_kit::exit::{self, Fatal};
use service_kit::health::Readiness;
use service_kit::http::{self, Listeners, Routes};
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use session_store::Store;
use signaling_svc::Signaling;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::settings::{self, Settings};

/// What every service has.
struct Process {
    scope: TaskScope,
    /// Hears signals until the very end: the second one hurries whatever is being waited for.
    signals: TaskScope,
    shutdown: Shutdown,
    stop_listening: CancellationToken,
}

impl Process {
    fn new(name: &'static str, settings: &Settings) -> Result<Self, Fatal> {
        let process = Self {
            scope: TaskScope::root(name),
            signals: TaskScope::root(name),
            shutdown: Shutdown::new(),
            stop_listening: CancellationToken::new(),
        };
        settings::reload_on(settings::hangups()?, settings, &process.scope);
        let (shutdown, ended) = (process.shutdown.clone(), process.signals.token());
        process.signals.spawn("signals", async move {
            tokio::select! {
                result = shutdown.listen_to_signals() => if let Err(error) = result {
                    tracing::error!(%error, "signals cannot be heard: stop this process with SIGKILL");
                },
                () = ended.cancelled() => {}
            }
        });
        service_kit::metrics::announce(name, env!("CARGO_PKG_VERSION"));
        service_kit::trace::init(&settings.config.otlp, name, env!("CARGO_PKG_VERSION"))?;
        Ok(process)
    }

    /// What this process serves: the service's own routes, and what operators may do.
    fn routes<'a>(&self, public: Router, readiness: Readiness, open: &'a [&'a str]) -> Routes<'a> {
        Routes {
            public,
            admin: admin::routes(self.shutdown.clone()),
            open,
            readiness,
        }
    }

    /// Ends everything that is left; a second signal does not wait for requests that still run.
    async fn end(self) {
        self.stop_listening.cancel();
        self.scope.cancel();
        tokio::select! {
            () = self.scope.join() => {}
            () = self.shutdown.hurried() => {}
        }
        self.signals.cancel();
        service_kit::trace::flush().await;
        tracing::info!("stopped");
    }
}

/// The control plane: stateless, any number of instances.
pub async fn signaling(settings: Settings) -> Result<(), Fatal> {
    let config = settings.config.clone();
    let store = connect_store(&config).await?;
    let listeners = Listeners::bind(&config)?;
    let process = Process::new("signaling-svc", &settings)?;
    let readiness = Readiness::new();
    let scope = process.scope.child("signaling");
    let service = Signaling::start(config.clone(), store, readiness, scope, process.shutdown.clone()).await?;
    let routes = process.routes(service.router(), service.readiness(), signaling_svc::OPEN_ROUTES);
    let address = listeners.serve(routes, &config, &process.scope, process.stop_listening.clone())?;
    tracing::info!(%address, "signaling-svc is listening");
    process.shutdown.draining().await;
    process.end().await;
    Ok(())
}

/// A media node.
pub async fn media(settings: Settings) -> Result<(), Fatal> {
    let config = settings.config.clone();
    let store = connect_store(&config).await?;
    let http_listeners = Listeners::bind(&config)?;
    let control_address = SocketAddr::new(config.http.host, config.media.control_port);
    let control = http::bind_address(control_address, "media.control_port (VOXRAY_MEDIA_CONTROL_PORT)")?;
    let public = http_listeners
        .public_address()
        .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, config.http.port)));
    let agent = media_svc::providers::build(&config).await?;
    let process = Process::new("media-svc", &settings)?;
    let listeners = MediaListeners { public, control };
    let scope = process.scope.child("media");
    let service = Media::start(config.clone(), store, agent, listeners, scope, process.shutdown.clone()).await?;
    let routes = process.routes(service.router(), service.readiness(), media_svc::OPEN_ROUTES);
    let address = http_listeners.serve(routes, &config, &process.scope, process.stop_listening.clone())?;
    tracing::info!(%address, "media-svc is listening");
    process.shutdown.draining().await;
    service.drain().await;
    // A balancer that still leads sockets here has to lead them elsewhere: passed on, each would keep this node.
    process.stop_listening.cancel();
    service.finish_relays().await;
    process.end().await;
    Ok(())
}

/// The archive.
pub async fn archiver(settings: Settings) -> Result<(), Fatal> {
    let config = settings.config.clone();
    let listeners = Listeners::bind(&config)?;
    let ingest_address = SocketAddr::new(config.http.host, config.archiver.port);
    let ingest = http::bind_address(ingest_address, "archiver.port (VOXRAY_ARCHIVER_PORT)")?;
    let process = Process::new("archiver-svc", &settings)?;
    let scope = process.scope.child("archiver");
    let service = Archiver::start(config.clone(), ingest, scope, process.shutdown.clone()).await?;
    let routes = process.routes(Router::new(), service.readiness(), &[]);
    let address = listeners.serve(routes, &config, &process.scope, process.stop_listening.clone())?;
    tracing::info!(%address, "archiver-svc is listening");
    process.shutdown.draining().await;
    service.stopped().await;
    process.end().await;
    Ok(())
}

async fn connect_store(config: &Config) -> Result<Arc<dyn Store>, Fatal> {
    if config.store.kind == StoreKind::Memory {
        return Err(Fatal::new(
            exit::CONFIG,
            "session_store is \"memory\", which only `voxray serve` can use",
            "set session_store=redis and redis_url, the same for all services; or run `voxray serve`",
        ));
    }
    session_store::open(&config.store.kind).await
}

/// For a process that cannot hear signals.
pub(crate) fn no_signals(error: std::io::Error) -> Fatal {
    Fatal::new(
        exit::SOFTWARE,
        format!("cannot listen to signals: {error}"),
        "start it again",
    )
}
