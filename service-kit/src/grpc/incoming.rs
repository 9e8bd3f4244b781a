//! Connections to an internal listener: only so many, and strangers not for long.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::config::ConnectionLimits;
use crate::exit::{CANNOT_CREATE, Fatal};
use crate::http::{record_refused, slots};

/// Where accepting fails it fails for a while: there may be no file left to open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What comes to a bound listener, for `serve_with_incoming`. Behind it has to be [`RequireToken`](super::RequireToken):
/// a connection on which it has not let a request in by `header_timeout` is closed, whatever else happens there: a TLS
/// handshake that drips in, HTTP/2 without requests, guessed tokens. Connections beyond `max_connections` are closed at
/// once. `setting` names the key that changes the port.
///
/// # Errors
/// Exit status 73 when the listener cannot be used.
pub fn incoming(
    listener: TcpListener,
    limits: &ConnectionLimits,
    setting: &str,
) -> Result<(SocketAddr, Incoming), Fatal> {
    let usable = || {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok((address, tokio::net::TcpListener::from_std(listener)?))
    };
    let (address, listener) = usable().map_err(|error: io::Error| {
        Fatal::new(
            CANNOT_CREATE,
            format!("cannot use the gRPC listener: {error}"),
            format!("start the service again, or set {setting} to another port"),
        )
    })?;
    let incoming = Incoming {
        inner: TcpIncoming::from(listener).with_nodelay(Some(true)),
        slots: slots(limits.max_connections),
        patience: limits.header_timeout,
        pause: None,
    };
    Ok((address, incoming))
}

/// See [`incoming`].
#[derive(Debug)]
pub struct Incoming {
    inner: TcpIncoming,
    slots: Option<Arc<Semaphore>>,
    patience: Duration,
    /// Runs when a connection could not be accepted.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Stream for Incoming {
    type Item = io::Result<PeerConnection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let io = match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(io)) => io,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection to the internal listener was not accepted");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                    continue;
                }
                None => return Poll::Ready(None),
            };
            match self.slots.clone().map(Semaphore::try_acquire_owned).transpose() {
                Ok(slot) => {
                    return Poll::Ready(Some(Ok(PeerConnection {
                        io,
                        known: Known::default(),
                        patience: Box::pin(tokio::time::sleep(self.patience)),
                        _slot: slot,
                    })));
                }
                Err(_) => {
                    record_refused();
                    tracing::debug!(
                        "a connection to the internal listener was refused: limits.max_connections are open"
                    );
                }
            }
        }
    }
}

/// Whether a connection's peer has shown the `service_token`. Requests carry it as an extension.
#[derive(Debug, Clone, Default)]
pub struct Known(Arc<AtomicBool>);

impl Known {
    /// It has.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection that breaks when its peer stays a stranger.
#[derive(Debug)]
pub struct PeerConnection {
    io: TcpStream,
    known: Known,
    patience: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl PeerConnection {
    /// Whoever reads or writes is woken when the time is over: both are asked, because either may be what waits.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.known.0.load(Ordering::Relaxed) || self.patience.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        tracing::debug!("a connection to the internal listener is closed: nobody has shown the service_token in time");
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Connected for PeerConnection {
    type ConnectInfo = Known;

    fn connect_info(&self) -> Known {
        self.known.clone()
    }
}

impl AsyncRead for PeerConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PeerConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
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
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_stay_once_its_peer_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let limits = ConnectionLimits::default();
        let (address, mut incoming) = incoming(listener, &limits, "archiver.port").unwrap();
        for known in [true, false] {
            let mut peer = TcpStream::connect(address).await.unwrap();
            let mut connection = incoming.next().await.unwrap().unwrap();
            if known {
                connection.connect_info().set();
            }
            tokio::time::advance(limits.header_timeout * 2).await;

            peer.write_u8(7).await.unwrap();

            let read = connection.read_u8().await.map_err(|error| error.kind());
            let expected = if known { Ok(7) } else { Err(io::ErrorKind::TimedOut) };
            assert_eq!(read, expected);
        }
    }
}
