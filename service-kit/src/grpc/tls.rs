//! Mutual TLS between services.

use std::path::Path;
use std::time::Duration;

use http::uri::Scheme;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::config::Links;
use crate::exit::{Fatal, NO_INPUT};

/// Requests that a peer may have open at a time on one connection. A media node has one, a signaling service one for
/// every request that it answers in this moment.
pub(super) const MAX_STREAMS: u32 = 1024;

/// A peer whose machine vanished is noticed within this and the next.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Time in which a peer must answer a ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How a service proves itself to its peers and checks them: both sides show a certificate of the same authority.
/// The default is plain HTTP/2, where the `service_token` alone has to do.
#[derive(Clone, Default)]
pub struct PeerTls(Option<Certificates>);

#[derive(Clone)]
struct Certificates {
    own: Identity,
    authority: Certificate,
}

impl PeerTls {
    /// Reads the files. A renewed certificate is used from the next start on.
    ///
    /// # Errors
    /// Exit status 66 when a file cannot be read.
    pub fn load(links: &Links) -> Result<Self, Fatal> {
        let Some(files) = &links.tls else {
            return Ok(Self::default());
        };
        let own = Identity::from_pem(read(&files.cert_file)?, read(&files.key_file)?);
        let authority = Certificate::from_pem(read(&files.ca_file)?);
        Ok(Self(Some(Certificates { own, authority })))
    }

    /// A server that lets only peers with a certificate of the authority in, each with so many requests at a time. For
    /// what comes from [`incoming`](super::incoming).
    ///
    /// # Errors
    /// Exit status 66 when the certificate and its key do not work together.
    pub fn server(&self) -> Result<Server, Fatal> {
        let Some(certificates) = &self.0 else {
            return Ok(limited());
        };
        let config = ServerTlsConfig::new()
            .identity(certificates.own.clone())
            .client_ca_root(certificates.authority.clone());
        limited().tls_config(config).map_err(|error| {
            Fatal::new(
                NO_INPUT,
                format!("cannot use the certificate for internal gRPC: {error:?}"),
                "check internal_tls.cert_file, .key_file and .ca_file: PEM, and made for each other",
            )
        })
    }

    /// Where a peer is. The host in the URL has to be one of the names in its certificate.
    ///
    /// # Errors
    /// It is no URL, or the certificate cannot be used; or the URL is not `https`, where peers have to show one: such a
    /// peer would be told the `service_token` whoever it is.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, NotReachable> {
        let endpoint = Endpoint::from_shared(url.to_owned())?;
        match &self.0 {
            None => Ok(endpoint),
            Some(_) if endpoint.uri().scheme() != Some(&Scheme::HTTPS) => Err(NotReachable::NotTls),
            Some(certificates) => Ok(endpoint.tls_config(
                ClientTlsConfig::new()
                    .identity(certificates.own.clone())
                    .ca_certificate(certificates.authority.clone()),
            )?),
        }
    }
}

/// Why a peer is not spoken to.
#[derive(Debug, thiserror::Error)]
pub enum NotReachable {
    /// Nothing that can be connected to.
    #[error(transparent)]
    Unusable(#[from] tonic::transport::Error),
    /// It would not have to show a certificate.
    #[error("with internal_tls it must begin with https://")]
    NotTls,
}

fn limited() -> Server {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

fn read(file: &Path) -> Result<Vec<u8>, Fatal> {
    std::fs::read(file).map_err(|error| {
        Fatal::new(
            NO_INPUT,
            format!("cannot read {}: {error}", file.display()),
            "check the internal_tls files",
        )
    })
}
