//! Listeners: bound before anything starts, served with HTTP/1.1 (and TLS), ended without cutting calls.

use std::io;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioExecutor;
use hyper_util::server::conn::auto::Builder;
use tokio_util::sync::CancellationToken;

use super::arrivals::{Arrivals, Door, Hearing, Peer};
use super::connections::Bounded;
use super::tls::CertificateFiles;
use crate::config::{ConnectionLimits, Http, Tls};
use crate::exit::{CANNOT_CREATE, Fatal};
use crate::networks::Networks;
use crate::tasks::TaskScope;

/// Largest head of a request in bytes (URL and headers together); more is answered 431.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most headers of a request; more are answered 431. Browsers and proxies send some 30.
const MAX_HEADERS: usize = 100;

/// Binds the public listener.
///
/// # Errors
/// Exit status 73 with what to do when the port is taken or not allowed.
pub fn bind(http: &Http) -> Result<TcpListener, Fatal> {
    bind_address(SocketAddr::new(http.host, http.port), "port (VOXRAY_PORT)")
}

/// Binds any other listener; `setting` names the key that changes the port.
///
/// # Errors
/// Exit status 73 with what to do when the port is taken or not allowed.
pub fn bind_address(address: SocketAddr, setting: &str) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address).map_err(|error| {
        let what = format!("cannot listen on {address}: {error}");
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("another process has this port: stop it (`ss -ltnp` shows it) or set {setting} to a free one, 0 for any")
            }
            io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need privileges: set {setting} to a higher one")
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address: set host to one it has, or 0.0.0.0 for all".to_owned()
            }
            _ => format!("check host and {setting}"),
        };
        Fatal::new(CANNOT_CREATE, what, remedy)
    })
}

/// Serves `router` on the public listener, with the TLS and the limits of the configuration. As [`serve`] otherwise.
///
/// # Errors
/// As [`serve`].
pub fn serve_public(
    listener: TcpListener,
    router: Router,
    http: &Http,
    scope: &TaskScope,
    stop: CancellationToken,
) -> Result<SocketAddr, Fatal> {
    let limits = Limits {
        connections: http.connections,
        proxies: &http.trusted_proxies,
    };
    serve_within(listener, router, http.tls.as_ref(), limits, scope, stop)
}

/// Serves `router` on `listener` in a task of `scope`, with `ConnectInfo<SocketAddr>`, `TCP_NODELAY` and, when
/// configured, TLS whose certificate is read again when its file changes; with the usual time-outs and any number of
/// connections. Returns the bound address.
///
/// When `stop` or `scope` is cancelled nothing more is accepted, who is connected already may send the request that they
/// have come with, and running requests get the time that any request has; upgraded sockets are left alone. A service
/// cancels it at the end of its drain, not at the start: probes must still be answered meanwhile.
///
/// # Errors
/// Exit status 66 when the certificate or key cannot be read, 73 when the listener cannot be used.
pub fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<&Tls>,
    scope: &TaskScope,
    stop: CancellationToken,
) -> Result<SocketAddr, Fatal> {
    let limits = Limits {
        connections: ConnectionLimits::default(),
        proxies: &Networks::default(),
    };
    serve_within(listener, router, tls, limits, scope, stop)
}

/// What the clients of a listener may take up.
struct Limits<'a> {
    connections: ConnectionLimits,
    /// Peers that speak for many of them.
    proxies: &'a Networks,
}

fn serve_within(
    listener: TcpListener,
    router: Router,
    tls: Option<&Tls>,
    Limits {
        connections: limits,
        proxies,
    }: Limits<'_>,
    scope: &TaskScope,
    stop: CancellationToken,
) -> Result<SocketAddr, Fatal> {
    let unusable = |error: io::Error| {
        Fatal::new(
            CANNOT_CREATE,
            format!("cannot use the listener: {error}"),
            "start the service again",
        )
    };
    let address = listener.local_addr().map_err(unusable)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(unusable)?;
    let door = Door::default();
    let arrivals = Arrivals::new(listener, door.clone()).map_err(unusable)?;
    let mut server = Server::<Peer>::from_listener(arrivals);
    let builder = std::mem::replace(server.http_builder(), Builder::new(TokioExecutor::new()));
    *server.http_builder() = builder.http1_only();
    // Counted from the end of the answer before, so it is how long a connection may be idle as well; the first request
    // has less time. Idle connections outlive the 60 s for which nginx keeps its side: the side that closes first must
    // not be the one that a request may just be on its way to.
    server
        .http_builder()
        .http1()
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let handle = Handle::new();
    let ended = CancellationToken::new();
    let server = server
        .handle(handle.clone())
        .first_request_timeout(limits.header_timeout)
        .accept_error_handler(|peer: Option<&Peer>, error: &io::Error| {
            tracing::debug!(?peer, %error, "a connection was not accepted");
        });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();

    match tls {
        None => {
            let server = server.acceptor(Hearing(Bounded::new(NoDelayAcceptor::new(), limits, proxies)));
            scope.spawn(
                "http listener",
                async move { report(address, server.serve(service).await) },
            );
        }
        Some(tls) => {
            let files = CertificateFiles::load(tls)?;
            let acceptor = RustlsAcceptor::new(files.config())
                .handshake_timeout(limits.header_timeout)
                .acceptor(NoDelayAcceptor::new());
            let server = server.acceptor(Hearing(Bounded::new(acceptor, limits, proxies)));
            let stopped = ended.clone();
            scope.spawn("certificate watcher", async move {
                let _ = stopped.run_until_cancelled(files.watch()).await;
            });
            scope.spawn(
                "https listener",
                async move { report(address, server.serve(service).await) },
            );
        }
    }
    let cancelled = scope.token();
    scope.spawn("http stop", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = cancelled.cancelled() => {}
        }
        ended.cancel();
        door.close().await;
        // A phone provider may be in the middle of what was asked.
        handle.graceful_shutdown(Some(limits.request_timeout));
    });
    tracing::info!(%address, tls = tls.is_some(), "listening");
    Ok(address)
}

fn report(address: SocketAddr, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%address, %error, "the listener failed");
    }
}
