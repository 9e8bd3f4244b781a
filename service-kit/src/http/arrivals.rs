//! Connections from their arrival to their first request.
//!
//! When a listener stops, whoever got in before is still answered: a balancer that is connected has sent its request, and
//! one that is no GET it does not send again to another instance. So first nobody gets in any more, with those who wait in
//! the kernel's queue let in; then those who are in are heard; and only then do connections end with their requests.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum_server::accept::Accept;
use axum_server::{AddrListener, Address};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::Service;

/// A connection that is opened for a request brings it at once; one that was opened in case it is needed brings nothing.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// Where connections come in.
#[derive(Debug, Clone, Default)]
pub(super) struct Door {
    closing: CancellationToken,
    closed: CancellationToken,
    /// Connections that have not sent a request.
    silent: TaskTracker,
}

impl Door {
    /// Lets nobody in any more. Returns when everybody who is in has sent a request, or has had the time to.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.closed.cancelled().await;
        self.silent.close();
        // Who has said nothing until then has nothing to say.
        let _ = tokio::time::timeout(FIRST_REQUEST, self.silent.wait()).await;
    }
}

/// The far end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Address for Peer {
    type Stream = Arrival;
    type Listener = Arrivals;
}

impl Connected<Peer> for SocketAddr {
    fn connect_info(peer: Peer) -> Self {
        peer.0
    }
}

/// A connection that has come in.
#[derive(Debug)]
pub(super) struct Arrival {
    stream: TcpStream,
    silent: TaskTrackerToken,
}

/// A listener with a door.
#[derive(Debug)]
pub(super) struct Arrivals {
    address: SocketAddr,
    queue: tokio::sync::Mutex<Queue>,
    door: Door,
    /// However this ends, nobody waits for it.
    _closed: DropGuard,
}

#[derive(Debug)]
struct Queue {
    listener: Option<TcpListener>,
    /// Those who waited when it was closed.
    last: VecDeque<(TcpStream, SocketAddr)>,
}

impl Arrivals {
    /// # Errors
    /// The listener has no address.
    pub(super) fn new(listener: TcpListener, door: Door) -> io::Result<Self> {
        Ok(Self {
            address: listener.local_addr()?,
            queue: tokio::sync::Mutex::new(Queue {
                listener: Some(listener),
                last: VecDeque::new(),
            }),
            _closed: door.closed.clone().drop_guard(),
            door,
        })
    }

    fn arrival(&self, (stream, peer): (TcpStream, SocketAddr)) -> (Arrival, Peer) {
        let silent = self.door.silent.token();
        (Arrival { stream, silent }, Peer(peer))
    }
}

impl AddrListener<Arrival, Peer> for Arrivals {
    async fn bind_to(address: Peer) -> io::Result<Self> {
        Self::new(TcpListener::bind(address.0).await?, Door::default())
    }

    async fn accept_stream(&self) -> io::Result<(Arrival, Peer)> {
        let mut queue = self.queue.lock().await;
        if let Some(listener) = &queue.listener {
            tokio::select! {
                accepted = listener.accept() => return Ok(self.arrival(accepted?)),
                () = self.door.closing.cancelled() => {}
            }
        }
        if let Some(listener) = queue.listener.take() {
            queue.last = whoever_waits(listener)?;
        }
        if let Some(accepted) = queue.last.pop_front() {
            return Ok(self.arrival(accepted));
        }
        self.door.closed.cancel();
        pending().await
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        Ok(Peer(self.address))
    }
}

/// Closes a listener; the connections that are in the kernel's queue, which would be reset with it. The runtime may not have
/// heard of them yet.
fn whoever_waits(listener: TcpListener) -> io::Result<VecDeque<(TcpStream, SocketAddr)>> {
    let listener = listener.into_std()?;
    let mut waiting = VecDeque::new();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                waiting.push_back((TcpStream::from_std(stream)?, peer));
            }
            // One that has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(waiting),
            Err(error) => {
                tracing::debug!(%error, "connections that waited when the listener was closed are lost");
                return Ok(waiting);
            }
        }
    }
}

/// Notes which connections have sent a request.
#[derive(Debug, Clone)]
pub(super) struct Hearing<A>(pub(super) A);

impl<A, S> Accept<Arrival, S> for Hearing<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
{
    type Stream = A::Stream;
    type Service = Heard<A::Service>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, Arrival { stream, silent }: Arrival, service: S) -> Self::Future {
        let accepted = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, inner) = accepted.await?;
            let silent = Arc::new(Mutex::new(Some(silent)));
            Ok((stream, Heard { inner, silent }))
        })
    }
}

/// What a connection's requests are given to.
#[derive(Debug, Clone)]
pub(super) struct Heard<S> {
    inner: S,
    /// Until the first one.
    silent: Arc<Mutex<Option<TaskTrackerToken>>>,
}

impl<S: Service<R>, R> Service<R> for Heard<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        drop(self.silent.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.inner.call(request)
    }
}
