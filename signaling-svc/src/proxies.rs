//! Reverse proxies whose `X-Forwarded-*` headers are believed, as addresses or CIDR ranges.

use std::net::IpAddr;

use service_kit::exit::{self, Fatal};

/// A list of networks.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Debug, Clone, Copy)]
struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl TrustedProxies {
    /// Parses `telephony.trusted_proxies`.
    ///
    /// Errors: exit status 64 naming the entry that is neither an address nor `address/bits`.
    pub fn parse(entries: &[String]) -> Result<Self, Fatal> {
        let networks = entries.iter().map(|entry| {
            Network::parse(entry.trim()).ok_or_else(|| {
                Fatal::new(
                    exit::CONFIG,
                    format!("telephony.trusted_proxies: {entry:?} is no address"),
                    "list addresses (10.0.0.7) or ranges (10.0.0.0/8, fd00::/8) of your reverse proxies",
                )
            })
        });
        networks.collect::<Result<_, _>>().map(Self)
    }

    /// Whether a peer is one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(peer))
    }
}

impl Network {
    fn parse(entry: &str) -> Option<Self> {
        let (address, bits) = match entry.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (entry, None),
        };
        let address = address.parse::<IpAddr>().ok()?.to_canonical();
        let width = width(address);
        let prefix_bits = bits.unwrap_or(width);
        (prefix_bits <= width).then_some(Self { address, prefix_bits })
    }

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
            let proxies = TrustedProxies::parse(&[entry.to_owned()]).unwrap();
            assert_eq!(proxies.contains(peer.parse().unwrap()), held, "{peer} in {entry}");
        }
    }

    #[test]
    fn an_entry_that_is_no_address_is_named() {
        for entry in ["proxy.local", "10.0.0.0/33", "10.0.0.0/x", ""] {
            let fatal = TrustedProxies::parse(&[entry.to_owned()]).unwrap_err();
            assert_eq!(fatal.status, exit::CONFIG);
            assert!(fatal.what.contains(entry), "{fatal}");
        }
    }
}
