//! Everything in one process: the same three services, with memory, SQLite and a local folder for stores.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use archiver_svc::Archiver;
use media_svc::providers::{self, Agent, Providers};
use media_svc::transport::Timeouts;
use media_svc::{Media, MediaListeners};
use service_kit::config::{Config, StoreKind};
use service_kit::exit::Fatal;
use service_kit::http::{self, Listeners, Routes};
use service_kit::shutdown::Shutdown;
use service_kit::tasks::TaskScope;
use signaling_svc::Signaling;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::ollama;
use crate::settings::{self, Settings};

/// The whole server, running.
pub struct SingleProcess {
    config: Arc<Config>,
    address: SocketAddr,
    media: Media,
    media_scope: TaskScope,
    archiver: Archiver,
    archiver_shutdown: Shutdown,
    scope: TaskScope,
    shutdown: Shutdown,
    stop_listening: CancellationToken,
}

impl SingleProcess {
    /// Starts every service. `providers` replaces the configured ones (tests).
    ///
    /// # Errors
    /// A port is taken, a folder cannot be written, a database or bucket does not answer, models are missing.
    pub async fn start(config: &Config, providers: Option<Providers>) -> Result<Self, Fatal> {
        Self::start_with(config, providers, Timeouts::default()).await
    }

    /// [`start`](Self::start) with other than the usual [`Timeouts`] of sockets.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(config: &Config, providers: Option<Providers>, timeouts: Timeouts) -> Result<Self, Fatal> {
        let http_listeners = Listeners::bind(config)?;
        // Before the archive makes its files: a start that fails for want of a key or a model leaves none behind.
        let agent = match providers {
            Some(providers) => Agent::from(providers),
            None => providers::build(config).await?,
        };
        let control = internal_listener()?;
        let archive = internal_listener()?;
        let address = http_listeners.public_address().map_err(unusable)?;

        let mut config = config.clone();
        config.links.archiver_url = Some(format!("http://{}", local_address(&archive)?));
        config.links.media_control_url = Some(format!("http://{}", local_address(&control)?));
        let config = Arc::new(config);
        let scope = TaskScope::root("voxray");
        let shutdown = Shutdown::new();
        let stop_listening = CancellationToken::new();
        let store = session_store::open(&StoreKind::Memory).await?;

        // Its own: the archiver takes what the media plane still has to say, and stops after it.
        let archiver_shutdown = Shutdown::new();
        let archiver_scope = scope.child("archiver");
        let archiver = Archiver::start(config.clone(), archive, archiver_scope, archiver_shutdown.clone()).await?;
        let listeners = MediaListeners {
            public: address,
            control,
        };
        let media_scope = scope.child("media");
        let media = Media::start_with(
            config.clone(),
            store.clone(),
            agent,
            listeners,
            media_scope.clone(),
            shutdown.clone(),
            timeouts,
        )
        .await?;
        let readiness = media.readiness();
        let signaling = Signaling::start(
            config.clone(),
            store,
            readiness,
            scope.child("signaling"),
            shutdown.clone(),
        )
        .await?;

        let open: Vec<&str> = signaling_svc::OPEN_ROUTES
            .iter()
            .chain(media_svc::OPEN_ROUTES)
            .copied()
            .collect();
        let routes = Routes {
            public: signaling.router().merge(media.router()),
            admin: admin::routes(shutdown.clone()),
            open: &open,
            readiness: signaling.readiness(),
        };
        http_listeners.serve(routes, &config, &scope.child("http"), stop_listening.clone())?;
        service_kit::metrics::announce("voxray", env!("CARGO_PKG_VERSION"));
        service_kit::trace::init(&config.otlp, "voxray", env!("CARGO_PKG_VERSION"))?;
        Ok(Self {
            config,
            address,
            media,
            media_scope,
            archiver,
            archiver_shutdown,
            scope,
            shutdown,
            stop_listening,
        })
    }

    /// `http://host:port` on which this process is reached from this machine.
    pub fn base_url(&self) -> String {
        let scheme = if self.config.http.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let host = if self.address.ip().is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.address.ip()
        };
        format!("{scheme}://{}", SocketAddr::new(host, self.address.port()))
    }

    /// The media plane.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// The archive.
    pub fn archiver(&self) -> &Archiver {
        &self.archiver
    }

    /// The effective configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Lets running calls finish, empties the outbox, and stops. Requesting [`Shutdown`] twice hurries.
    pub async fn stop(self) {
        self.shutdown.begin();
        self.media.drain().await;
        self.media_scope.cancel();
        self.media_scope.join().await;
        self.archiver_shutdown.request();
        self.archiver.stopped().await;
        self.stop_listening.cancel();
        self.scope.cancel();
        self.scope.join().await;
        service_kit::trace::flush().await;
    }

    /// For signals.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }
}

/// `voxray serve`: until Ctrl-C.
pub async fn serve(settings: Settings) -> Result<(), Fatal> {
    let hangups = settings::hangups()?;
    let process = SingleProcess::start(&settings.config, None).await?;
    settings::reload_on(hangups, &settings, &process.scope);
    let shutdown = process.shutdown();
    announce(&process);
    if settings.config.agent.llm_provider == "local" {
        // Beside the start: whether there is one is not worth waiting for.
        process.scope.spawn("ollama", mention_ollama(process.scope.clone()));
    }
    let signals = shutdown.clone();
    tokio::select! {
        result = signals.listen_to_signals() => {
            result.map_err(crate::services::no_signals)?;
        }
        () = shutdown.draining() => {}
    }
    tracing::info!(
        sessions = process.media().sessions(),
        "no new calls; running calls go on until they end (Ctrl-C again ends them now)"
    );
    // Signals are still heard while calls finish: a second one hurries.
    tokio::select! {
        () = process.stop() => {}
        _ = signals.listen_to_signals() => {}
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the start-up lines are for the person who started it"
)]
fn announce(process: &SingleProcess) {
    let base = process.base_url();
    let media = base.replacen("http", "ws", 1);
    println!("voxray {} is listening", env!("CARGO_PKG_VERSION"));
    println!("  phone webhook (Twilio)  POST {base}/telephony/twilio");
    println!("  client WebSocket        {media}/ws?format=protobuf");
    println!("  API and its page        {base}/swagger/   health {base}/health   metrics {base}/metrics");
    println!("  recordings, transcripts {}", process.config.data_dir.display());
    println!("  try it                  voxray call --url {base} FILE.wav");
    println!("Ctrl-C stops it.");
}

#[expect(clippy::print_stdout, reason = "one more line for the person who started it")]
async fn mention_ollama(scope: TaskScope) {
    tokio::select! {
        () = scope.cancelled() => {}
        options = ollama::suggestion(ollama::USUAL_ADDRESS) => if let Some(options) = options {
            println!("  an Ollama runs here; to let it answer: voxray serve {options}");
        },
    }
}

fn internal_listener() -> Result<TcpListener, Fatal> {
    http::bind_address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "internal port")
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Fatal> {
    listener.local_addr().map_err(unusable)
}

fn unusable(error: std::io::Error) -> Fatal {
    Fatal::new(
        service_kit::exit::CANNOT_CREATE,
        format!("cannot use a listener: {error}"),
        "start it again",
    )
}
