//! The one UDP port that all peers of a node share.
//!
//! Whose packet it is says the user name of a connectivity check (RFC 8445, section 7.3: our fragment comes first);
//! whatever else comes from the same address afterwards belongs to the same peer. A check that names another peer moves
//! its address there: a client that restarts ICE on its old socket is heard at once.

mod addresses;
mod lanes;
mod stun;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use service_kit::config::Config;
use service_kit::exit::{self, Fatal};
use service_kit::tasks::TaskScope;
use tokio::net::UdpSocket;
use webrtc::ice::udp_mux::UDPMux;

use lanes::Lanes;

/// Largest packet that is read; media and DTLS stay below the Ethernet MTU.
const PACKET_BYTES: usize = 2_048;

/// The port, open.
pub struct MediaPort {
    lanes: Arc<Lanes>,
    advertised: Vec<IpAddr>,
    port: u16,
}

impl MediaPort {
    /// Binds `media.udp_port` on `host` and reads it until the scope ends.
    ///
    /// # Errors
    /// The port is taken, or this machine does not have the address.
    pub fn open(config: &Config, scope: &TaskScope) -> Result<Self, Fatal> {
        let (host, port) = (config.http.host, config.media.udp_port);
        let (socket, bound) = bind(host, port).map_err(|error| refused(host, port, &error))?;
        let advertised = advertised(bound.ip(), &config.media.nat_ips);
        let lanes = Arc::new(Lanes::new(socket, bound));
        let (reading, cancelled) = (Arc::clone(&lanes), scope.token().cancelled_owned());
        scope.spawn("webrtc port", async move {
            tokio::select! {
                () = cancelled => {}
                () = reading.read() => {}
            }
        });
        tracing::info!(address = %bound, advertised = ?advertised, "WebRTC media is received");
        Ok(Self {
            lanes,
            advertised,
            port: bound.port(),
        })
    }

    /// Where clients send media to, best first.
    pub fn advertised(&self) -> impl Iterator<Item = SocketAddr> {
        self.advertised.iter().map(|&ip| SocketAddr::new(ip, self.port))
    }

    /// What ICE addresses a peer by, see `addresses`.
    pub fn stand_in(&self, peer: SocketAddr) -> SocketAddr {
        self.lanes.stand_ins().inside(peer)
    }

    /// For the ICE agents of peers.
    pub fn mux(&self) -> Arc<dyn UDPMux + Send + Sync> {
        self.lanes.clone()
    }
}

/// All of IPv6 and IPv4 where `host` is 0.0.0.0 or ::, and the machine has IPv6.
fn bind(host: IpAddr, port: u16) -> std::io::Result<(UdpSocket, SocketAddr)> {
    let bind = |ip: IpAddr| {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(ip, port))?;
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        UdpSocket::from_std(socket).map(|socket| (socket, bound))
    };
    if !host.is_unspecified() {
        return bind(host);
    }
    let has_ipv6 = interfaces().iter().any(IpAddr::is_ipv6);
    if has_ipv6 && let Ok(bound) = bind(Ipv6Addr::UNSPECIFIED.into()) {
        return Ok(bound);
    }
    bind(Ipv4Addr::UNSPECIFIED.into())
}

fn refused(host: IpAddr, port: u16, error: &std::io::Error) -> Fatal {
    const SETTING: &str = "media.udp_port (VOXRAY_MEDIA_UDP_PORT)";
    let what = format!(
        "cannot receive WebRTC media on UDP {}: {error}",
        SocketAddr::new(host, port)
    );
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "another process has this port: stop it (`ss -lunp` shows it) or set {SETTING} to a free one, 0 for any"
            )
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address: set host to one it has, or 0.0.0.0 for all".to_owned()
        }
        _ => format!("check host and {SETTING}; without `webrtc` in media.transports no port is needed"),
    };
    Fatal::new(exit::CANNOT_CREATE, what, remedy)
}

/// `media.nat_ips` where they are set; else the address that is bound, or all that this machine has.
fn advertised(bound: IpAddr, nat_ips: &[IpAddr]) -> Vec<IpAddr> {
    if !nat_ips.is_empty() {
        return nat_ips.to_vec();
    }
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let mut all = interfaces();
    all.retain(|ip| match ip {
        IpAddr::V4(_) => true,
        // Link-local addresses mean nothing without the name of their link.
        IpAddr::V6(v6) => bound.is_ipv6() && !v6.is_unicast_link_local(),
    });
    all.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6(), *ip));
    all.dedup();
    all
}

fn interfaces() -> Vec<IpAddr> {
    let found = webrtc::util::ifaces::ifaces().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's addresses cannot be listed; only 127.0.0.1 is used");
        Vec::new()
    });
    let mut addresses: Vec<IpAddr> = found.into_iter().filter_map(|one| Some(one.addr?.ip())).collect();
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_replace_those_of_the_machine() {
        let given = ["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(advertised(Ipv4Addr::UNSPECIFIED.into(), &given), given);
    }

    #[test]
    fn a_bound_address_is_the_only_one_and_loopback_comes_last() {
        let bound = "127.0.0.1".parse().unwrap();
        assert_eq!(advertised(bound, &[]), [bound]);
        let all = advertised(Ipv6Addr::UNSPECIFIED.into(), &[]);
        assert!(all.last().is_some_and(IpAddr::is_loopback), "{all:?}");
        assert!(
            !advertised(Ipv4Addr::UNSPECIFIED.into(), &[])
                .iter()
                .any(IpAddr::is_ipv6)
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_an_error_that_names_the_setting() {
        let (_taken, bound) = bind(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        let error = bind(bound.ip(), bound.port()).unwrap_err();
        let fatal = refused(bound.ip(), bound.port(), &error);
        assert_eq!(fatal.status, exit::CANNOT_CREATE);
        assert!(fatal.remedy.contains("VOXRAY_MEDIA_UDP_PORT"), "{fatal}");
    }
}
