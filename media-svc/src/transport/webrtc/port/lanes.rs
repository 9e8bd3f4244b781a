//! Sorts what comes in on the port by peer.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use webrtc::ice::udp_mux::UDPMux;
use webrtc::util::{Conn, Error};

use super::addresses::StandIns;
use super::{PACKET_BYTES, stun};
use crate::metrics::WEBRTC_BYTES_RECEIVED;

/// Packets that wait for a peer's task: half a second of audio with checks and messages. When it is full, what comes is
/// dropped, as a network would.
const WAITING_PACKETS: usize = 64;
/// Addresses one peer may be reached by: every candidate that a client may name, and as many discovered ones.
const ADDRESSES: usize = 256;

/// The socket and who is behind which address.
pub struct Lanes {
    socket: UdpSocket,
    /// The socket is one for both families.
    dual: bool,
    /// Where the port is, as ICE sees it.
    local: SocketAddr,
    stand_ins: StandIns,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By our user name fragment.
    lanes: HashMap<Arc<str>, Lane>,
    owners: HashMap<SocketAddr, Arc<str>>,
}

struct Lane {
    packets: mpsc::Sender<(Bytes, SocketAddr)>,
    addresses: Vec<SocketAddr>,
    conn: Weak<PeerConn>,
}

impl Lanes {
    pub fn new(socket: UdpSocket, bound: SocketAddr) -> Self {
        Self {
            socket,
            dual: bound.is_ipv6(),
            local: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), bound.port()),
            stand_ins: StandIns::default(),
            table: Mutex::default(),
        }
    }

    pub fn stand_ins(&self) -> &StandIns {
        &self.stand_ins
    }

    /// Reads for ever.
    pub async fn read(&self) {
        let mut buffer = vec![0; PACKET_BYTES];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, from)) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    WEBRTC_BYTES_RECEIVED.inc_by(length as u64);
                    self.deliver(packet, self.stand_ins.inside(from));
                }
                // A peer that is not there any more: its ICMP answer is reported here, and says nothing of the others.
                Err(error) => tracing::debug!(%error, "the WebRTC port reports an error"),
            }
        }
    }

    fn deliver(&self, packet: &[u8], from: SocketAddr) {
        let mut table = self.lock();
        if let Some(fragment) = stun::checked_fragment(packet) {
            let Some((fragment, _)) = table.lanes.get_key_value(fragment) else {
                return;
            };
            let fragment = Arc::clone(fragment);
            table.own(&fragment, from);
        }
        let Some(owner) = table.owners.get(&from) else { return };
        if let Some(lane) = table.lanes.get(owner) {
            // Full: the packet is lost, like on any network.
            let _ = lane.packets.try_send((Bytes::copy_from_slice(packet), from));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// From now on this address is this peer's.
    fn own(&mut self, fragment: &Arc<str>, address: SocketAddr) {
        if self.owners.get(&address) == Some(fragment) {
            return;
        }
        let Some(lane) = self
            .lanes
            .get_mut(fragment)
            .filter(|lane| lane.addresses.len() < ADDRESSES)
        else {
            return;
        };
        lane.addresses.push(address);
        if let Some(before) = self.owners.insert(address, Arc::clone(fragment))
            && let Some(lane) = self.lanes.get_mut(&before)
        {
            lane.addresses.retain(|known| *known != address);
        }
    }

    fn remove(&mut self, fragment: &str) {
        let Some(lane) = self.lanes.remove(fragment) else {
            return;
        };
        for address in lane.addresses {
            self.owners.remove(&address);
        }
    }
}

#[async_trait]
impl UDPMux for Lanes {
    async fn close(&self) -> Result<(), Error> {
        *self.lock() = Table::default();
        Ok(())
    }

    async fn get_conn(self: Arc<Self>, ufrag: &str) -> Result<Arc<dyn Conn + Send + Sync>, Error> {
        let mut table = self.lock();
        if let Some(conn) = table.lanes.get(ufrag).and_then(|lane| lane.conn.upgrade()) {
            return Ok(conn);
        }
        let (packets, inbox) = mpsc::channel(WAITING_PACKETS);
        let fragment: Arc<str> = ufrag.into();
        let conn = Arc::new(PeerConn {
            lanes: Arc::clone(&self),
            fragment: Arc::clone(&fragment),
            inbox: tokio::sync::Mutex::new(inbox),
        });
        let lane = Lane {
            packets,
            addresses: Vec::new(),
            conn: Arc::downgrade(&conn),
        };
        table.lanes.insert(fragment, lane);
        Ok(conn)
    }

    async fn remove_conn_by_ufrag(&self, ufrag: &str) {
        self.lock().remove(ufrag);
    }
}

/// The port as one peer sees it.
struct PeerConn {
    lanes: Arc<Lanes>,
    fragment: Arc<str>,
    inbox: tokio::sync::Mutex<mpsc::Receiver<(Bytes, SocketAddr)>>,
}

impl Drop for PeerConn {
    fn drop(&mut self) {
        self.lanes.lock().remove(&self.fragment);
    }
}

#[async_trait]
impl Conn for PeerConn {
    async fn connect(&self, _addr: SocketAddr) -> Result<(), Error> {
        Err(not_applicable())
    }

    async fn recv(&self, _buf: &mut [u8]) -> Result<usize, Error> {
        Err(not_applicable())
    }

    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr), Error> {
        let (packet, from) = self.inbox.lock().await.recv().await.ok_or(Error::ErrClosedListener)?;
        let room = buf.get_mut(..packet.len()).ok_or(Error::ErrBufferShort)?;
        room.copy_from_slice(&packet);
        Ok((packet.len(), from))
    }

    async fn send(&self, _buf: &[u8]) -> Result<usize, Error> {
        Err(not_applicable())
    }

    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> Result<usize, Error> {
        // What is answered to our own checks names nobody: it is known by where it comes from.
        {
            let mut table = self.lanes.lock();
            if !table.owners.contains_key(&target) {
                table.own(&self.fragment, target);
            }
        }
        let real = self.lanes.stand_ins.outside(target, self.lanes.dual);
        Ok(self.lanes.socket.send_to(buf, real).await?)
    }

    fn local_addr(&self) -> Result<SocketAddr, Error> {
        Ok(self.lanes.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> Result<(), Error> {
        self.lanes.lock().remove(&self.fragment);
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

fn not_applicable() -> Error {
    std::io::Error::other("this socket has many far ends").into()
}
