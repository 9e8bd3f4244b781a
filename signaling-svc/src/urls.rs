//! URLs as the outside world sees them.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, Uri};
use service_kit::config::Config;
use session_store::NodeRecord;

use crate::proxies::TrustedProxies;

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

/// The URL that a client of this server used, as far as it can be known: from `proxy_host`, from the headers of a
/// trusted proxy, or from the request itself.
pub fn public_url(
    config: &Config,
    proxies: &TrustedProxies,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    uri: &Uri,
) -> String {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if let Some(host) = &config.telephony.proxy_host {
        return format!("https://{}{path}", host_only(host));
    }
    let trusted = peer.is_some_and(|peer| proxies.contains(peer));
    let forwarded = |name| Some(name).filter(|_| trusted).and_then(|name| first(headers, name));
    let host = forwarded("x-forwarded-host")
        .or_else(|| first(headers, HOST.as_str()))
        .or_else(|| uri.authority().map(|authority| authority.as_str()))
        .unwrap_or("localhost");
    let own = if config.http.tls.is_some() { "https" } else { "http" };
    let scheme = forwarded("x-forwarded-proto").unwrap_or(own);
    format!("{scheme}://{host}{path}")
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
