//! Between services: listeners and channels of internal gRPC, and the `service_token` on every call.

mod incoming;
mod tls;

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::config::Secret;
use crate::exit::{CONFIG, Fatal};

pub use incoming::{Incoming, Known, PeerConnection, incoming};
pub use tls::{NotReachable, PeerTls};

/// A peer that does not take the connection within this time is treated as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of HTTP/2 pings, also when no call is open: a peer that vanished is noticed by the next one.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Time in which a ping must be answered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of one answer that may wait for whoever asked to read them.
const ANSWER_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of all answers on a connection that may wait: of as many as a peer lets us ask for at a time. Were it fewer,
/// those who do not read a few answers would hold up all the others.
const CONNECTION_WINDOW_BYTES: u32 = ANSWER_WINDOW_BYTES * tls::MAX_STREAMS;

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
        .initial_stream_window_size(ANSWER_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
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

/// Refuses requests without the right `service_token` with `UNAUTHENTICATED`. The connection of one that has it may stay.
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
            if let Some(peer) = request.extensions().get::<Known>() {
                peer.set();
            }
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
    async fn a_channel_needs_a_url_but_not_a_peer() {
        assert!(connect_lazily("http://127.0.0.1:1", "archiver_url", &PeerTls::default()).is_ok());
        let refused = connect_lazily("not a url", "archiver_url", &PeerTls::default()).unwrap_err();
        assert_eq!(refused.status, CONFIG);
    }
}
