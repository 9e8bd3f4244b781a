//! Where a process listens: address, port and TLS for everybody, and a port for its operators.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::sources::Merged;
use super::{Http, Tls, connections};
use crate::networks::{Network, Networks};

/// Makes the listeners' part; problems go to `merged`.
pub(super) fn build(merged: &mut Merged) -> Http {
    let tls = tls(merged);
    let host = host(merged, "host").unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let admin = admin(merged, host);
    let trusted_proxies = trusted_proxies(merged);
    let v = &merged.values;
    Http {
        host,
        port: v.number("port"),
        admin,
        tls,
        cors_allowed_origins: v.list("cors_allowed_origins"),
        max_request_body_bytes: v.number("max_request_body_bytes"),
        connections: connections::limits(v),
        trusted_proxies,
    }
}

fn host(merged: &mut Merged, key: &str) -> Option<IpAddr> {
    let text = merged.values.text(key)?;
    if text == "localhost" {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let address = text.trim_matches(['[', ']']).parse().ok();
    if address.is_none() {
        merged.problem(
            key,
            format!("{text:?} is not an IP address; allowed: an IP address or localhost"),
        );
    }
    address
}

fn trusted_proxies(merged: &mut Merged) -> Networks {
    const KEY: &str = "telephony.trusted_proxies";
    let entries = merged.values.list(KEY);
    let networks = entries.iter().filter_map(|entry| {
        let network = entry.parse::<Network>();
        if let Err(error) = &network {
            merged.problem(KEY, format!("{entry:?} is {error}"));
        }
        network.ok()
    });
    networks.collect()
}

/// The operators' listener; without a port of its own there is none.
fn admin(merged: &mut Merged, public: IpAddr) -> Option<SocketAddr> {
    let host = host(merged, "admin.host").unwrap_or(public);
    if !merged.values.is_set("admin.port") {
        if merged.values.is_set("admin.host") && !merged.is_broken("admin.port") {
            merged.problem("admin.host", "does nothing without admin.port: set both");
        }
        return None;
    }
    let port: u16 = merged.values.number("admin.port");
    if port != 0 && port == merged.values.number::<u16>("port") {
        merged.problem(
            "admin.port",
            format!("{port} is the public port; give operators another one"),
        );
    }
    Some(SocketAddr::new(host, port))
}

fn tls(merged: &mut Merged) -> Option<Tls> {
    if !merged.values.flag("tls_enable") {
        return None;
    }
    for key in ["tls_cert_file", "tls_key_file"] {
        match merged.values.text(key) {
            None if merged.is_broken(key) => {}
            None => merged.problem(key, "needed because tls_enable is true"),
            Some(path) if !PathBuf::from(&path).is_file() => merged.problem(key, format!("{path:?} is not a file")),
            Some(_) => {}
        }
    }
    Some(Tls {
        cert_file: merged.values.path("tls_cert_file"),
        key_file: merged.values.path("tls_key_file"),
    })
}
