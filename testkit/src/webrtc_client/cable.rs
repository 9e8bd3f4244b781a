//! The client's network, which can be cut and made to lose packets.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::net::UdpSocket;
use webrtc::util::{Conn, Error};

/// Its switches.
#[derive(Debug, Default)]
pub struct Cable {
    cut: AtomicBool,
    /// Every n-th media packet of the client is lost; 0 = none.
    lose_every: AtomicU32,
    sent: AtomicU32,
}

impl Cable {
    /// Nothing comes through any more, in either direction.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Everything comes through again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    /// Loses every n-th media packet of the client from now on; 0 loses none.
    pub fn lose_every(&self, nth: u32) {
        self.lose_every.store(nth, Ordering::SeqCst);
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    fn is_lost(&self, packet: &[u8]) -> bool {
        let nth = self.lose_every.load(Ordering::SeqCst);
        let is_media = is_media(packet);
        let count = self.sent.fetch_add(u32::from(is_media), Ordering::SeqCst);
        self.is_cut() || (is_media && nth > 0 && count % nth == nth - 1)
    }
}

/// RTP, and neither RTCP nor STUN nor DTLS (RFC 7983, RFC 5761).
fn is_media(packet: &[u8]) -> bool {
    match packet {
        [first, second, ..] => packet.len() > 20 && first & 0xC0 == 0x80 && !(192..=223).contains(second),
        _ => false,
    }
}

/// A socket at this cable.
pub struct Plugged {
    /// The socket.
    pub socket: UdpSocket,
    /// What it hangs on.
    pub cable: Arc<Cable>,
}

#[async_trait]
impl Conn for Plugged {
    async fn connect(&self, _: SocketAddr) -> Result<(), Error> {
        Err(many_far_ends())
    }
    async fn recv(&self, _: &mut [u8]) -> Result<usize, Error> {
        Err(many_far_ends())
    }
    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        loop {
            let received = self.socket.recv_from(buf).await?;
            if !self.cable.is_cut() {
                return Ok(received);
            }
        }
    }
    async fn send(&self, _: &[u8]) -> Result<usize, Error> {
        Err(many_far_ends())
    }
    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> Result<usize, Error> {
        if self.cable.is_lost(buf) {
            return Ok(buf.len());
        }
        Ok(self.socket.send_to(buf, target).await?)
    }
    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.socket.local_addr()?)
    }
    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }
    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// The socket of a port that several connections share is connected to none of them.
fn many_far_ends() -> Error {
    Error::Other("this socket has many far ends".to_owned())
}
