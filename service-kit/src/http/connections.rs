//! How many connections a listener has open at most, in all and from one address, and how long one may stand still.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::metrics::{OpenConnection, record_refused};
use crate::config::ConnectionLimits;
use crate::networks::{Networks, subscriber};

/// Closes what comes beyond the limits before anything is read of it: a client that only opens connections takes nothing
/// from those that are open, and a WebSocket counts until it is closed. Refusing is better than leaving connections in
/// the kernel's queue, where a balancer cannot tell that another instance has room.
#[derive(Clone)]
pub(super) struct Bounded<A> {
    inner: A,
    slots: Option<Arc<Semaphore>>,
    addresses: Option<Arc<Addresses>>,
    write_timeout: Duration,
}

impl<A> Bounded<A> {
    /// `proxies` speak for many clients, and are not limited as one.
    pub(super) fn new(inner: A, limits: ConnectionLimits, proxies: &Networks) -> Self {
        let most = limits.max_connections_per_address;
        let addresses = (most > 0).then(|| Arc::new(Addresses::new(most, proxies.clone())));
        Self {
            inner,
            slots: slots(limits.max_connections),
            addresses,
            write_timeout: limits.write_timeout,
        }
    }

    /// Takes the connection's place, for as long as it is open.
    fn enter(&self, stream: &TcpStream) -> io::Result<Place> {
        let refused = |limit: &str| {
            record_refused();
            io::Error::other(format!("too many connections are open ({limit})"))
        };
        let slot = self.slots.clone().map(Semaphore::try_acquire_owned).transpose();
        let slot = slot.map_err(|_| refused("limits.max_connections"))?;
        let address = match &self.addresses {
            None => None,
            Some(addresses) => {
                let entered = Addresses::enter(addresses, stream.peer_addr()?.ip());
                entered.map_err(|Full| refused("limits.max_connections_per_address"))?
            }
        };
        Ok(Place {
            _open: OpenConnection::begin(),
            _slot: slot,
            _address: address,
        })
    }
}

/// Room for so many; `None` for any number (0).
pub(crate) fn slots(most: usize) -> Option<Arc<Semaphore>> {
    (most > 0).then(|| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
}

impl<A, S> Accept<TcpStream, S> for Bounded<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
{
    type Stream = Counted<A::Stream>;
    type Service = A::Service;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = match self.enter(&stream) {
            Ok(place) => place,
            Err(refused) => return Box::pin(async move { Err(refused) }),
        };
        let patience = self.write_timeout;
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (io, service) = accepted.await?;
            let counted = Counted {
                io,
                patience,
                stalled: None,
                _place: place,
            };
            Ok((counted, service))
        })
    }
}

/// What a connection counts as while it is open.
struct Place {
    _open: OpenConnection,
    _slot: Option<OwnedSemaphorePermit>,
    _address: Option<AddressSlot>,
}

/// How many connections each address has open.
struct Addresses {
    most: usize,
    exempt: Networks,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// This address has as many open as it may.
struct Full;

impl Addresses {
    fn new(most: usize, exempt: Networks) -> Self {
        let open = Mutex::default();
        Self { most, exempt, open }
    }

    /// One more of this peer's; `None` where nothing is counted.
    fn enter(this: &Arc<Self>, peer: IpAddr) -> Result<Option<AddressSlot>, Full> {
        if this.exempt.contains(peer) {
            return Ok(None);
        }
        let address = subscriber(peer);
        let mut open = this.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= this.most {
            return Err(Full);
        }
        *count += 1;
        let addresses = Arc::clone(this);
        Ok(Some(AddressSlot { addresses, address }))
    }
}

/// One connection of an address, until it is dropped.
struct AddressSlot {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// A connection that holds its place until it is dropped, upgraded or not, and that breaks when its far end takes nothing
/// for too long.
pub(super) struct Counted<I> {
    io: I,
    patience: Duration,
    /// Runs while something waits to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl<I> Counted<I> {
    fn watch<T>(&mut self, cx: &mut Context<'_>, taken: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if taken.is_ready() {
            self.stalled = None;
            return taken;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        tracing::debug!("a connection is closed: its client takes nothing (limits.write_timeout_secs)");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let taken = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, taken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let taken = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.watch(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn counted<I>(io: I) -> Counted<I> {
        Counted {
            io,
            patience: PATIENCE,
            stalled: None,
            _place: Place {
                _open: OpenConnection::begin(),
                _slot: None,
                _address: None,
            },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_end_that_takes_a_little_now_and_then_gets_all_and_one_that_stops_does_not() {
        let (near, mut far) = duplex(16);
        let mut near = counted(near);
        let reading = async {
            for _ in 0..10 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                far.read_exact(&mut [0; 8]).await.unwrap();
            }
        };

        let (written, ()) = tokio::join!(near.write_all(&[0; 96]), reading);
        written.unwrap();

        let stuck = near.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(stuck.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_addresses_of_one_subscriber_count_together_until_they_are_gone() {
        let addresses = Arc::new(Addresses::new(1, Networks::default()));
        let enter = |address: &str| Addresses::enter(&addresses, address.parse().unwrap()).ok().flatten();

        let first = enter("2001:db8:1:2::1");
        assert!(first.is_some() && enter("2001:db8:1:2::2").is_none());
        assert!(enter("2001:db8:1:3::1").is_some());
        drop(first);
        assert!(enter("2001:db8:1:2::2").is_some());
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
