//! Mutual TLS between services.

use std::path::Path;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

use crate::config::Links;
use crate::exit::{Fatal, NO_INPUT};

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

    /// A server that lets only peers with a certificate of the authority in.
    ///
    /// # Errors
    /// Exit status 66 when the certificate and its key do not work together.
    pub fn server(&self) -> Result<Server, Fatal> {
        let Some(certificates) = &self.0 else {
            return Ok(Server::builder());
        };
        let config = ServerTlsConfig::new()
            .identity(certificates.own.clone())
            .client_ca_root(certificates.authority.clone());
        Server::builder().tls_config(config).map_err(|error| {
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
    /// It is no URL, or the certificate cannot be used.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(url.to_owned())?;
        match &self.0 {
            None => Ok(endpoint),
            Some(certificates) => endpoint.tls_config(
                ClientTlsConfig::new()
                    .identity(certificates.own.clone())
                    .ca_certificate(certificates.authority.clone()),
            ),
        }
    }
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
