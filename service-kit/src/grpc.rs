//! Between services: listeners and channels of internal gRPC, and the `service_token` on every call.

mod tls;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

use crate::config::Secret;
use crate::exit::{CANNOT_CREATE, CONFIG, Fatal};
use crate::http::bind_address;

pub use tls::PeerTls;

/// A peer that does not take the connection within this time is treated as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of HTTP/2 pings, also when no call is open: a peer that vanished is noticed by the next one.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Time in which a ping must be answered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Binds an internal gRPC listener. `setting` names the key that changes the port. Returns the bound address (the port
/// may have been 0) and the stream for `serve_with_incoming`.
///
/// # Errors
/// Exit status 73 with what to do when the port is taken or not allowed.
pub fn bind(host: IpAddr, port: u16, setting: &str) -> Result<(SocketAddr, TcpIncoming), Fatal> {
    let listener = bind_address(SocketAddr::new(host, port), setting)?;
    let usable = || {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok((address, TcpListener::from_std(listener)?))
    };
    let (address, listener) = usable().map_err(|error: std::io::Error| {
        Fatal::new(
            CANNOT_CREATE,
            format!("cannot use the gRPC listener: {error}"),
            "start the service again",
        )
    })?;
    Ok((address, TcpIncoming::from(listener).with_nodelay(Some(true))))
}

/// A channel to another service (`http://host:port`) that connects when it is first used, and again after a loss.
/// `setting` names the key that holds the URL.
///
/// # Errors
/// Exit status 64 when the URL cannot be used.
pub fn connect_lazily(url: &str, setting: &str, tls: &PeerTls) -> Result<Channel, Fatal> {
    let endpoint = tls.endpoint(url).map_err(|error| {
        let what = format!("{setting}: {url:?} cannot be used: {error}");
        Fatal::new(CONFIG, what, format!("set {setting} to http://host:port"))
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// Adds `authorization: Bearer <service_token>` to every request of a client.
#[derive(Clone)]
pub struct AttachToken(Option<MetadataValue<Ascii>>);

impl AttachToken {
    /// For this token; an empty one attaches nothing.
    pub fn new(token: &Secret) -> Self {
        Self(
            format!("Bearer {}", token.expose())
                .parse()
                .ok()
                .filter(|_| !token.is_empty()),
        )
    }
}

impl Interceptor for AttachToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Refuses requests without the right `service_token` with `UNAUTHENTICATED`.
#[derive(Clone)]
pub struct RequireToken(Secret);

impl RequireToken {
    /// For this token.
    pub fn new(token: &Secret) -> Self {
        Self(token.clone())
    }
}

impl Interceptor for RequireToken {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        use subtle::ConstantTimeEq;
        let expected = format!("Bearer {}", self.0.expose());
        let given = request
            .metadata()
            .get("authorization")
            .map(|v| v.as_bytes())
            .unwrap_or_default();
        if bool::from(given.ct_eq(expected.as_bytes())) {
            Ok(request)
        } else {
            Err(Status::unauthenticated(
                "service_token missing or wrong: all services need the same one",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn called_with(sent: &Secret, expected: &Secret) -> Result<Request<()>, Status> {
        let request = AttachToken::new(sent).call(Request::new(()))?;
        RequireToken::new(expected).call(request)
    }

    #[test]
    fn the_same_token_on_both_sides_is_let_through() {
        let token = Secret::new("one secret");
        assert!(called_with(&token, &token).is_ok());
    }

    #[test]
    fn another_token_or_none_is_refused() {
        let expected = Secret::new("one secret");
        for sent in [Secret::new("another"), Secret::new("one secret "), Secret::default()] {
            let refused = called_with(&sent, &expected).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        }
    }

    #[tokio::test]
    async fn a_taken_port_says_which_setting_to_change() {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (address, _incoming) = bind(host, 0, "media.control_port").unwrap();
        let Err(refused) = bind(host, address.port(), "media.control_port") else {
            panic!("the same port was bound twice");
        };
        assert_eq!(refused.status, CANNOT_CREATE);
        assert!(refused.remedy.contains("media.control_port"), "{refused}");
    }

    #[tokio::test]
    async fn a_channel_needs_a_url_but_not_a_peer() {
        assert!(connect_lazily("http://127.0.0.1:1", "archiver_url", &PeerTls::default()).is_ok());
        let refused = connect_lazily("not a url", "archiver_url", &PeerTls::default()).unwrap_err();
        assert_eq!(refused.status, CONFIG);
    }
}
