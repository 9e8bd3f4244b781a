//! Networks as addresses or CIDR ranges, and what of an address names one client.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A list of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// `10.0.0.7`, or `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

/// What is neither an address nor `address/bits`.
#[derive(Debug, thiserror::Error)]
#[error("neither an address (10.0.0.7) nor a network (10.0.0.0/8, fd00::/8)")]
pub struct NoNetwork;

impl Networks {
    /// Whether an address is in one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(peer))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(entry: &str) -> Result<Self, NoNetwork> {
        let (address, bits) = match entry.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| NoNetwork)?)),
            None => (entry.trim(), None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| NoNetwork)?.to_canonical();
        let width = width(address);
        let prefix_bits = bits.unwrap_or(width);
        let network = Self { address, prefix_bits };
        (prefix_bits <= width).then_some(network).ok_or(NoNetwork)
    }
}

impl Network {
    fn contains(&self, peer: IpAddr) -> bool {
        let shift = width(self.address) - self.prefix_bits;
        match (self.address, peer) {
            (IpAddr::V4(ours), IpAddr::V4(peer)) => {
                let differing = u32::from(ours) ^ u32::from(peer);
                differing.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(peer)) => {
                let differing = u128::from(ours) ^ u128::from(peer);
                differing.checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// One subscriber: an IPv4 address, or the first of the /64 network that IPv6 gives to each.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_say() {
        // entry, peer, held
        let cases = [
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("172.16.0.0/12", "172.31.255.255", true),
            ("172.16.0.0/12", "172.32.0.0", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.7", "::ffff:10.0.0.7", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
            ("::/0", "2001:db8::1", true),
        ];
        for (entry, peer, held) in cases {
            let networks: Networks = [entry.parse().unwrap()].into_iter().collect();
            assert_eq!(networks.contains(peer.parse().unwrap()), held, "{peer} in {entry}");
        }
    }

    #[test]
    fn an_entry_that_is_no_address_is_none() {
        for entry in ["proxy.local", "10.0.0.0/33", "10.0.0.0/x", ""] {
            assert!(entry.parse::<Network>().is_err(), "{entry:?}");
        }
    }

    #[test]
    fn one_subscriber_counts_as_one() {
        // address, subscriber
        let cases = [
            ("203.0.113.9", "203.0.113.9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ];
        for (address, expected) in cases {
            assert_eq!(subscriber(address.parse().unwrap()).to_string(), expected);
        }
    }
}
