//! IPv4 stand-ins for IPv6 peers.
//!
//! The ICE agent pairs addresses of one family only, and reads one socket per address: on one socket for both families
//! it could not tell who is who. So it sees IPv4 alone. A peer with an IPv6 address gets one of 240.0.0.0/4, which
//! nobody on the Internet has (RFC 1112, section 4), and is addressed by that inside.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FIRST: u32 = 0xF000_0000;
/// Never 255.255.255.255.
const COUNT: u32 = 0x0FFF_FFF0;
/// Addresses from which something came and to which nothing went: when there are more, the oldest is forgotten, so that
/// forged senders cost neither memory nor the peers that are talked to.
const STRANGERS: usize = 4_096;
/// Addresses that something was sent to: when there are more, the oldest is forgotten. Peers of a day.
const KNOWN: usize = 65_536;

/// Which IPv6 address stands behind which IPv4 address.
#[derive(Default)]
pub struct StandIns {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u32,
    inside: HashMap<Ipv6Addr, Ipv4Addr>,
    outside: HashMap<Ipv4Addr, Entry>,
    strangers: VecDeque<Ipv4Addr>,
    known: VecDeque<Ipv4Addr>,
}

struct Entry {
    address: Ipv6Addr,
    is_known: bool,
}

impl StandIns {
    /// What a peer is called inside; IPv4 is itself.
    pub fn inside(&self, peer: SocketAddr) -> SocketAddr {
        let v6 = match peer.ip().to_canonical() {
            IpAddr::V4(v4) => return SocketAddr::new(v4.into(), peer.port()),
            IpAddr::V6(v6) => v6,
        };
        SocketAddr::new(self.lock().stand_in(v6).into(), peer.port())
    }

    /// Where a packet really goes; as a socket for both families wants it when `mapped`.
    pub fn outside(&self, peer: SocketAddr, mapped: bool) -> SocketAddr {
        let IpAddr::V4(v4) = peer.ip() else { return peer };
        let real = if u32::from(v4) >= FIRST {
            self.lock().real(v4)
        } else {
            None
        };
        match real {
            Some(v6) => SocketAddrV6::new(v6, peer.port(), 0, 0).into(),
            None if mapped => SocketAddrV6::new(v4.to_ipv6_mapped(), peer.port(), 0, 0).into(),
            None => peer,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn stand_in(&mut self, address: Ipv6Addr) -> Ipv4Addr {
        if let Some(&known) = self.inside.get(&address) {
            return known;
        }
        let mut chosen = Ipv4Addr::from(FIRST + self.next);
        while self.outside.contains_key(&chosen) {
            self.next = (self.next + 1) % COUNT;
            chosen = Ipv4Addr::from(FIRST + self.next);
        }
        self.next = (self.next + 1) % COUNT;
        self.inside.insert(address, chosen);
        let entry = Entry {
            address,
            is_known: false,
        };
        self.outside.insert(chosen, entry);
        self.strangers.push_back(chosen);
        if self.strangers.len() > STRANGERS
            && let Some(oldest) = self.strangers.pop_front()
            && self.outside.get(&oldest).is_some_and(|entry| !entry.is_known)
        {
            self.forget(oldest);
        }
        chosen
    }

    fn real(&mut self, stand_in: Ipv4Addr) -> Option<Ipv6Addr> {
        let entry = self.outside.get_mut(&stand_in)?;
        let address = entry.address;
        if !std::mem::replace(&mut entry.is_known, true) {
            self.known.push_back(stand_in);
            if self.known.len() > KNOWN
                && let Some(oldest) = self.known.pop_front()
            {
                self.forget(oldest);
            }
        }
        Some(address)
    }

    fn forget(&mut self, stand_in: Ipv4Addr) {
        if let Some(entry) = self.outside.remove(&stand_in) {
            self.inside.remove(&entry.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> SocketAddr {
        let ip = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(number));
        SocketAddr::new(ip.into(), 7_000)
    }

    #[test]
    fn a_peer_of_either_family_is_found_again() {
        let stand_ins = StandIns::default();
        let inside = stand_ins.inside(peer(1));
        assert!(inside.is_ipv4() && inside.port() == 7_000);
        assert_eq!(stand_ins.inside(peer(1)), inside);
        assert_ne!(stand_ins.inside(peer(2)), inside);
        assert_eq!(stand_ins.outside(inside, true), peer(1));

        let v4: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:9".parse().unwrap();
        assert_eq!((stand_ins.inside(mapped), stand_ins.inside(v4)), (v4, v4));
        assert_eq!(
            (stand_ins.outside(v4, true), stand_ins.outside(v4, false)),
            (mapped, v4)
        );
    }

    #[test]
    fn a_flood_of_strangers_is_forgotten_and_peers_are_not() {
        let stand_ins = StandIns::default();
        let talked_to = stand_ins.inside(peer(0));
        stand_ins.outside(talked_to, true);
        for number in 1..20_000 {
            stand_ins.inside(peer(number));
        }
        let table = stand_ins.lock();
        assert!(table.inside.len() <= STRANGERS + 1 && table.outside.len() <= STRANGERS + 1);
        drop(table);
        assert_eq!(stand_ins.inside(peer(0)), talked_to);
    }
}
