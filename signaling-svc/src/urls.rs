//! URLs as the outside world sees them.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Uri};
use service_kit::config::Config;
use service_kit::networks::Networks;
use session_store::NodeRecord;

/// Base of the sockets of `node`, `ws://` or `wss://`, without a slash at the end: `media_public_url` with `{node}`
/// filled in, else the public host name, else what the node says about itself.
pub fn media_base(config: &Config, node: &NodeRecord) -> String {
    let telephony = &config.telephony;
    let base = match (&telephony.media_public_url, &telephony.proxy_host) {
        (Some(url), _) => url.replace("{node}", &node.node_id),
        (None, Some(host)) => format!("wss://{}", host_only(host)),
        (None, None) => node.public_url.clone(),
    };
    let base = base.trim_end_matches('/');
    match base.split_once("://") {
        Some(("http" | "ws", rest)) => format!("ws://{rest}"),
        Some((_, rest)) => format!("wss://{rest}"),
        None => format!("ws://{base}"),
    }
}

/// The URL that a client of this server used, as far as it can be known.
pub fn public_url(config: &Config, peer: Option<IpAddr>, headers: &HeaderMap, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let own_host = uri.authority().map(|authority| authority.as_str());
    format!("{}{path}", public_base(config, peer, headers, own_host))
}

/// Scheme and host under which clients reach this server: from `proxy_host`, from the headers of a trusted proxy, or
/// from the request itself.
pub fn public_base(config: &Config, peer: Option<IpAddr>, headers: &HeaderMap, own_host: Option<&str>) -> String {
    if let Some(host) = &config.telephony.proxy_host {
        return format!("https://{}", host_only(host));
    }
    let trusted = peer.is_some_and(|peer| config.http.trusted_proxies.contains(peer));
    let forwarded = |name| Some(name).filter(|_| trusted).and_then(|name| first(headers, name));
    let host = forwarded("x-forwarded-host")
        .or_else(|| first(headers, HOST.as_str()))
        .or(own_host)
        .unwrap_or("localhost");
    let own = if config.http.tls.is_some() { "https" } else { "http" };
    let scheme = forwarded("x-forwarded-proto").unwrap_or(own);
    format!("{scheme}://{host}")
}

/// Scheme and host that a phone provider is told to call about a call of ours. `None` without `proxy_host`, except where
/// the request was made to this machine itself: any other host name in a request is its client's word, and whoever
/// answers there would tell the provider what to do with the call, at the operator's expense.
pub fn callback_base(config: &Config, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<String> {
    let base = public_base(config, peer, headers, None);
    (config.telephony.proxy_host.is_some() || is_this_machine(&base)).then_some(base)
}

fn is_this_machine(base: &str) -> bool {
    let authority = base.split_once("://").map_or(base, |(_, authority)| authority);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Address of the client: the peer, or what a trusted proxy says about it. Proxies append to the header, so the client
/// is the last address in it that is no trusted proxy; anything before that the client may have written itself.
pub fn client_address(proxies: &Networks, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer?;
    if !proxies.contains(peer) {
        return Some(peer);
    }
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = lines.iter().rev().filter_map(|line| line.to_str().ok());
    let mut hops = hops
        .flat_map(|line| line.rsplit(','))
        .map(|hop| hop.trim().parse::<IpAddr>());
    // Whatever stands before something unreadable is nobody's word.
    let client = hops.find(|hop| hop.as_ref().is_ok_and(|hop| !proxies.contains(*hop)) || hop.is_err());
    client.and_then(Result::ok).or(Some(peer))
}

/// The first value of a header that proxies append to.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let value = value.split(',').next()?.trim();
    (!value.is_empty()).then_some(value)
}

/// A host name that was given as a URL, without what makes it one.
fn host_only(host: &str) -> &str {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest);
    host.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_whom_the_trusted_proxies_saw_last() {
        let proxies: Networks = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        // peer, header, client
        let cases = [
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
            ("10.0.0.1", "1.1.1.1, junk", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
        ];
        for (peer, header, client) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", header.parse().unwrap());
            let found = client_address(&proxies, Some(peer.parse().unwrap()), &headers);
            assert_eq!(found, Some(client.parse().unwrap()), "{peer} {header}");
        }
        assert_eq!(client_address(&proxies, None, &HeaderMap::new()), None);
    }

    #[test]
    fn this_machine_is_called_by_its_own_names_only() {
        for own in [
            "http://localhost",
            "http://localhost:8080",
            "http://127.0.0.1:80",
            "https://[::1]:8443",
            "http://[::1]",
        ] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in [
            "http://voice.example.com",
            "http://localhost.example.com",
            "http://localhost@evil.example",
            "http://localhost:80@evil.example",
            "http://127.0.0.1.evil.example:80",
            "http://localhost/@evil.example",
            "http://10.0.0.1",
            "http://",
        ] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
