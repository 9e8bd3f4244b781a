//! How many connections a listener has open at most.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::{OpenConnection, record_refused};

/// Closes what comes beyond the limit before anything is read of it: a client that only opens connections takes nothing
/// from those that are open, and a WebSocket counts until it is closed. Refusing is better than leaving connections in
/// the kernel's queue, where a balancer cannot tell that another instance has room.
#[derive(Clone)]
pub(super) struct Bounded<A> {
    inner: A,
    slots: Option<Arc<Semaphore>>,
}

impl<A> Bounded<A> {
    /// At most so many; 0 = any number.
    pub(super) fn new(inner: A, most: usize) -> Self {
        let slots = (most > 0).then(|| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        Self { inner, slots }
    }
}

impl<A, I, S> Accept<I, S> for Bounded<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
{
    type Stream = Counted<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let slot = match self.slots.clone().map(Semaphore::try_acquire_owned).transpose() {
            Ok(slot) => slot,
            Err(_) => {
                record_refused();
                let full = io::Error::other("too many connections are open (limits.max_connections)");
                return Box::pin(async move { Err(full) });
            }
        };
        let open = OpenConnection::begin();
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (io, service) = accepted.await?;
            let counted = Counted {
                io,
                _open: open,
                _slot: slot,
            };
            Ok((counted, service))
        })
    }
}

/// A connection that holds its slot until it is dropped, upgraded or not.
pub(super) struct Counted<I> {
    io: I,
    _open: OpenConnection,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
